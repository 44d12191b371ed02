"""The tests of test.test_concurrent_futures, for atoll's executor.

CPython makes them by adding a mixin with the executor's type to a mixin with
tests. So do we, also where CPython does not do it for interpreters.
"""

import importlib
import unittest

import atoll

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

    def create_event(self):
        return Event()


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
