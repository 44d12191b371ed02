"""The plugin of pytest's: `pytest --atoll=auto` runs the tests in interpreters.

pytest imports this module wherever atoll is installed. So it imports nothing of atoll's
before that option is given. PYTEST_DONT_REWRITE: workers import it before pytest starts.
"""

from __future__ import annotations

import copy
import os
import shlex

import pytest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from atoll._pytest.team import Team

#: The name of the plugin that a worker's session has.
WORKER = "atoll-worker"
_DISTS = ("load", "loadfile", "loadscope", "loadgroup")

# The workers that have been started before the options were parsed.
_TEAM = pytest.StashKey["Team"]()


def _count(text: str) -> int | str:
    return text if text == "auto" else int(text)


def pytest_addoption(
    parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager
) -> None:
    group = parser.getgroup("atoll", "tests in interpreters of this process (atoll)")
    group.addoption(
        "--atoll",
        type=_count,
        default=0,
        metavar="N",
        help="Run the tests in N interpreters of this process; 'auto': as many as this "
        "process may use CPUs.",
    )
    group.addoption(
        "--atoll-dist",
        choices=_DISTS,
        default="load",
        help="What goes to an interpreter together: 'load', nothing; 'loadfile', the tests "
        "of a file; 'loadscope', of a class or module; 'loadgroup', those with the same "
        "mark xdist_group.",
    )
    _keep_as_it_is(pluginmanager)
    _begin_early(parser, pluginmanager)


def _keep_as_it_is(pluginmanager: pytest.PytestPluginManager) -> None:
    """pytest rewrites the assertions of all that is distributed with a plugin: of atoll
    there is nothing to show, and its import would take much longer."""
    hook = getattr(pluginmanager, "rewrite_hook", None)
    marked = getattr(hook, "_must_rewrite", None)
    if isinstance(marked, set):
        marked.discard("atoll")


def _begin_early(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """If the arguments want workers, start the first of them: they import pytest while
    this session goes on with its plugins and conftest files. And say so to plugins, in the
    option of xdist's that they look at."""
    config = pluginmanager.get_plugin("pytestconfig")
    if not isinstance(config, pytest.Config) or not hasattr(config, "known_args_namespace"):
        return  # too early: the configuration has not been found
    args = shlex.split(os.environ.get("PYTEST_ADDOPTS", ""))
    args += [*config.getini("addopts"), *map(str, config.invocation_params.args)]
    if not any(arg.startswith("--atoll") for arg in args):
        return
    namespace = parser.parse_known_args(args, namespace=copy.copy(config.option))
    count = _workers(namespace.atoll)
    if not count or namespace.help or namespace.collectonly:
        return
    config.option.dist = "load"
    if not _is_worker(config):
        _team(config, count).start(min(count, max(1, _cpus() - 1)))


def _team(config: pytest.Config, count: int) -> Team:
    if _TEAM not in config.stash:
        from atoll._pytest.team import Team

        args = list(map(str, config.invocation_params.args))
        team = config.stash[_TEAM] = Team(args, count)
        config.add_cleanup(team.dismiss)
    return config.stash[_TEAM]


def _cpus() -> int:
    return os.process_cpu_count() or 1


def _workers(wanted: int | str) -> int:
    return _cpus() if isinstance(wanted, str) else max(0, wanted)


def _is_worker(config: pytest.Config) -> bool:
    return config.pluginmanager.has_plugin(WORKER)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    if not config.option.atoll or _is_worker(config):
        return
    if config.getoption("usepdb", False) or config.getoption("trace", False):
        if config.option.atoll != "auto":
            raise pytest.UsageError(
                "--pdb and --trace need the tests in this interpreter: leave out --atoll=N"
            )
        config.option.atoll = 0  # as xdist does
    if config.getoption("numprocesses", None) or config.getoption("tx", None):
        raise pytest.UsageError("--atoll and xdist's -n exclude each other")


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "atoll_main: run the test in the main interpreter, after those in interpreters "
        "(it needs signal handlers, os.fork or what else a process has one of).",
    )
    if not config.pluginmanager.has_plugin("xdist"):
        config.addinivalue_line(
            "markers",
            "xdist_group(name): tests with the same name run in the same worker "
            "(--atoll-dist=loadgroup).",
        )
    count = _workers(config.option.atoll)
    if count and not _is_worker(config) and not config.option.collectonly:
        from atoll._pytest.session import Controller

        controller = Controller(config, _team(config, count))
        config.pluginmanager.register(controller, "atoll-controller")


@pytest.fixture(scope="session")
def worker_id(request: pytest.FixtureRequest) -> str:
    """The name of the worker that runs this ("atoll-1"), or "master"."""
    workerinput = getattr(request.config, "workerinput", {"workerid": "master"})
    return str(workerinput["workerid"])


@pytest.fixture(scope="session")
def testrun_uid(request: pytest.FixtureRequest) -> str:
    """A str that is the same in all workers of this run, and in no other run."""
    from uuid import uuid4

    workerinput = getattr(request.config, "workerinput", None)
    return str(workerinput["testrunuid"]) if workerinput else uuid4().hex
