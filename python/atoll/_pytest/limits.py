"""Time limits of pytest-timeout in a worker, where there is no SIGALRM."""

from __future__ import annotations

import signal
import threading

import pytest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

#: A test has as long again as its limit to raise, but no less and no more seconds than
#: these. One that is in a call into C does not.
_GRACE = 1.0, 5.0


class Limits:
    """Sets the timers of pytest-timeout: a test that takes too long is interrupted and
    fails, whatever the method is; one that goes on is reported by `stuck`.

    Args:
      stuck: is called, in a thread, with a text that says so.
    """

    def __init__(self, stuck: Callable[[str], None]) -> None:
        self._stuck = stuck

    @pytest.hookimpl(optionalhook=True)
    def pytest_timeout_set_timer(self, item: pytest.Item, settings: Any) -> bool:
        text = f"Timeout (>{settings.timeout}s) from pytest-timeout."
        before = signal.getsignal(signal.SIGINT)
        grace = min(max(settings.timeout, _GRACE[0]), _GRACE[1])
        over = threading.Event()  # the test has ended
        due = False

        def handle(number: int, frame: Any) -> None:
            __tracebackhide__ = True
            nonlocal due
            if due:
                due = False
                pytest.fail(text)
            if callable(before):
                before(number, frame)

        def watch() -> None:
            nonlocal due
            if over.wait(settings.timeout):
                return
            due = True
            signal.raise_signal(signal.SIGINT)
            if not over.wait(grace):
                self._stuck(text)

        def cancel() -> None:
            over.set()
            thread.join()
            signal.signal(signal.SIGINT, before)

        thread = threading.Thread(target=watch, name="time limit", daemon=True)
        signal.signal(signal.SIGINT, handle)
        item.cancel_timeout = cancel  # type: ignore[attr-defined]
        thread.start()
        return True
