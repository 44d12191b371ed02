"""The process in which atoll.doctor tries to import the modules of a package.

``python -m atoll._doctor.child IN OUT``: IN is a descriptor with what to do, OUT
is the writing end of a pipe; both are JSON, OUT one object a line. A line that
begins a step is written before the step, so whoever reads knows what it was that
never came to an end. What the package prints goes elsewhere.

IN:   {"path": sys.path, "limit": seconds, "work": [[mode, [name, ...]], ...],
       "failed": {mode: [name, ...]}}
OUT:  {"begin": step, "mode": mode, "name": name}
      {"end": step, "mode": mode, "name": name, "error": null or str}
step: "create", "import", "close"; at last "exit", which is only begun.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

#: What a module is imported in, and in which of them it has to have worked.
MODES = {"main": (), "strict": ("main",), "isolated": ("main",), "both": ("main", "isolated")}

#: Seconds that an interpreter's threads get when it is closed.
CLOSING = 10.0


def attempt(name: str) -> str | None:
    """Import a module here. Returns why that failed (str), or None."""
    try:
        __import__(name)
    except BaseException as exc:
        return describe(exc)
    return None


def describe(exc: BaseException) -> str:
    """The exception that led to this one, in a line (str)."""
    for _ in range(100):  # a chain may be a circle
        if exc.__cause__ is None:
            break
        exc = exc.__cause__
    try:
        lines = str(exc).split("\n")
    except Exception:
        lines = ["<its text cannot be had>"]
    first = next((line.strip() for line in lines if line.strip()), "")
    kind = type(exc).__name__
    return (f"{kind}: {first}" if first else kind)[:2000]


def below(name: str, failed: set[str]) -> bool:
    """Has the module, or a package it is in, failed already?"""
    while name:
        if name in failed:
            return True
        name = name.rpartition(".")[0]
    return False


class _Reporter:
    def __init__(self, fd: int, limit: float) -> None:
        self._fd = fd
        self._limit = limit

    def write(self, **what: object) -> None:
        import json
        import os

        try:
            os.write(self._fd, json.dumps(what).encode() + b"\n")
        except OSError:
            os._exit(70)  # nobody is there any more to tell

    def step(
        self, step: str, mode: str, name: str, function: Callable[[], str | None]
    ) -> str | None:
        import faulthandler

        # Whoever started this ends it when its time is over; but may be dead.
        faulthandler.dump_traceback_later(self._limit + 15, exit=True)
        self.write(begin=step, mode=mode, name=name)
        try:
            error = function()
        except BaseException as exc:  # of atoll's: no module raises here
            error = describe(exc)
        self.write(end=step, mode=mode, name=name, error=error)
        return error


def _run_mode(
    report: _Reporter, mode: str, names: list[str], failed: dict[str, set[str]]
) -> None:
    import atoll

    interpreters: list[atoll.Interpreter] = []

    def create() -> None:
        extensions: Any = "strict" if mode == "strict" else "isolate"
        for _ in range(2 if mode == "both" else 1):
            interpreters.append(atoll.create(f"doctor-{mode}", extensions=extensions))

    def close() -> None:
        for interpreter in interpreters:
            interpreter.close(CLOSING)

    if mode != "main" and report.step("create", mode, "", create) is not None:
        return
    skip = set(failed.setdefault(mode, set()))
    for before in MODES[mode]:
        skip |= failed.setdefault(before, set())
    for name in names:
        if below(name, skip):
            continue

        def work(name: str = name) -> str | None:
            return _together(interpreters, name) if interpreters else attempt(name)

        if report.step("import", mode, name, work) is not None:
            skip.add(name)
            failed[mode].add(name)
    if mode != "main":
        report.step("close", mode, "", close)


def _together(interpreters: list[Any], name: str) -> str | None:
    """Import it in all of these at the same time."""
    from threading import Thread

    errors: list[str | None] = [None] * len(interpreters)

    def work(i: int) -> None:
        try:
            errors[i] = interpreters[i].call(attempt, name)
        except BaseException as exc:
            errors[i] = describe(exc)

    if len(interpreters) == 1:
        work(0)
    else:
        threads = [Thread(target=work, args=(i,)) for i in range(len(interpreters))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return next((error for error in errors if error is not None), None)


def main() -> None:
    """Do what the command line says."""
    import json
    import os

    request, reply = map(int, sys.argv[1:])
    os.set_inheritable(reply, False)
    with open(request, encoding="utf-8") as file:
        todo = json.load(file)
    sys.argv[1:] = []
    sys.path[:] = todo["path"]
    report = _Reporter(reply, todo["limit"])
    failed = {mode: set(names) for mode, names in todo["failed"].items()}
    for mode, names in todo["work"]:
        _run_mode(report, mode, names, failed)
    report.write(begin="exit", mode="", name="")


if __name__ == "__main__":
    # The functions that other interpreters call are then those of a module.
    from atoll._doctor import child

    child.main()
