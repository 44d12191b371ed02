"""What cloudpickle's own tests send with: atoll's encoding in the place of its pickles.

In the place of their `testutils` (test_cloudpickle.py). dumps() sends an object to an
interpreter; what it returns is a pickle that receives it. Their worker processes are
interpreters.
"""

import contextlib
import os
import pickle
import subprocess
import sys
import tempfile
import types

import atoll
import cloudpickle
from cloudpickle import cloudpickle as internals

TIMEOUT = 60
TEST_GLOBALS = "a test value"
TIMES = 8  # so often can what dumps() returns be loaded

_sent = {}


def dumps(obj, protocol=None, buffer_callback=None):
    queue = atoll.create_queue()
    for _ in range(TIMES):
        queue.put(obj)
    _sent[queue.id] = queue
    return pickle.dumps(Received(queue.id))


class Received:
    def __init__(self, number):
        self.number = number

    def __reduce__(self):
        return receive, (self.number,)


def receive(number):
    return _sent[number].get_nowait()


def adapt():
    """cloudpickle's functions, and what its tests use of older versions."""
    if not hasattr(internals, "cell_set"):
        internals.cell_set = lambda cell, value: setattr(cell, "cell_contents", value)
    compat = types.ModuleType("cloudpickle.compat")
    compat.pickle = pickle
    sys.modules["cloudpickle.compat"] = compat
    if os.environ.get("RUN_BY") != "cloudpickle":
        cloudpickle.dumps = dumps
        cloudpickle.dump = lambda obj, file, **how: file.write(dumps(obj))


adapt()
BY_ATOLL = os.environ.get("RUN_BY") != "cloudpickle"


def make_local_function():
    def g(x):
        assert TEST_GLOBALS == "a test value"
        return sum(range(10))

    return g


def given(value):
    return value


def outcome_of(function, args, kwargs):
    try:
        return function(*args, **kwargs)
    except BaseException as exc:
        return exc


class Worker:
    """An interpreter, or a process with pickles of cloudpickle's."""

    def __init__(self):
        self.interp = atoll.create()

    def run(self, function, *args, **kwargs):
        try:
            result = self.interp.call(outcome_of, function, args, kwargs)
        except atoll.ExecutionFailed as exc:  # as the arguments came
            result = exc.__cause__
        if isinstance(result, BaseException):
            raise result
        return result

    def memsize(self):
        import psutil

        return psutil.Process().memory_info().rss


@contextlib.contextmanager
def subprocess_worker(protocol=None):
    if not BY_ATOLL:
        with process_worker() as worker:
            yield worker
        return
    worker = Worker()
    yield worker
    worker.interp.close()


@contextlib.contextmanager
def process_worker():
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        yield ProcessWorker(pool)


class ProcessWorker:
    def __init__(self, pool):
        self.pool = pool

    def run(self, function, *args, **kwargs):
        data = cloudpickle.dumps((function, args, kwargs))
        result = pickle.loads(self.pool.submit(run_pickled, data).result())
        if isinstance(result, BaseException):
            raise result
        return result

    def memsize(self):
        import psutil

        return psutil.Process(next(iter(self.pool._processes))).memory_info().rss


def run_pickled(data):
    return cloudpickle.dumps(outcome_of(*pickle.loads(data)))


def subprocess_pickle_echo(obj, protocol=None, timeout=TIMEOUT, add_env=None):
    with subprocess_worker() as worker:
        return worker.run(given, obj)


def subprocess_pickle_string(obj, protocol=None, timeout=TIMEOUT, add_env=None):
    return cloudpickle.dumps(subprocess_pickle_echo(obj))


def assert_run_python_script(source_code, timeout=TIMEOUT):
    """The script ends with status 0, and prints nothing."""
    with tempfile.NamedTemporaryFile("w", suffix=".py") as file:
        file.write("import testutils\n" + source_code)
        file.flush()
        done = subprocess.run(
            [sys.executable, "-W", "ignore", file.name],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
        )
    assert (done.returncode, done.stdout) == (0, ""), done.stdout
