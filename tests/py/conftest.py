import gc
import signal
from pathlib import Path

import atoll
import packages
import pytest
import workers
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
