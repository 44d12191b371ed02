"""The plugin of main's session: hands out tests, and reports what workers report."""

from __future__ import annotations

import os
from difflib import unified_diff
from types import SimpleNamespace

import pytest

from .carry import plain, unpack_warning
from .schedule import Schedule, units
from .stray import Stray

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from .team import Team, Worker

#: So many lines of a difference between what two workers have collected are shown.
_MOST_LINES = 30
#: What pytest writes of arguments that it cannot use.
_USAGE = "ERROR: "


class WorkerFailed(Exception):
    """pytest itself has failed in a worker; its text is what it said there."""


class Controller:
    """Runs no test itself, but those that workers cannot run, and collects only these.

    Args:
      config: of main's session.
      team: the workers; some may be there already.
    """

    def __init__(self, config: pytest.Config, team: Team) -> None:
        self._config = config
        self._team = team
        self._count = team.count
        self._schedule: Schedule | None = None
        self._ids: list[str] = []  # what the first worker has collected
        self._first: Worker | None = None  # which one that was
        self._for_main: list[str] = []
        self._left: set[int] = set()  # the workers that have not ended
        self._stray = Stray(config)
        self._stopping = False
        self._error: BaseException | None = None  # to raise when they have ended

    # ----------------------------------------------------------------------- begin

    def pytest_report_header(self) -> str:
        return f"atoll: {self._count} interpreter{'s' if self._count != 1 else ''}"

    @pytest.hookimpl(trylast=True)
    def pytest_sessionstart(self) -> None:
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.showfspath = False  # they run the tests of several files
        self._begin(self._count)

    def _begin(self, count: int) -> None:
        """Tell workers to begin, and start more until there are `count` of them."""
        self._team.start(count)
        for worker in self._team.workers:
            if worker.begun:
                continue
            worker.begun = True
            self._left.add(worker.number)
            worker.config = self._config
            # pytest-randomly tells it to xdist's nodes only.
            seed = getattr(self._config.option, "randomly_seed", None)
            if seed is not None:
                worker.workerinput["randomly_seed"] = seed
            self._call("pytest_configure_node", node=worker)
            worker.jobs.put(self._setup(worker))

    def _setup(self, worker: Worker) -> dict[str, Any]:
        config = self._config
        factory = getattr(config, "_tmp_path_factory", None)
        reporter = config.pluginmanager.get_plugin("terminalreporter")
        writer = getattr(reporter, "_tw", None)
        return {
            "basetemp": None if factory is None else str(factory.getbasetemp() / worker.id),
            "markup": bool(getattr(writer, "hasmarkup", False)),
            "workerinput": plain(worker.workerinput),
        }

    def _call(self, name: str, **arguments: object) -> None:
        """Call a hook of xdist's, if any plugin knows it."""
        hook = getattr(self._config.hook, name, None)
        if hook is not None:
            hook(**arguments)

    @pytest.hookimpl
    def pytest_collection(self) -> bool:
        return True  # the workers do it

    # ------------------------------------------------------------------------ loop

    @pytest.hookimpl
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        with self._stray:
            while self._left:
                self._handle(session, *self._team.events.get())
                if self._is_done() and not self._stopping:
                    self._stop()
                    self._interrupt()
        if isinstance(self._error, session.Failed):
            session.shouldfail = str(self._error)  # without what has failed meanwhile
        if self._error is not None:
            raise self._error
        if self._for_main:
            self._run_here(session)
        return True

    def _handle(self, session: pytest.Session, number: int, what: str, data: Any) -> None:
        if number not in self._left:
            return  # it has been given up
        getattr(self, f"_on_{what}")(session, self._team[number], data)
        if self._error is None:
            self._error = _reason(session)
        if self._error is not None:
            self._stop()

    def _is_done(self) -> bool:
        """All tests have been run, and who is left has had none, being late."""
        return (
            self._schedule is not None
            and self._schedule.is_done()
            and bool(self._left)
            and not any(self._team[number].collected for number in self._left)
        )

    def _stop(self) -> None:
        if not self._stopping:
            self._stopping = True
            self._team.tell_to_stop()

    def _interrupt(self) -> None:
        for number in self._left:
            self._team[number].interrupt()

    def _feed(self, worker: Worker) -> None:
        assert self._schedule is not None
        late = sum(not self._team[number].collected for number in self._left)
        worker.jobs.put(self._schedule.take(worker.number, late))

    # Each is (session, worker, data).

    def _on_collected(self, session: pytest.Session, worker: Worker, data: Any) -> None:
        worker.collected = True
        if self._first is None:
            self._first = worker
            self._ids = data["ids"]
            self._show_collected(session, data)
            self._for_main = [self._ids[number] for number in data["main"]]
            how = self._config.option.atoll_dist
            todo = units(how, self._ids, data["groups"], data["main"])
            self._schedule = Schedule(todo, self._count)
            failed = session.testsfailed
            if failed and not self._config.option.continue_on_collection_errors:
                text = f"{failed} error{'s' if failed != 1 else ''} during collection"
                self._error = session.Interrupted(text)
                return
        elif data["ids"] != self._ids:
            self._refuse(session, worker, data["ids"])
            return
        self._call("pytest_xdist_node_collection_finished", node=worker, ids=self._ids)
        self._feed(worker)

    def _show_collected(self, session: pytest.Session, data: dict[str, Any]) -> None:
        hook = self._config.hook
        for packed in data["warnings"]:
            self._on_warning(session, None, packed)
        for report in data["reports"]:
            hook.pytest_collectreport(report=self._unpack(report))
        session.testscollected = len(self._ids)
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        if reporter is None:
            return
        if data["deselected"]:
            items = [SimpleNamespace(nodeid=id) for id in data["deselected"]]
            reporter.stats.setdefault("deselected", []).extend(items)
        reporter._numcollected = len(self._ids) + len(data["deselected"])
        reporter.report_collect(True)
        if self._config.option.verbose >= 0:
            for lines in reversed(data["lines"]):
                for line in [lines] if isinstance(lines, str) else lines:
                    reporter.write_line(line)

    def _refuse(self, session: pytest.Session, worker: Worker, ids: Sequence[str]) -> None:
        """The worker has collected other tests than the first."""
        assert self._first is not None
        lines = list(unified_diff(self._ids, ids, self._first.id, worker.id, "", "", 0, ""))
        if len(lines) > _MOST_LINES:
            lines[_MOST_LINES:] = [f"... and {len(lines) - _MOST_LINES} more"]
        text = (
            f"{self._first.id} and {worker.id} have collected different tests, or in "
            "another order. What a test module makes tests of must be the same in each "
            "interpreter: no random numbers, no order of a set.\n" + "\n".join(lines)
        )
        report = pytest.CollectReport(worker.id, "failed", text, [])
        self._config.hook.pytest_collectreport(report=report)
        self._error = session.Interrupted("the workers have collected different tests")
        self._interrupt()

    def _unpack(self, data: dict[str, Any]) -> Any:
        hook = self._config.hook
        return hook.pytest_report_from_serializable(config=self._config, data=data)

    def _on_more(self, session: pytest.Session, worker: Worker, data: None) -> None:
        self._feed(worker)

    def _on_start(self, session: pytest.Session, worker: Worker, data: Any) -> None:
        worker.running, nodeid, location = data
        self._config.hook.pytest_runtest_logstart(nodeid=nodeid, location=location)

    def _on_report(self, session: pytest.Session, worker: Worker, data: Any) -> None:
        report = self._unpack(data)
        report.node = worker
        self._config.hook.pytest_runtest_logreport(report=report)

    def _on_finish(self, session: pytest.Session, worker: Worker, data: Any) -> None:
        nodeid, location = data
        self._config.hook.pytest_runtest_logfinish(nodeid=nodeid, location=location)

    def _on_done(self, session: pytest.Session, worker: Worker, number: int) -> None:
        assert self._schedule is not None
        worker.running = None
        self._schedule.done(worker.number, number)

    def _on_warning(
        self, session: pytest.Session, worker: Worker | None, data: Any
    ) -> None:
        packed, when, nodeid, location = data
        self._config.hook.pytest_warning_recorded.call_historic(
            kwargs={
                "warning_message": unpack_warning(packed),
                "when": when,
                "nodeid": nodeid,
                "location": location,
            }
        )

    def _on_internalerror(self, session: pytest.Session, worker: Worker, text: str) -> None:
        if self._error is None:
            self._error = WorkerFailed(f"in {worker.id}:\n{text}")

    def _on_interrupted(self, session: pytest.Session, worker: Worker, data: Any) -> None:
        kind, reason, status = data
        if self._stopping or self._error is not None:
            return
        if reason is None:
            self._error = session.Interrupted(f"{kind} in {worker.id}")
        else:
            self._error = pytest.exit.Exception(reason, status)

    def _on_finished(self, session: pytest.Session, worker: Worker, data: Any) -> None:
        worker.workeroutput, shouldfail, shouldstop = data
        if shouldfail and not session.shouldfail:
            session.shouldfail = shouldfail
        if shouldstop and not session.shouldstop:
            session.shouldstop = shouldstop

    def _on_ended(self, session: pytest.Session, worker: Worker, error: str | None) -> None:
        if worker.running is None and error is not None and self._error is None:
            if error.startswith(_USAGE):
                self._error = pytest.UsageError(error.removeprefix(_USAGE).strip())
            elif not self._stopping:
                self._error = WorkerFailed(f"{worker.id} has ended: {error}")
        self._lose(worker, f"{worker.id} ended" + (f": {error}" if error else ""))

    def _on_stuck(self, session: pytest.Session, worker: Worker, why: str) -> None:
        """A test in it does not end: it is left to itself."""
        worker.given_up = True
        self._lose(worker, f"{why} It cannot be stopped; {worker.id} is given up")

    def _lose(self, worker: Worker, why: str) -> None:
        self._left.discard(worker.number)
        self._call("pytest_testnodedown", node=worker, error=None)
        if self._stopping or self._error is not None or self._schedule is None:
            return
        if worker.running is not None:
            self._report_lost(worker, why)
            self._schedule.done(worker.number, worker.running)
        self._schedule.give_back(worker.number)
        if not self._left and not self._schedule.is_empty():
            self._begin(len(self._team.workers) + 1)

    def _report_lost(self, worker: Worker, why: str) -> None:
        """The test that the worker ran when it was lost counts as failed."""
        assert worker.running is not None
        nodeid = self._ids[worker.running]
        path = nodeid.split("::", 1)[0]
        report = pytest.TestReport(nodeid, (path, None, path), {}, "failed", why, "call")
        report.node = worker  # type: ignore[attr-defined]
        self._config.hook.pytest_runtest_logreport(report=report)

    # ------------------------------------------------------------------------- main

    def _run_here(self, session: pytest.Session) -> None:
        """Run what workers cannot run, after them, so that nobody else is disturbed."""
        root = str(self._config.rootpath)
        wanted = set(self._for_main)
        total = session.testscollected
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.ensure_newline()
            reporter._numcollected = 0
        session.perform_collect([os.path.join(root, id) for id in self._for_main])
        session.testscollected = total
        items = [item for item in session.items if item.nodeid in wanted]
        for item, after in zip(items, [*items[1:], None], strict=True):
            self._config.hook.pytest_runtest_protocol(item=item, nextitem=after)
            reason = _reason(session)
            if reason is not None:
                raise reason

    # -------------------------------------------------------------------------- end

    @pytest.hookimpl
    def pytest_sessionfinish(self) -> None:
        """After Ctrl-C they end as this session does."""
        if self._left:
            self._stop()
            self._interrupt()

    @pytest.hookimpl
    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        text = self._stray.text
        if text and terminalreporter.stats.get("failed"):
            terminalreporter.section("written to the process's descriptors by tests")
            terminalreporter.line(text.rstrip("\n"))


def _reason(session: pytest.Session) -> BaseException | None:
    """Why the session is not to go on, if it is not."""
    if session.shouldfail:
        return session.Failed(session.shouldfail)
    if session.shouldstop:
        return session.Interrupted(session.shouldstop)
    return None
