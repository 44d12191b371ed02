"""Futures of atoll: tasks whose outcome is kept in C.

A Future is an ordinary concurrent.futures.Future for everybody who looks at one,
but what that class does with a lock and a condition per future happens in the core:
the worker completes the task without the GIL of the interpreter that waits, and the
result is decoded when somebody asks for it. Only when a future gets callbacks, or
wait() or as_completed() look at its insides, it is *watched*: then it has the
condition, and one dispatcher thread of the interpreter does the rest.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import CancelledError
from concurrent.futures import Future as _Future
from concurrent.futures._base import (
    CANCELLED_AND_NOTIFIED,
    FINISHED,
    LOGGER,
    PENDING,
    RUNNING,
)

from .. import _core
from ..errors import (
    InterpreterError,
    InterpreterNotFoundError,
    NotShareableError,
    describe,
)
from .dispatch import dispatcher

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Any

    _Base = _Future[Any]
else:
    _Base = _Future

__all__ = ["Future"]

_making = threading.Lock()  # the conditions


def _forked() -> None:
    """In the child of a fork: the dispatcher's thread and queue are the parent's."""
    global _making
    _making = threading.Lock()
    dispatcher.reset()


os.register_at_fork(after_in_child=_forked)


class Future(_core.Job, _Base):
    """The outcome of a task, in this interpreter or elsewhere.

    Made by executors. A concurrent.futures.Future: with wait(), as_completed(),
    asyncio.wrap_future() and callbacks, which run in a thread of their own. It can
    also be awaited directly, in asyncio and trio. cancel() stops a running task.
    """

    # ------------------------------------------------------------- cancelling

    def cancel(self) -> bool:
        """Cancel the task: take it from the queue or, if it runs, stop it.

        The future is cancelled at once. Code that runs gets a KeyboardInterrupt
        at its next bytecode, or at once in a blocked call of atoll's; if it is in
        a long call into C, or goes on, for longer than its pool's grace, its
        worker is left to itself and replaced. Does not wait; see is_alive().

        Returns whether it is cancelled now (bool); False if it had ended.
        """
        return self._cancelled_by(self._cancel(False))

    def _withdraw(self) -> bool:
        """cancel(), if it has not begun."""
        return self._cancelled_by(self._cancel(True))

    def _cancelled_by(self, mine: bool) -> bool:
        if mine and "_watch_condition" in self.__dict__:
            self._settle(self._condition)
            self._call_back()
        return mine or self.cancelled()

    # ---------------------------------------------------------- being watched

    @property
    def _condition(self) -> threading.Condition:  # type: ignore[override]
        self._watch_it()
        condition: threading.Condition = self.__dict__["_watch_condition"]
        if not self.__dict__["_watch_settled"] and self.done():
            # Before the caller has it: whoever has seen the result sees the state.
            self._settle(condition)
        return condition

    @property
    def _waiters(self) -> list[Any]:  # type: ignore[override]
        self._watch_it()
        waiters: list[Any] = self.__dict__["_watch_waiters"]
        return waiters

    def _watch_it(self) -> None:
        """From now on the state changes only with the condition held."""
        attributes = self.__dict__
        if "_watch_condition" in attributes:
            return
        with _making:
            if "_watch_condition" in attributes:
                return
            attributes["_watch_waiters"] = []
            attributes["_watch_callbacks"] = []
            settled = not dispatcher.watch(self)
            attributes["_watch_settled"] = settled
            attributes["_watch_called"] = settled
            attributes["_watch_condition"] = threading.Condition()

    @property
    def _state(self) -> str:  # type: ignore[override]
        # Not done() alone: nothing changes under the eyes of who holds the condition.
        if not self.__dict__.get("_watch_settled", self.done()):
            return RUNNING if self.running() or self.done() else PENDING
        return CANCELLED_AND_NOTIFIED if self.cancelled() else FINISHED

    def _settle(self, condition: threading.Condition) -> None:
        """Tell those who wait in concurrent.futures."""
        attributes = self.__dict__
        with condition:
            if attributes["_watch_settled"]:
                return
            attributes["_watch_settled"] = True
            for waiter in self._waiters:
                if self.cancelled():
                    waiter.add_cancelled(self)
                elif self._failed():
                    waiter.add_exception(self)
                else:
                    waiter.add_result(self)
            condition.notify_all()

    def _call_back(self) -> None:
        """Run the callbacks, those that are added meanwhile too."""
        attributes = self.__dict__
        callbacks = attributes["_watch_callbacks"]
        while True:
            with self._condition:
                if not callbacks:
                    attributes["_watch_called"] = True
                    return
                callback = callbacks.pop(0)
            self._call(callback)

    def _completed(self) -> None:
        """Called by the dispatcher: it is done."""
        self._watch_it()  # whoever asked for it may not be through with that
        self._settle(self._condition)
        self._call_back()

    def _call(self, callback: Callable[[Any], object]) -> None:
        try:
            callback(self)
        except Exception:
            LOGGER.exception("exception calling callback for %r", self)

    def add_done_callback(self, fn: Callable[[Any], object]) -> None:
        """Call ``fn(future)`` when it has ended or been cancelled.

        In the dispatcher's thread, in the order of their addition; in this one, at
        once, if that is over. What it raises is logged.
        """
        with self._condition:
            if not self.__dict__["_watch_called"]:
                self.__dict__["_watch_callbacks"].append(fn)
                return
        self._call(fn)

    # ------------------------------------------------- what else is looked at

    @property
    def _result(self) -> Any:  # type: ignore[override]
        return None if not self.done() or self._failed() else self.result()

    @property
    def _exception(self) -> BaseException | None:  # type: ignore[override]
        return self.exception() if self.done() and not self.cancelled() else None

    def _get_snapshot(self) -> tuple[bool, bool, Any, BaseException | None]:
        if not self.done():
            return False, False, None, None
        if self.cancelled():
            return True, True, None, None
        exception = self.exception()
        return True, False, None if exception else self.result(), exception

    def set_running_or_notify_cancel(self) -> bool:
        raise RuntimeError("a task of atoll's is set by its interpreter")

    def set_result(self, result: object) -> None:
        raise RuntimeError("a task of atoll's is set by its interpreter")

    def set_exception(self, exception: object) -> None:
        raise RuntimeError("a task of atoll's is set by its interpreter")

    def __repr__(self) -> str:
        name = f"<{type(self).__name__} at {id(self):#x} state="
        if not self.done():
            return f"{name}{'running' if self.running() else 'pending'}>"
        if self.cancelled():
            return f"{name}cancelled>"
        if self._failed():
            return f"{name}finished raised {type(self.exception()).__name__}>"
        return f"{name}finished returned {type(self.result()).__name__}>"

    def __init__(self) -> None:
        raise TypeError(f"{type(self).__name__} objects are made by submit()")

    def __await__(self) -> Generator[Any, None, Any]:
        """Wait in an event loop, without a thread, and do as result().

        If the coroutine that waits is cancelled, so is the task.
        """
        return self._outcome().__await__()

    async def _outcome(self) -> Any:
        if not self.done():
            from .._aio import wait_event, watcher

            try:
                await wait_event(watcher(self._event()))
            except BaseException:
                self.cancel()
                raise
        return self.result()


# ------------------------------------------------------------------- outcomes

def failure(status: int, value: Any, pool: str, limit: int, why: str | None) -> BaseException:
    """Called by the core: the exception of a task that has no result."""
    if status == _core._JOB_RAISED:
        return describe(value)[1]
    if status == _core._JOB_UNSENT:
        return NotShareableError(f"the result: {value}")
    if status == _core._JOB_CANCELLED:
        return CancelledError()
    if status == _core._JOB_LATE:
        return TimeoutError(f"the task ran for more than {limit / 1e9:g} s and was stopped")
    if status == _core._JOB_GONE:
        return InterpreterNotFoundError(
            f"interpreter {pool!r} was closed before the task began"
            if pool
            else "the interpreter was closed before the task began"
        )
    if status == _core._JOB_BROKEN:
        from ..errors import BrokenInterpreterPool

        return BrokenInterpreterPool(f"{pool} has no workers any more: {why}")
    if status == _core._JOB_BUSY:
        return InterpreterError("the interpreter was running something else")
    return MemoryError("the interpreter had no memory to describe the task's outcome")
