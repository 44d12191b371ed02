"""Run one module of the installed test.test_interpreters. Started by ./run.

Reads {"module", "omitted", "only", "limit"} as JSON from standard input and
writes one JSON object a line to the file descriptor given as argument.
"""

import faulthandler
import json
import os
import signal
import sys
import unittest
from fnmatch import fnmatchcase

PACKAGE = "test.test_interpreters."
# Physical memory that 200 interpreters need, with room to spare.
STRESS_MEMORY = 2 << 30


def main():
    order = json.load(sys.stdin)
    report_fd = int(sys.argv[1])
    os.set_inheritable(report_fd, False)
    report = os.fdopen(report_fd, "w", buffering=1)
    limit = order["limit"]

    def tell(**what):
        print(json.dumps(what), file=report)

    class Result(unittest.TextTestResult):
        """Tells what is running, and shows where a test hangs."""

        def startTest(self, test):
            tell(start=short_id(test))
            faulthandler.dump_traceback_later(limit, exit=True)
            super().startTest(test)

        def stopTest(self, test):
            super().stopTest(test)
            faulthandler.cancel_dump_traceback_later()

    faulthandler.enable()
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        # It was ignored, as in a background job; some tests send one.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    set_up_test_support()
    check_shim()

    # Also when this is the only place where a module's import fails.
    suite = unittest.defaultTestLoader.loadTestsFromName(PACKAGE + order["module"])
    tests = list(flatten(suite))
    tell(ids=[short_id(test) for test in tests])
    if order["only"]:
        tests = [test for test in tests if matching(test, order["only"])]
    for test in tests:
        pattern = matching(test, order["omitted"])
        if pattern is not None:
            omit(test, order["omitted"][pattern])

    from test.support import os_helper

    with os_helper.temp_cwd():
        runner = unittest.TextTestRunner(resultclass=Result, verbosity=order["verbosity"])
        result = runner.run(unittest.TestSuite(tests))
    tell(
        ran=result.testsRun,
        skipped=[[short_id(test), reason] for test, reason in result.skipped],
        ok=result.wasSuccessful(),
    )
    # The end of the process is tested as well.
    faulthandler.dump_traceback_later(limit, exit=True)
    sys.exit(not result.wasSuccessful())


def short_id(test):
    """test_queues.QueueTests.test_create, for example."""
    return test.id().removeprefix(PACKAGE)


def matching(test, patterns):
    id = short_id(test)
    return next((p for p in patterns if fnmatchcase(id, p)), None)


def flatten(suite):
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from flatten(test)
        else:
            yield test


def omit(test, reason):
    name = test._testMethodName
    setattr(test, name, unittest.skip(f"omitted: {reason}")(getattr(test, name)))


def set_up_test_support():
    from test import support
    from test.support import script_helper

    support.verbose = 0
    # CPython reckons with 32 MiB an interpreter, ten times what one takes; its
    # limit is one on paper, and 8 GiB on that paper are enough for test_stress.
    if os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >= STRESS_MEMORY:
        support.set_memlimit("8G")
    # Child processes must not be started with -E or -I: they need PYTHONPATH.
    script_helper.interpreter_requires_environment = lambda: True


def check_shim():
    """The tests must see atoll: here, in interpreters and in child processes."""
    from concurrent import interpreters
    from test.support import script_helper

    import atoll

    assert interpreters.Interpreter is atoll.Interpreter
    source = (
        "import atoll\n"
        "from concurrent import interpreters\n"
        "from test.support import channels\n"
        "assert interpreters.Interpreter is atoll.Interpreter\n"
        "assert channels.SendChannel is atoll.SendChannel\n"
    )
    with atoll.create() as interp:
        interp.exec(source)
    script_helper.assert_python_ok("-c", source)


if __name__ == "__main__":
    main()
