"""In a worker: the call that is its life."""

from __future__ import annotations

import os
import sys

from . import alone

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    import atoll


class _Held:
    """sys.stderr until it is let go: what is wrong with the arguments is for main to say."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.text: str | None = ""

    def write(self, text: str) -> int:
        if self.text is None:
            return int(self._file.write(text))
        self.text += text
        return len(text)

    def let_go(self) -> None:
        text, self.text = self.text, None
        if text:
            self._file.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def work(
    number: int,
    args: list[str],
    workerinput: dict[str, Any],
    jobs: atoll.Queue[Any],
    events: atoll.Queue[Any],
    stop: atoll.Event,
) -> str | None:
    """Run a session. Returns why it has not begun (str), or None.

    Args:
      number (int): which worker this is.
      args (list of str): those of main's session.
      workerinput (dict): what plugins find in the configuration.
      jobs: the queue from main: what main knows when its own session starts, or None;
        then the tests.
      events: the queue to main.
      stop: is set when no further test is to run.

    It reads its configuration while main does. For that it asks nobody.
    """
    alone.keep_to_itself()
    import pytest

    from .inside import Inside

    sys.argv = list(workerinput["mainargv"])
    os.environ["PYTEST_XDIST_WORKER"] = workerinput["workerid"]
    os.environ["PYTEST_XDIST_WORKER_COUNT"] = str(workerinput["workercount"])
    os.environ["PYTEST_XDIST_TESTRUNUID"] = workerinput["testrunuid"]
    sys.stderr = held = _Held(sys.stderr)
    inside = Inside(number, workerinput, jobs, events, stop, held)
    pytest.main(args, plugins=[inside])
    return held.text
