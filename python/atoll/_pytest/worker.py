"""In a worker: the call that is its life."""

from __future__ import annotations

import os
import sys

from . import alone

TYPE_CHECKING = False
if TYPE_CHECKING:
    import atoll


def work(number: int, jobs: atoll.Queue, events: atoll.Queue, stop: atoll.Event) -> int:
    """Run a session, and return its status (int).

    Args:
      number (int): which worker this is.
      jobs: the queue from main: what the session is made with, or None, then its tests.
      events: the queue to main.
      stop: is set when no further test is to run.

    What it imports before it knows what for is what takes the time.
    """
    alone.keep_to_itself()
    import pytest

    from .inside import Inside

    setup = jobs.get()
    if setup is None:
        return 0
    given = setup["workerinput"]
    sys.argv = list(given["mainargv"])
    os.environ["PYTEST_XDIST_WORKER"] = given["workerid"]
    os.environ["PYTEST_XDIST_WORKER_COUNT"] = str(given["workercount"])
    os.environ["PYTEST_XDIST_TESTRUNUID"] = given["testrunuid"]
    inside = Inside(number, setup, jobs, events, stop)
    return int(pytest.main(setup["args"], plugins=[inside]))
