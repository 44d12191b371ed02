import faulthandler
import gc
import signal
from pathlib import Path

import atoll
import packages
import pytest
import workers
from _pytest.faulthandler import fault_handler_stderr_fd_key
from support import SLACK, Task, open_interpreters, until

# A shell's background job ignores Ctrl-C, and so would all that we start.
signal.signal(signal.SIGINT, signal.default_int_handler)


# Each test looks for interpreters that are left; test_spares.py has its own.
atoll.warm(0)

# What hangs here says so; and what does not must not be taken for it.
atoll.detect_deadlocks()

#: What takes longer than 0.3 s: left out by `make test-quick`. A line is
#: file::function; tools/slow_tests.py writes them from what `make test` has measured.
SLOW = set(Path(__file__).with_name("slow.txt").read_text().split())


def pytest_collection_modifyitems(items):
    for item in items:
        if f"{item.path.name}::{item.originalname}" in SLOW:
            item.add_marker("slow")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """End the process, with all stacks, when a test hangs on after its timeout.

    The timeout raises in the main thread, and a `with` of the test may then wait for ever
    for what hung. xdist names the test and goes on in another process. pytest has set the
    clock, and stops it; it has only one time for all tests.
    """
    after = float(item.config.getini("faulthandler_timeout"))
    if after > 0:
        own = item.get_closest_marker("timeout")
        usual = float(item.config.getini("timeout"))
        after += max(0, own.args[0] - usual) if own else 0
        stderr = item.config.stash[fault_handler_stderr_fd_key]
        faulthandler.dump_traceback_later(after, exit=True, file=stderr)


#: The ids of interpreters that a whole module of tests uses.
KEPT = set()


@pytest.fixture(autouse=True)
def nothing_left_open():
    """A test closes the interpreters that it made, or drops them."""
    before = open_interpreters()
    yield
    before |= KEPT
    if open_interpreters() <= before:
        return  # a collection for each test would take longer than most tests
    gc.collect()
    try:
        until(lambda: open_interpreters() <= before, SLACK)
    except AssertionError:
        left = open_interpreters() - before
        for id in left:
            try:
                interp = atoll.Interpreter(id)
                interp.interrupt()
                interp.close(timeout=2)
            except atoll.InterpreterError:
                pass
        pytest.fail(f"the test left interpreters {sorted(left)} open")


@pytest.fixture
def interp():
    interp = atoll.create()
    yield interp
    try:
        interp.interrupt()
        interp.close(timeout=SLACK)
    except atoll.InterpreterNotFoundError:
        pass  # the test has closed it


@pytest.fixture
def no_graph_stays():
    """What the test has frozen is gone when it ends."""
    gc.collect()
    before = atoll.frozen_stats()
    yield
    gc.collect()
    assert atoll.frozen_stats() == before


@pytest.fixture
def queue():
    return atoll.create_queue()


@pytest.fixture(scope="module")
def there_and_back():
    """A function that sends an object to another interpreter and back."""
    with atoll.create() as interp:
        KEPT.add(interp.id)
        yield lambda obj: interp.call(workers.give, obj)
    KEPT.clear()


@pytest.fixture(params=["loop-back", "crossing"])
def way(request):
    """Both ways to encode and decode: in one interpreter, and between two."""
    if request.param == "crossing":
        return request.getfixturevalue("there_and_back")
    queue = atoll.create_queue()

    def trip(obj):
        queue.put(obj)
        return queue.get_nowait()

    return trip


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """A folder of installed packages, for the tests of the doctor."""
    site = tmp_path_factory.mktemp("site")
    packages.make_all(site)
    return site


@pytest.fixture(params=["threads", "interpreters"])
def start(request):
    """start(function, *args) starts a party; its result(timeout) waits for its end."""
    return {"threads": Task, "interpreters": atoll.spawn}[request.param]
