"""The plugin of a worker's session."""

from __future__ import annotations

from collections import deque

import pytest
from pytest_atoll import WORKER

from .carry import pack_warning, plain
from .limits import Limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    import warnings
    from collections.abc import Generator
    from typing import Any

    import atoll

#: Fixtures that turn over the process's descriptors 1 and 2, or run sessions that do: main
#: runs the tests that have them.
_OF_THE_PROCESS = {"capfd", "capfdbinary", "pytester", "testdir"}


class _Nowhere:
    """A file for what the terminal reporter of a worker would say."""

    encoding = "utf-8"

    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None:
        pass

    def isatty(self) -> bool:
        return False


class _Unheard:
    """In the place of the terminal reporter: there for those who ask for it, but not
    called for each test."""

    def __init__(self, reporter: Any) -> None:
        self._reporter = reporter

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reporter, name)


class Inside:
    """Reports to main what happens, and runs what main sends.

    Args:
      number (int): which worker this is.
      workerinput (dict): what plugins find in the configuration.
      jobs: the queue with what main's session tells (`workerinput`, `basetemp`, `markup`),
        then lists of tests, by their numbers; None: there is no more.
      events: the queue for (number, what, data).
      stop: is set when no further test is to run.
      held: what keeps sys.stderr until the tests have been collected.
    """

    __name__ = WORKER  # as which pytest registers it

    def __init__(
        self,
        number: int,
        workerinput: dict[str, Any],
        jobs: atoll.Queue,
        events: atoll.Queue,
        stop: atoll.Event,
        held: Any,
    ) -> None:
        self._number = number
        self._workerinput = workerinput
        self._held = held
        self._jobs = jobs
        self._events = events
        self._stop = stop
        self._config: Any = None
        self._running: int | None = None
        self._collecting = True
        self._reports: list[Any] = []
        self._warnings: list[Any] = []
        self._deselected: list[str] = []

    def _send(self, what: str, data: object = None) -> None:
        self._events.put((self._number, what, data))

    # -------------------------------------------------------------- configuration

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_load_initial_conftests(
        self, early_config: pytest.Config
    ) -> Generator[None]:
        early_config.workerinput = self._workerinput  # type: ignore[attr-defined]
        early_config.workeroutput = {}  # type: ignore[attr-defined]
        self._config = early_config
        known = early_config.known_args_namespace
        if known.capture == "fd":  # they are the process's
            known.capture = "sys"
        # Of pytest-cov: main has erased old data, and this would erase another worker's.
        known.cov_append = True
        yield

    @pytest.hookimpl(tryfirst=True)
    def pytest_cmdline_main(self, config: pytest.Config) -> int | None:
        setup = self._jobs.get()
        self._held.text = ""  # of the configuration, which main has read as well
        if setup is None:  # main has no use for it
            return 0
        self._workerinput.update(setup["workerinput"])
        option = config.option
        option.capture = config.known_args_namespace.capture
        option.basetemp = setup["basetemp"]
        option.color = "yes" if setup["markup"] else "no"
        option.usepdb = False
        option.dist = "no"
        option.pastebin = None
        # One timer for the process, and its descriptor 2: they are main's.
        if config.pluginmanager.has_plugin("faulthandler"):
            config.pluginmanager.unregister(name="faulthandler")
        return None

    @pytest.hookimpl(trylast=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        manager = config.pluginmanager
        reporter = manager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter._tw._file = _Nowhere()
            manager.unregister(reporter)
            manager.register(_Unheard(reporter), "terminalreporter")
        if hasattr(config.hook, "pytest_timeout_set_timer"):
            manager.register(Limits(lambda text: self._send("stuck", text)))

    # ------------------------------------------------------------------ collection

    @pytest.hookimpl
    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if not report.passed:
            self._reports.append(self._pack(report))

    @pytest.hookimpl
    def pytest_deselected(self, items: list[pytest.Item]) -> None:
        self._deselected += [item.nodeid for item in items]

    def _tell_collected(self, session: pytest.Session) -> None:
        config = session.config
        lines = config.hook.pytest_report_collectionfinish(
            config=config, start_path=config.invocation_params.dir, items=session.items
        )
        self._send("collected", {
            "ids": [item.nodeid for item in session.items],
            "groups": _groups(session.items),
            "main": [n for n, item in enumerate(session.items) if _is_for_main(item)],
            "deselected": self._deselected,
            "reports": self._reports,
            "warnings": self._warnings,
            "lines": plain(lines),
        })  # fmt: skip
        self._collecting = False
        self._held.let_go()

    # ----------------------------------------------------------------------- tests

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        self._tell_collected(session)
        for number, following in self._numbers():
            item = session.items[number]
            after = None if following is None else session.items[following]
            self._running = number
            session.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
            self._running = None
            self._send("done", number)
            if session.shouldfail or session.shouldstop:
                break
        return True

    def _numbers(self) -> Generator[tuple[int, int | None]]:
        """The tests to run, by their numbers, and which comes after: what they share is
        torn down if that one does not use it. More are asked for before there are none."""
        todo: deque[int] = deque()
        asked = True  # by telling what has been collected
        more = True
        while not self._stop.is_set():
            while more and len(todo) < 2:
                if not asked:
                    self._send("more")
                batch = self._jobs.get()
                asked = False
                if batch is None:
                    more = False
                else:
                    todo.extend(batch)
            if not todo or self._stop.is_set():
                return
            if more and len(todo) == 2:
                self._send("more")
                asked = True
            number = todo.popleft()
            yield number, todo[0] if todo else None

    @pytest.hookimpl
    def pytest_runtest_logstart(
        self, nodeid: str, location: tuple[str, int | None, str]
    ) -> None:
        self._send("start", (self._running, str(nodeid), plain(location)))

    @pytest.hookimpl
    def pytest_runtest_logfinish(
        self, nodeid: str, location: tuple[str, int | None, str]
    ) -> None:
        self._send("finish", (str(nodeid), plain(location)))

    @pytest.hookimpl
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        data = self._pack(report)
        data["item_index"] = self._running
        data["worker_id"] = self._workerinput["workerid"]
        data["testrun_uid"] = self._workerinput["testrunuid"]
        self._send("report", data)

    def _pack(self, report: pytest.CollectReport | pytest.TestReport) -> dict[str, Any]:
        config = self._config
        data = config.hook.pytest_report_to_serializable(config=config, report=report)
        return plain(data)  # type: ignore[no-any-return]

    @pytest.hookimpl
    def pytest_warning_recorded(
        self,
        warning_message: warnings.WarningMessage,
        when: str,
        nodeid: str,
        location: tuple[str, int, str] | None,
    ) -> None:
        if when == "config":
            return  # main has the same
        packed = (pack_warning(warning_message), when, str(nodeid), plain(location))
        if self._collecting:
            self._warnings.append(packed)
        else:
            self._send("warning", packed)

    # ------------------------------------------------------------------------- end

    @pytest.hookimpl
    def pytest_internalerror(self, excrepr: object) -> None:
        self._send("internalerror", str(excrepr))

    @pytest.hookimpl
    def pytest_keyboard_interrupt(
        self, excinfo: pytest.ExceptionInfo[BaseException]
    ) -> None:
        reason = getattr(excinfo.value, "msg", None)
        status = getattr(excinfo.value, "returncode", None)
        self._send("interrupted", (excinfo.typename, reason, status))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None]:
        yield
        output = plain(session.config.workeroutput)  # type: ignore[attr-defined]
        self._send("finished", (output, session.shouldfail, session.shouldstop))


def _groups(items: list[pytest.Item]) -> dict[int, str]:
    """The xdist_group of tests, by their numbers."""
    found = {}
    for number, item in enumerate(items):
        names = {
            str(mark.args[0] if mark.args else mark.kwargs.get("name", "default"))
            for mark in item.iter_markers("xdist_group")
        }
        if names:
            found[number] = "_".join(sorted(names))
    return found


def _is_for_main(item: pytest.Item) -> bool:
    names = getattr(item, "fixturenames", ())
    return item.get_closest_marker("atoll_main") is not None or not (
        _OF_THE_PROCESS.isdisjoint(names)
    )
