"""Run the tests of a package with pytest, here or in an interpreter of atoll.

pytest_in.py main|atoll NAME RECORD [PYTEST ARGS...]. RECORD is a file that gets a line
when a test begins and when it ends. Tests that have ended in it are not run again.
"""

import importlib.util
import os
import sys
import tempfile
from typing import Any

from record import ALL, Record, name_of

#: Packages of tests, and what else pytest is told.
SUITES: dict[str, list[str]] = {
    "numpy": [
        "numpy/_core/tests",
        "numpy/lib/tests",
        "numpy/random/tests",
        "numpy/ma/tests",
        "numpy/fft/tests",
        "numpy/polynomial/tests",
        "numpy/linalg/tests",
        "-mnot slow",
    ],
    "pandas": [
        "pandas/tests/indexing",
        "pandas/tests/io/parser",
        "pandas/tests/groupby",
        "pandas/tests/frame",
        "-mnot slow and not network and not db and not single_cpu",
    ],
    "scipy": [
        "scipy/linalg/tests",
        "scipy/sparse/csgraph/tests",
        "scipy/sparse/linalg",
        "scipy/special/tests",
        "scipy/optimize/tests",
        "-mnot slow and not xslow and not fail_slow",
    ],
}


class Recorder:
    """A plugin of pytest: each line is written at once, since what runs may crash."""

    def __init__(self, path: str) -> None:
        self.record = Record(path)
        self.outcome = ""

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        items[:] = [item for item in items if name_of(item.nodeid) not in self.record.done]

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.outcome = ""
        self.record.start(name_of(nodeid))

    def pytest_runtest_logreport(self, report: Any) -> None:
        outcome = report.outcome
        if hasattr(report, "wasxfail"):
            outcome = "xpassed" if report.passed else "xfailed"
        if report.when == "call" or outcome != "passed":
            if self.outcome in ("", "passed"):
                self.outcome = outcome

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self.record.end(name_of(nodeid), self.outcome or "nothing")


def run(name: str, record: str, args: list[str]) -> int:
    """Called where the tests are to run."""
    import pytest

    spec = importlib.util.find_spec(name)
    assert spec is not None and spec.origin is not None, f"{name} is not installed"
    root = os.path.dirname(os.path.dirname(spec.origin))
    chosen = [
        arg if arg.startswith("-") else os.path.join(root, arg) for arg in args or SUITES[name]
    ]
    with tempfile.TemporaryDirectory() as folder:
        settings = os.path.join(folder, "pytest.ini")
        with open(settings, "w") as file:
            file.write("[pytest]\n")
        # What is written to descriptors cannot be told apart by interpreter.
        options = [
            "-q",
            "--capture=sys",
            "--tb=short",
            "-Wignore",
            "-pno:cacheprovider",
            "-pno:faulthandler",
        ]
        options += [f"-c{settings}", f"--rootdir={root}", f"--basetemp={folder}/tmp"]
        recorder = Recorder(record)
        status = int(pytest.main([*options, *chosen], plugins=[recorder]))
        if status <= 1:  # all were run, though some may have failed
            recorder.record.end(ALL, "passed")
            status = 0
        return status


def main() -> int:
    where, name, record, *args = sys.argv[1:]
    if where == "main":
        return run(name, record, args)
    import atoll
    import pytest_in

    with atoll.create() as interp:
        return int(interp.call(pytest_in.run, name, record, args))


if __name__ == "__main__":
    sys.exit(main())
