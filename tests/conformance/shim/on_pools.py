"""The tests of test.test_concurrent_futures, for atoll's executor.

CPython makes them by adding a mixin with the executor's type to a mixin with
tests. So do we, also where CPython does not do it for interpreters.
"""

import importlib
import unittest

import atoll
from atoll._tasks import dispatch as _dispatch
from test import support

PACKAGE = "test.test_concurrent_futures"
MIXINS = {
    "executor": ("ExecutorTest",),
    "test_wait": ("WaitTests",),
    "test_as_completed": ("AsCompletedTests",),
    "test_init": ("InitializerMixin", "FailingInitializerMixin"),
    "test_shutdown": ("ExecutorShutdownTest",),
}


class Event:
    """What a task can wait for. It crosses: its queue does."""

    def __init__(self):
        self._queue = atoll.create_queue()

    def wait(self):
        self._queue.get()
        self._queue.put(None)  # for the next one

    def set(self):
        self._queue.put(None)


class OnInterpreters:
    executor_type = atoll.InterpreterPoolExecutor

    def setUp(self):
        super().setUp()
        if "ExecutorShutdownTest" in MIXINS.get(self.__module__.rpartition(".")[2], ()):
            # Its tests expect that workers are there at once, as threads are.
            self.executor.submit(int).result()

    def create_event(self):
        return Event()


def threads_of(executor):
    """The workers. CPython has a thread at once; an interpreter is made first."""
    for _ in support.sleeping_retry(support.SHORT_TIMEOUT):
        stats = executor.stats()
        workers = [worker for worker in stats.workers if worker.interpreter is not None]
        if not stats.queued or len(workers) == executor._max_workers:
            return workers


# Each test waits for its threads; the dispatcher would end a second later.
_dispatch._IDLE = 0.01

# What the tests look at of CPython's own, by the names that it has there.
atoll.InterpreterPoolExecutor._broken = property(lambda self: self.stats().broken)
atoll.InterpreterPoolExecutor._thread_name_prefix = property(lambda self: self._name)
atoll.InterpreterPoolExecutor._threads = property(threads_of)


def load_tests(name):
    module = importlib.import_module(f"{PACKAGE}.{name}")
    util = importlib.import_module(f"{PACKAGE}.util")
    loader = unittest.defaultTestLoader
    if name not in MIXINS:
        return loader.loadTestsFromModule(module)
    suite = unittest.TestSuite()
    for mixin in MIXINS[name]:
        bases = (OnInterpreters, vars(module)[mixin], util.ExecutorMixin, util.BaseTestCase)
        stem = mixin.removesuffix("Tests").removesuffix("Test").removesuffix("Mixin")
        made = type(f"InterpreterPool{stem}Test", bases, {"__module__": module.__name__})
        suite.addTests(loader.loadTestsFromTestCase(made))
    return suite
