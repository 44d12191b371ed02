"""The tests of test.lock_tests, for atoll's locks and what is like them.

CPython makes them by telling each class of tests the type that it is to test. So do
we. The tests of conditions make locks for them with threading.Lock, which cannot be
used by all interpreters: the module sees atoll's under that name.
"""

import importlib
import threading
import types
import unittest

import atoll

TYPES = {
    "LockTests": {"locktype": atoll.Lock},
    "RLockTests": {"locktype": atoll.RLock},
    "EventTests": {"eventtype": atoll.Event},
    "ConditionTests": {"condtype": atoll.Condition},
    "SemaphoreTests": {"semtype": atoll.Semaphore},
    "BoundedSemaphoreTests": {"semtype": atoll.BoundedSemaphore},
    "BarrierTests": {"barriertype": atoll.Barrier},
}


def load_tests(name):
    module = importlib.import_module(f"test.{name}")
    module.threading = types.SimpleNamespace(**vars(threading))
    module.threading.Lock = atoll.Lock
    suite = unittest.TestSuite()
    for tests, what in TYPES.items():
        made = type(tests, (vars(module)[tests],), {"__module__": module.__name__, **what})
        suite.addTests(unittest.defaultTestLoader.loadTestsFromTestCase(made))
    return suite
