"""What is known of one package: what was tried, what is left, the verdict.

Fed with the lines that child.py writes, and with the ends of such children.
"""

from __future__ import annotations

import os
import re
import signal

from .child import MODES, below
from .diagnosis import Diagnosis, ModuleDiagnosis

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .find import Extension, Package

#: After so many children of one package have died, the rest is not tried.
DEATHS = 20

_WORDS = {
    "create": "making an interpreter",
    "close": "closing the interpreter",
    "exit": "at the exit of the process",
}


class Trial:
    """A package on trial."""

    def __init__(self, package: Package) -> None:
        self.package = package
        self._tried: dict[str, dict[str, str | None]] = {mode: {} for mode in MODES}
        self._left = {mode: self._names() for mode in MODES}
        self._now = ("start", "", "")  # step, mode, name
        self._open = True  # that has begun, and not ended
        self._problems: list[str] = []
        self._notes: list[str] = []
        self._deaths = 0
        self._control = False
        self._exit_reason = ""

    def _names(self) -> list[str]:
        """All that is imported: each name after the packages that it is in."""
        names: dict[str, None] = {}
        for name in (*self.package.imports, *(e.name for e in self.package.extensions)):
            parts = name.split(".")
            for i in range(len(parts)):
                names[".".join(parts[: i + 1])] = None
        return list(names)

    @property
    def doing(self) -> str:
        """What is being done (str), for people."""
        step, mode, name = self._now
        if step == "import":
            return f"{mode}: {name}"
        return f"{mode}: {step}" if mode else step

    def work(self) -> dict[str, Any] | None:
        """What the next child is asked to do; None: nothing is left."""
        self._now, self._open = ("start", "", ""), True
        if self._control:
            names = [name for name, error in self._tried["main"].items() if error is None]
            return {"work": [["main", names]], "failed": {}}
        work = [[mode, names] for mode, names in self._left.items() if names]
        failed = {
            mode: [name for name, error in tried.items() if error is not None]
            for mode, tried in self._tried.items()
        }
        return {"work": work, "failed": failed} if work else None

    def feed(self, line: dict[str, Any]) -> None:
        """Take a line of the child's."""
        step: str = line["begin" if "begin" in line else "end"]
        mode: str = line["mode"]
        name: str = line["name"]
        self._now, self._open = (step, mode, name), "begin" in line
        if self._control:
            return
        if step == "exit":
            self._left = {mode: [] for mode in MODES}
        elif not self._open:
            self._finish(step, mode, name, line["error"])
        elif step == "close":
            self._left[mode] = []  # what has not been tried failed elsewhere

    def _finish(self, step: str, mode: str, name: str, error: str | None) -> None:
        if step == "import":
            self._tried[mode][name] = error
            if name in self._left[mode]:
                self._left[mode].remove(name)
        elif error is not None:
            if step == "create":
                self._left[mode] = []
                self._trouble(step, mode, error)
            else:
                # Threads of the package's: unlike a crash nothing is broken.
                self._notes.append(f"{mode}: {_WORDS[step]}: {error}")

    def _trouble(self, step: str, mode: str, reason: str) -> None:
        """A failure that is no module's. Nobody has to use strict interpreters."""
        where = self._notes if mode == "strict" else self._problems
        where.append(f"{mode or 'process'}: {_WORDS.get(step, step)}: {reason}")

    def died(self, status: int, output: str, limit: float | None) -> bool:
        """Take the end of the child. Is there more to do? (bool)

        Args:
          status (int): as subprocess gives it.
          output (str): what it and the package have printed.
          limit (float | None): it was killed since a step took so many seconds.

        Raises RuntimeError if the child could not even start.
        """
        step, mode, name = self._now
        if step == "start" and limit is None:
            last = (output.strip().splitlines() or [f"status {status}"])[-1]
            raise RuntimeError(f"the child process did not start: {last}")
        if step == "exit":
            return self._exited(None if status == 0 else how(status, output, limit))
        if self._control:
            return self._exited(how(status, output, limit))
        reason = how(status, output, limit)
        if step != "import":
            if mode:
                self._left[mode] = []
            self._trouble(step, mode, reason)
        else:
            self._finish(step, mode, name, reason if self._open else f"afterwards: {reason}")
        self._deaths += 1
        if self._deaths >= DEATHS or step == "start":
            self._problems.append(f"given up after {self._deaths} crashes or timeouts")
            self._left = {mode: [] for mode in MODES}
        return any(self._left.values())

    def _exited(self, reason: str | None) -> bool:
        """The child had done its work, and ended: well, or for that reason. If not
        well, is that so without interpreters too? Try."""
        if self._control:
            self._control = False
            if reason is None:
                self._problems.append(self._exit_reason)
            else:
                self._notes.append(f"{self._exit_reason} (without interpreters: {reason})")
        elif reason is not None:
            self._exit_reason = f"{_WORDS['exit']}: {reason}"
            self._control = True
        return self._control

    # ------------------------------------------------------------- the verdict

    def diagnosis(self) -> Diagnosis:
        """The verdict."""
        known = {e.name for e in self.package.extensions}
        top = (name for name in self.package.imports if name not in known)
        imports = tuple(self._module(name, None, False) for name in top)
        modules = tuple(self._module(e.name, e, e.test) for e in self.package.extensions)
        counted = [m for m in (*imports, *modules) if not m.test]
        failed = [m for m in counted if m.verdict == "fails"]
        working = [m for m in counted if m.verdict in ("native", "isolated")]
        reason = None
        if failed or self._problems:
            verdict = "fails"
            reason = self._problems[0] if self._problems else _cite(failed[0])
        elif working:
            native = all(m.verdict == "native" for m in working)
            verdict = "native" if native else "isolated"
        elif counted:
            verdict, reason = "main-fails", _cite(counted[0])
        else:
            verdict = "native"  # nothing to import
        return Diagnosis(
            name=self.package.name,
            version=self.package.version,
            verdict=verdict,
            reason=reason,
            imports=imports,
            modules=modules,
            notes=(*self._problems, *self._notes),
        )

    def _module(self, name: str, extension: Extension | None, test: bool) -> ModuleDiagnosis:
        tried: dict[str, str] = {}
        for mode in MODES:
            result = self._result(mode, name)
            if result is not None:
                tried[mode] = result
        reason = None
        if tried.get("main", "ok") != "ok":
            verdict, reason = "main-fails", tried["main"]
        elif tried.get("isolated") == tried.get("both") == "ok":
            verdict = "native" if tried.get("strict") == "ok" else "isolated"
        else:
            verdict = "fails"
            if tried.get("isolated", "ok") != "ok":
                reason = tried["isolated"]
            elif "both" in tried and tried["both"] != "ok":
                reason = f"in two interpreters at once: {tried['both']}"
            else:
                reason = "not tried"
        file = None if extension is None else extension.file
        return ModuleDiagnosis(name, file, test, verdict, reason, tried)

    def _result(self, mode: str, name: str) -> str | None:
        """'ok', or why not: the error of the outermost package that has one."""
        tried = self._tried[mode]
        failed = {each for each, error in tried.items() if error is not None}
        if not below(name, failed):
            return "ok" if name in tried else None
        culprit = min((each for each in failed if below(name, {each})), key=len)
        error = tried[culprit]
        return str(error) if culprit == name else f"{culprit}: {error}"


def _cite(module: ModuleDiagnosis) -> str:
    return f"{module.name}: {module.reason}"


# ------------------------------------------------------------- how a child died

_FRAME = re.compile(r'^  File "(?P<file>[^"]+)", line (?P<line>\d+) in (?P<name>.+)$')
_BINARY = re.compile(r'^  Binary file "(?P<file>[^"]+)"')
_MACHINERY = re.compile(r"^<frozen importlib|/atoll/_doctor/child\.py$")
_RUNTIME = re.compile(r"/(python[\d.]*|lib(c|pthread|python)[-.\d].*|ld-.*|_core\..*)$")


def how(status: int, output: str, limit: float | None) -> str:
    """What ended a process (str), in a line.

    Args: as Trial.died() has them.
    """
    if limit is not None:
        return f"timeout after {limit:g} s"
    if status >= 0:
        return f"it ended the process with status {status}"
    try:
        what = signal.Signals(-status).name
    except ValueError:
        what = f"signal {-status}"
    before, mark, dump = output.rpartition("Fatal Python error: ")
    if not mark:
        return what
    lines = dump.splitlines()
    said = (before.strip().splitlines() or [""])[-1]
    if what == "SIGABRT":
        # What the C library or C++ has said about it, or CPython itself.
        said = said if lines[0].startswith("Aborted") else lines[0]
        what += f" ({said[:300]})" if said else ""
    start = next((i for i, at in enumerate(lines) if at.startswith("Current thread")), 0)
    frames = [m for m in map(_FRAME.match, _block(lines, start)) if m is not None]
    # The machinery of imports says nothing about who it was.
    own = [m for m in frames if not _MACHINERY.search(m["file"])]
    start = next((i for i, at in enumerate(lines) if "C stack trace" in at), len(lines))
    stack = [m["file"] for m in map(_BINARY.match, _block(lines, start)) if m is not None]
    binary = next((file for file in stack if not _RUNTIME.search(file)), None)
    for match in own[:1] or ([] if binary else frames[:1]):
        what += f" at {match['file']}:{match['line']} in {match['name']}"
    return f"{what} in {os.path.normpath(binary)}" if binary else what


def _block(lines: list[str], start: int) -> list[str]:
    """The indented lines after lines[start]."""
    found: list[str] = []
    for line in lines[start + 1 :]:
        if not line.startswith("  "):
            break
        found.append(line)
    return found
