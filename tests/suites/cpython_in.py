"""Run a module of CPython's tests, in main or in an interpreter of atoll's.

cpython_in.py main|atoll MODULE LEFT-OUT RECORD runs it here, or in an interpreter;
cpython_in.py two MODULE LEFT-OUT RECORD RECORD in two interpreters at once. A RECORD gets
a line when a test begins and when it ends. Tests that are in it are not run again, nor
are those that match a pattern in LEFT-OUT, a list in JSON.
"""

import concurrent.futures
import contextlib
import fnmatch
import importlib
import json
import os
import signal
import sys
import unittest
from typing import Any

from record import ALL, Record, name_of

#: What the tests may use (see test.support): nothing outside of this machine, nothing
#: that takes very long.
RESOURCES = ("subprocess", "tzdata")

INTERRUPTED = "interrupted"


class Result(unittest.TextTestResult):
    """Writes down what becomes of each test: a subtest that fails is its test's failure."""

    record: Record

    def startTest(self, test: Any) -> None:
        # What ends without a word has been interrupted, and so has the run.
        self.outcome, self.why = "failed", INTERRUPTED
        self.record.start(test.recorded_as)
        super().startTest(test)

    def stopTest(self, test: Any) -> None:
        super().stopTest(test)
        self.record.end(test.recorded_as, self.outcome, self.why)

    def _set(self, test: Any, outcome: str, why: str) -> None:
        if not hasattr(test, "recorded_as") and not hasattr(test, "test_case"):
            # What prepares a class or a module has failed, or says to skip it.
            what, _, whose = test.id().partition(" (")
            self.record.end(f"{whose.rstrip(')')}.({what})", outcome, why)
        elif self.outcome != "failed" or self.why == INTERRUPTED:
            self.outcome, self.why = outcome, why

    def addSuccess(self, test: Any) -> None:
        super().addSuccess(test)
        self._set(test, "passed", "")

    def addError(self, test: Any, err: Any) -> None:
        super().addError(test, err)
        self._set(test, "failed", said(err))

    def addFailure(self, test: Any, err: Any) -> None:
        super().addFailure(test, err)
        self._set(test, "failed", said(err))

    def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:
        super().addSubTest(test, subtest, err)
        if err is not None:
            self._set(test, "failed", f"{subtest._subDescription()} {said(err)}")

    def addSkip(self, test: Any, reason: str) -> None:
        super().addSkip(test, reason)
        if hasattr(test, "test_case"):
            self._set(test, "passed", "")  # without this subtest
        else:
            self._set(test, "skipped", reason)

    def addExpectedFailure(self, test: Any, err: Any) -> None:
        super().addExpectedFailure(test, err)
        self._set(test, "xfailed", "")

    def addUnexpectedSuccess(self, test: Any) -> None:
        super().addUnexpectedSuccess(test)
        self._set(test, "xpassed", "")


def said(err: Any) -> str:
    kind, value, _ = err
    return f"{kind.__name__}: {value}"[:300]


def named(suite: unittest.TestSuite, seen: dict[str, int]) -> None:
    """Give each test the name that it is recorded under: equal ids get a number."""
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            named(test, seen)
        else:
            name = name_of(test.id())
            seen[name] = count = seen.get(name, 0) + 1
            test.recorded_as = name if count == 1 else f"{name} #{count}"  # type: ignore


def without(suite: unittest.TestSuite, done: set[str], left_out: list[str]) -> None:
    """Take from the suite what is done, and what is not to be run."""
    kept: list[Any] = []
    for test in suite._tests:  # type: ignore[attr-defined]
        if isinstance(test, unittest.TestSuite):
            without(test, done, left_out)
        else:
            name = test.recorded_as
            if name in done or any(fnmatch.fnmatchcase(name, p) for p in left_out):
                continue
        kept.append(test)
    suite._tests = kept  # type: ignore[attr-defined]


def run(module: str, left_out: list[str], path: str, number: int) -> None:
    """Called where the tests are to run."""
    # The number is part of the names of their temporary files.
    real = os.getpid
    os.getpid = lambda: real() * 10 + number
    try:
        from test.support import os_helper  # noqa: F401
    finally:
        os.getpid = real
    from test import support

    # Tests write to the first folder of the path, which is not to be this one.
    sys.path.append(sys.path[0])
    sys.path[0] = os.getcwd()
    support.verbose = False
    support.use_resources = dict.fromkeys(RESOURCES)
    support.record_original_stdout(sys.stdout)
    Result.record = Record(path)
    try:
        suite = unittest.defaultTestLoader.loadTestsFromModule(importlib.import_module(module))
    except unittest.SkipTest as error:
        Result.record.end(module, "skipped", str(error))
        Result.record.end(ALL, "passed")
        return
    named(suite, {})
    without(suite, Result.record.done, left_out)
    # Not sys.stderr, which is written by and by in an interpreter: some tests put other
    # files in the place of descriptor 2.
    with os.fdopen(os.dup(2), "w", errors="backslashreplace") as stream:
        unittest.TextTestRunner(stream, resultclass=Result, verbosity=2).run(suite)
    Result.record.end(ALL, "passed")


def run_inside(module: str, left_out: list[str], paths: list[str]) -> None:
    """Run it in as many interpreters at once as there are records."""
    import atoll
    import cpython_in

    def run_one(number: int) -> None:
        interps[number].call(cpython_in.run, module, left_out, paths[number], number)

    with contextlib.ExitStack() as stack:
        interps = [
            stack.enter_context(atoll.create(f"suite-{number}")) for number in range(len(paths))
        ]
        # What sends the process a SIGINT means to interrupt itself.
        signal.signal(signal.SIGINT, lambda *_: [interp.interrupt() for interp in interps])
        if len(paths) == 1:
            run_one(0)
        else:
            with concurrent.futures.ThreadPoolExecutor(len(paths)) as pool:
                list(pool.map(run_one, range(len(paths))))


def main() -> None:
    where, module, patterns, *paths = sys.argv[1:]
    left_out = json.loads(patterns)
    if where == "main":
        import cpython_in

        # It may have been ignored, as in a background job; some tests send one.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        cpython_in.run(module, left_out, paths[0], 0)
    else:
        run_inside(module, left_out, paths)


if __name__ == "__main__":
    main()
