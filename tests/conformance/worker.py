"""Run one module of a package of the installed tests. Started by ./run.

Reads its order as JSON from standard input: "package", "module", "only" (patterns),
"omitted" and "omitted_subtests" (pattern -> reason), "rendezvous" (patterns),
"limit" (seconds) and "verbosity". Writes a JSON object a line to the file
descriptor that is its argument.
"""

import faulthandler
import json
import os
import signal
import sys
import unittest
from fnmatch import fnmatchcase

# Physical memory that the 200 interpreters of test_stress need, with room.
STRESS_MEMORY = 2 << 30


class Result(unittest.TextTestResult):
    """Tells what is running, limits its time, and leaves subtests out."""

    order = tell = None

    def startTest(self, test):
        self.tell(start=short_id(test))
        faulthandler.dump_traceback_later(self.order["limit"], exit=True)
        if self.order["rendezvous"]:
            set_channel_capacity(match(short_id(test), self.order["rendezvous"]))
        super().startTest(test)

    def stopTest(self, test):
        super().stopTest(test)
        close_foreign_interpreters()
        faulthandler.cancel_dump_traceback_later()

    def addSubTest(self, test, subtest, err):
        subtest_id = short_id(subtest)
        pattern = match(subtest_id, self.order["omitted_subtests"])
        self.tell(subtest=[subtest_id, pattern, err is None])
        if pattern is None:
            super().addSubTest(test, subtest, err)


def main():
    order = json.load(sys.stdin)
    report_fd = int(sys.argv[1])
    os.set_inheritable(report_fd, False)
    report = os.fdopen(report_fd, "w", buffering=1)

    def tell(**what):
        print(json.dumps(what), file=report)

    Result.order, Result.tell = order, staticmethod(tell)
    faulthandler.enable()
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        # It was ignored, as in a background job; some tests send one.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    set_up_test_support()
    check_shim()

    tests = list(flatten(load_tests(order["package"], order["module"])))
    tell(ids=[short_id(test) for test in tests])
    if order["only"]:
        tests = [test for test in tests if match(short_id(test), order["only"])]
    for test in tests:
        pattern = match(short_id(test), order["omitted"])
        if pattern is not None:
            omit(test, order["omitted"][pattern])

    runner = unittest.TextTestRunner(resultclass=Result, verbosity=order["verbosity"])
    result = runner.run(unittest.TestSuite(tests))
    tell(ran=result.testsRun, skipped=len(result.skipped))
    # The end of the process is tested as well.
    faulthandler.dump_traceback_later(order["limit"], exit=True)
    sys.exit(not result.wasSuccessful())


def short_id(test):
    """test_queues.QueueTests.test_create; for a subtest its name follows."""
    test_case = getattr(test, "test_case", None)
    if test_case is None:
        return test.id().removeprefix(Result.order["package"] + ".")
    name = test._message
    if not isinstance(name, str):
        params = ", ".join(f"{k}={v!r}" for k, v in test.params.items())
        name = params or repr(name)
    return f"{short_id(test_case)}: {name}"


def load_tests(package, module):
    if package == "test.test_concurrent_futures":
        import on_pools

        return on_pools.load_tests(module)
    if module == "lock_tests":
        import on_locks

        return on_locks.load_tests(module)
    return unittest.defaultTestLoader.loadTestsFromName(f"{package}.{module}")


def match(name, patterns):
    return next((p for p in patterns if fnmatchcase(name, p)), None)


def flatten(suite):
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from flatten(test)
        else:
            yield test


def omit(test, reason):
    name = test._testMethodName
    setattr(test, name, unittest.skip(reason)(getattr(test, name)))


def set_up_test_support():
    from test import support
    from test.support import script_helper

    support.verbose = 0
    # CPython reckons with 32 MiB an interpreter, some ten times what one takes,
    # and compares that with this number.
    if os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >= STRESS_MEMORY:
        support.set_memlimit("8G")
    # Child processes must not be started with -E or -I: they need PYTHONPATH.
    script_helper.interpreter_requires_environment = lambda: True


def check_shim():
    """The tests must see atoll: here, in interpreters and in child processes."""
    import atoll
    from test.support import script_helper

    source = (
        "import atoll\n"
        "from concurrent import interpreters\n"
        "from concurrent.futures import InterpreterPoolExecutor\n"
        "from test.support import channels\n"
        "assert interpreters.Interpreter is atoll.Interpreter\n"
        "assert channels.SendChannel is atoll.SendChannel\n"
        "assert InterpreterPoolExecutor is atoll.InterpreterPoolExecutor\n"
    )
    exec(source, {})
    with atoll.create() as interp:
        interp.exec(source)
    script_helper.assert_python_ok("-c", source)


def set_channel_capacity(rendezvous):
    from test.support import channels

    channels.capacity = 0 if rendezvous else sys.maxsize


def close_foreign_interpreters():
    """End what a test has made with _interpreters.

    The tests' own tearDown would close them through atoll, which does not close
    what it has not made.
    """
    import _interpreters

    for id, whence in _interpreters.list_all():
        if whence == _interpreters.WHENCE_STDLIB:
            _interpreters.destroy(id)


if __name__ == "__main__":
    main()
