"""The workers: interpreters with a pytest session each, and the threads that wait for
them."""

from __future__ import annotations

import sys
import threading
from types import SimpleNamespace
from uuid import uuid4

import atoll

from .worker import work

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Seconds that a worker may take to end when it is told to.
_PATIENCE = 5.0


class Worker:
    """One of them, as main sees it.

    It has what plugins look at in xdist's nodes: `gateway`, `nodemanager`, `workerinput`,
    `workerinfo`, `workeroutput`, `config`.
    """

    def __init__(self, team: Team, number: int) -> None:
        self.number = number
        self.id = f"atoll-{number}"
        about = SimpleNamespace(platform=sys.platform, version_info=sys.version_info)
        self.gateway = SimpleNamespace(id=self.id, _rinfo=lambda: about)
        self.nodemanager = SimpleNamespace(roots=[])
        self.config: Any = None
        self.workerinput: dict[str, Any] = {
            "workerid": self.id,
            "workercount": team.count,
            "testrunuid": team.uid,
            "mainargv": list(sys.argv),
        }
        self.workeroutput: dict[str, Any] = {}
        self.workerinfo = {
            "id": self.id,
            "sysplatform": sys.platform,
            "version_info": tuple(sys.version_info),
            "executable": sys.executable,
        }
        self.begun = False  # has main's session told it to collect?
        self.collected = False
        self.given_up = False  # nobody waits for it
        self.running: int | None = None  # the number of the test that it runs
        self.jobs = atoll.create_queue()
        self._team = team
        self._interp = atoll.create(self.id)
        self.thread = threading.Thread(target=self._host, name=self.id, daemon=True)
        self.thread.start()

    def __repr__(self) -> str:
        return f"<Worker {self.id}>"

    def _host(self) -> None:
        """In a thread: the interpreter's life. That its session has ended is told first,
        since to close it takes some time."""
        team = self._team
        try:
            queues = self.jobs, team.events
            error = self._interp.call(
                work, self.number, team.args, self.workerinput, *queues, team.stop
            )
        except BaseException as exc:
            error = f"{type(exc).__name__}: {exc}"
        team.events.put((self.number, "ended", error))
        try:
            self._interp.close(_PATIENCE)
        except atoll.InterpreterError as exc:
            print(f"{self.id} cannot be closed: {exc}", file=sys.stderr)

    def interrupt(self) -> None:
        """Raise KeyboardInterrupt there, if anything runs."""
        try:
            self._interp.interrupt()
        except atoll.InterpreterError:
            pass


class Team:
    """All of them, and where they report to.

    Args:
      args (list of str): the arguments of main's session, and of theirs.
      count (int): how many there are to be.
    """

    def __init__(self, args: list[str], count: int) -> None:
        self.args = args
        self.count = count
        self.uid = uuid4().hex
        self.events = atoll.create_queue()
        self.stop = atoll.Event()
        self.workers: list[Worker] = []

    def start(self, count: int) -> None:
        """Start more of them, until there are `count`."""
        while len(self.workers) < count:
            self.workers.append(Worker(self, len(self.workers) + 1))

    def __getitem__(self, number: int) -> Worker:
        return self.workers[number - 1]

    def tell_to_stop(self) -> None:
        """Have each end after the test that it runs."""
        self.stop.set()
        for worker in self.workers:
            worker.jobs.put(None)

    def dismiss(self) -> None:
        """Tell them to stop, and wait until they are closed. Those that take too long are
        interrupted, and then left to themselves."""
        self.tell_to_stop()
        workers = [worker for worker in self.workers if not worker.given_up]
        for worker in workers:
            worker.thread.join(_PATIENCE)
        for worker in workers:
            if worker.thread.is_alive():
                worker.interrupt()
                worker.thread.join(_PATIENCE)
