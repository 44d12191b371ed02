"""A file that says what tests have done, written by a child that may crash.

Each line is "start NAME" or "OUTCOME NAME", for an outcome that is bad with a tab and the
reason after that. What is written is in the file at once. The parent reads it, and starts
the child again without the tests that are done when a test has crashed or hangs.
"""

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable

#: Outcomes, from the best to the worst.
OUTCOMES = ("passed", "xfailed", "skipped", "missing", "xpassed", "failed", "hung", "crashed")
GOOD = ("passed", "xfailed")
MOST_CRASHES = 30
#: Written by a child that has run all tests.
ALL = "(all)"
#: What happens after that counts as a test.
END = "(the end)"


def name_of(id: str) -> str:
    """A name that is the same in each run, on one line."""
    return re.sub(r"0x[0-9a-f]{6,}", "0x", id).encode("unicode_escape").decode()


class Record:
    """Writes the file. Tests that are in it already are `done`."""

    def __init__(self, path: str) -> None:
        self.done = set()
        with contextlib.suppress(FileNotFoundError), open(path) as file:
            for line in file:
                self.done.add(line.rstrip("\n").partition(" ")[2].partition("\t")[0])
        # Python's own file object would count as one that a test has leaked.
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def start(self, name: str) -> None:
        self._write(f"start {name}\n")

    def end(self, name: str, outcome: str, why: str = "") -> None:
        why = why.encode("unicode_escape").decode()
        self._write(f"{outcome} {name}\t{why}\n" if why else f"{outcome} {name}\n")

    def _write(self, line: str) -> None:
        os.write(self._fd, line.encode())


def read(path: str) -> tuple[dict[str, str], dict[str, str], str | None]:
    """The outcomes so far, what was said of them, and the test that has not ended."""
    outcomes: dict[str, str] = {}
    reasons: dict[str, str] = {}
    running = None
    if os.path.exists(path):
        with open(path) as file:
            for line in file:
                kind, _, test = line.rstrip("\n").partition(" ")
                test, _, why = test.partition("\t")
                if kind == "start":
                    running = test
                else:
                    outcomes[test] = kind
                    running = None
                    if why:
                        reasons[test] = why
    return outcomes, reasons, running


def watch(child: subprocess.Popen[bytes], paths: list[str], patience: float) -> str:
    """Wait for a child; what is to be said of the test that it left unfinished."""
    seen, since = -1, time.monotonic()
    while True:
        try:
            status = child.wait(timeout=1)
        except subprocess.TimeoutExpired:
            size = sum(os.path.getsize(path) for path in paths if os.path.exists(path))
            if size != seen:
                seen, since = size, time.monotonic()
            elif time.monotonic() - since > patience:
                # faulthandler writes the stacks; what it cannot stop is killed.
                child.send_signal(signal.SIGABRT)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(timeout=5)
                child.kill()
                child.wait()
                return "hung"
        else:
            kind = "crashed with signal" if status < 0 else "ended with status"
            return f"{kind} {abs(status)}"


def run_recorded(
    command: list[str],
    paths: list[str],
    log: str,
    env: dict[str, str],
    patience: float,
    said: Callable[[str], None],
    cwd: str | None = None,
) -> None:
    """Run `command`, which records in `paths`, until no test is left.

    The child is started again when it crashes in a test, hangs in one, or is ended by one
    (says nothing of ALL). If it ends badly after all tests, the record has one more: END.
    """
    for path in (*paths, log):
        with contextlib.suppress(FileNotFoundError):
            os.remove(path)
    progress = -1
    for _ in range(MOST_CRASHES):
        with open(log, "ab") as output:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=env,
                cwd=cwd,
                process_group=0,
            )
            try:
                end = watch(child, paths, patience)
            finally:
                # What a test has left behind.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
                child.wait()
        before = progress
        progress = 0
        for path in paths:
            outcomes, _, running = read(path)
            progress += len(outcomes) - (ALL in outcomes)
            if running is not None:
                progress += 1
                Record(path).end(running, end if end == "hung" else "crashed", end)
                said(f"{end} in {running}")
        if all(ALL in read(path)[0] for path in paths):
            if end != "ended with status 0":
                Record(paths[0]).end(END, end if end == "hung" else "crashed", end)
                said(f"{end} after all tests")
            break
        if progress == before:
            Record(paths[0]).end(END, "crashed", f"{end} before all tests had run")
            said(f"{end} before all tests had run")
            break
        if all(read(path)[2] is None for path in paths):
            said(f"{end} after {progress} tests: goes on")
