import gc
import signal

import atoll
import pytest
from support import SLACK, open_interpreters, until

# A shell's background job ignores Ctrl-C, and so would all that we start.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def nothing_left_open():
    """A test closes the interpreters that it made, or drops them."""
    before = open_interpreters()
    yield
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
def queue():
    return atoll.create_queue()
