"""Running the children of atoll.doctor: one for each package, several at a time.

One thread, which sleeps until a child says something, ends, or takes too long.
Children are sessions of their own: a Ctrl-C does not reach them, and what they
have started ends with them.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time

from .diagnosis import Diagnosis, Progress
from .trial import Trial

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from .find import Package

# Of what a child has printed, only the end is of interest.
_OUTPUT = 256 * 1024


def run(
    packages: Sequence[Package],
    timeout: float,
    jobs: int,
    progress: Callable[[Progress], object] | None,
) -> list[Diagnosis]:
    """Diagnose `packages`, `jobs` at a time. See atoll.doctor for the rest."""
    waiting = list(reversed(packages))
    done: dict[str, Diagnosis] = {}
    running: list[_Child] = []

    def tell(trial: Trial, diagnosis: Diagnosis | None = None) -> None:
        if progress is not None:
            name = trial.package.name
            progress(Progress(name, trial.doing, len(done), len(packages), diagnosis))

    def start(trial: Trial) -> None:
        work = trial.work()
        if work is not None:
            running.append(_Child(trial, work, timeout, selector, tell))
        else:
            finish(trial)

    def finish(trial: Trial) -> None:
        diagnosis = done[trial.package.name] = trial.diagnosis()
        tell(trial, diagnosis)

    with selectors.DefaultSelector() as selector:
        try:
            while waiting or running:
                while waiting and len(running) < jobs:
                    start(Trial(waiting.pop()))
                now = time.monotonic()
                until = min((child.deadline for child in running), default=now)
                for key, _ in selector.select(max(0.0, until - now)):
                    key.data()
                for child in [child for child in running if child.ended()]:
                    unfinished = child.end()
                    running.remove(child)
                    if unfinished:
                        start(child.trial)
                    else:
                        finish(child.trial)
        finally:
            for child in running:
                child.kill()
                child.close()
    return [done[package.name] for package in packages]


def _options() -> list[str]:
    """The options of this Python's that decide what a child can import."""
    flags = sys.flags
    options = [
        option
        for option, given in (
            ("-I", flags.isolated),
            ("-E", flags.ignore_environment),
            ("-s", flags.no_user_site),
            ("-P", flags.safe_path),
        )
        if given
    ]
    return [*options, "-X", "faulthandler"]


class _Child:
    """A process that works at a Trial."""

    def __init__(
        self,
        trial: Trial,
        work: dict[str, Any],
        timeout: float,
        selector: selectors.BaseSelector,
        tell: Callable[[Trial], None],
    ) -> None:
        self.trial = trial
        self._tell = tell
        self._timeout = timeout
        self._selector = selector
        self._dead = self._late = False
        self._rest = b""
        work = {**work, "path": sys.path, "limit": timeout}
        # A file takes any amount of output, and nobody has to read it meanwhile.
        self._output = tempfile.TemporaryFile()
        self._pipe, writer = os.pipe()
        try:
            os.set_blocking(self._pipe, False)
            with tempfile.TemporaryFile() as request:
                request.write(json.dumps(work).encode())
                request.seek(0)
                self._process = subprocess.Popen(
                    [sys.executable, *_options(), "-m", "atoll._doctor.child",
                     str(request.fileno()), str(writer)],
                    stdin=subprocess.DEVNULL,
                    stdout=self._output,
                    stderr=self._output,
                    pass_fds=(request.fileno(), writer),
                    start_new_session=True,
                )  # fmt: skip
        except BaseException:
            self._output.close()
            os.close(self._pipe)
            raise
        finally:
            os.close(writer)
        self.deadline = time.monotonic() + timeout
        self._pidfd = os.pidfd_open(self._process.pid)
        selector.register(self._pipe, selectors.EVENT_READ, self._read)
        selector.register(self._pidfd, selectors.EVENT_READ, self._note_end)

    def _note_end(self) -> None:
        self._dead = True

    def _read(self) -> bool:
        """Take what has arrived. Returns whether there may be more."""
        try:
            data = os.read(self._pipe, 65536)
        except BlockingIOError:
            return False
        if not data:
            if self._pipe in self._selector.get_map():
                self._selector.unregister(self._pipe)
            return False
        self.deadline = time.monotonic() + self._timeout
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            news = json.loads(line)
            self.trial.feed(news)
            if "begin" in news:
                self._tell(self.trial)
        return True

    def ended(self) -> bool:
        """Has it ended, or has its time?"""
        self._late = not self._dead and time.monotonic() >= self.deadline
        return self._dead or self._late

    def end(self) -> bool:
        """Take its end. Returns whether its trial has to go on."""
        status = self.kill()
        while self._read():
            pass
        size = self._output.seek(0, os.SEEK_END)
        self._output.seek(max(0, size - _OUTPUT))
        output = self._output.read().decode(errors="replace")
        self.close()
        return self.trial.died(status, output, self._timeout if self._late else None)

    def kill(self) -> int:
        """End it, if it has not, and all that it has started. Its status."""
        if self._process.returncode is None:
            try:
                # Before it is waited for: then its id may be somebody else's.
                os.killpg(self._process.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                pass  # nobody of it is left
        return self._process.wait()

    def close(self) -> None:
        """Give back what it used here. It has ended."""
        if self._output.closed:
            return
        self._output.close()
        for fd in (self._pipe, self._pidfd):
            if fd in self._selector.get_map():
                self._selector.unregister(fd)
            os.close(fd)
