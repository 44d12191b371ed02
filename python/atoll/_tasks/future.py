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
from collections import deque
from concurrent.futures import CancelledError
from concurrent.futures import Future as _Future
from concurrent.futures._base import (
    CANCELLED_AND_NOTIFIED,
    FINISHED,
    LOGGER,
    PENDING,
    RUNNING,
)
from types import FunctionType

from .. import _core
from .._check import check_callable
from ..errors import (
    ForkedError,
    InterpreterError,
    InterpreterNotFoundError,
    NotShareableError,
    describe,
)
from .dispatch import dispatcher

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable
    from typing import Any, Self, TypeVar

    T = TypeVar("T", default=Any)
    Callback = Callable[[Any], object]

__all__ = ["Future"]

_watch_key = "_watch"


def _forked() -> None:
    """In the child of a fork: the dispatcher's threads and queues are the parent's.

    So are its futures, and their conditions, which a thread may have held that is not
    there: what this process watches, it watches anew.
    """
    global _watch_key
    _watch_key = f"_watch_{os.getpid()}"
    dispatcher.reset()


os.register_at_fork(after_in_child=_forked)


class _Watch:
    """What a future has from the first look at its insides on."""

    __slots__ = (
        "begun", "callbacks", "cancelling", "condition", "prompt", "settled", "waiters",
    )

    def __init__(self) -> None:
        self.condition = threading.Condition()
        self.waiters: list[Any] = []
        # The callbacks of people, and those that are known to do nothing that takes
        # time, or waits, or may come back here.
        self.callbacks: deque[Callback] = deque()
        self.prompt: list[Callback] = []
        self.cancelling: list[object] = []  # calls of cancel(), which call them back
        self.begun = False  # what follows is true
        self.settled = False  # it is done, for those who look at it


def _is_prompt(fn: object) -> bool:
    """Is it asyncio's own? Then it tells a loop, and that is all."""
    return type(fn) is FunctionType and fn.__module__ == "asyncio.futures"


# Its parameter is a string: typing is not imported.
class Future(_core.Job["T"], _Future["T"]):
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
        return self._cancel_it(False)

    def _withdraw(self) -> bool:
        """cancel(), if it has not begun."""
        return self._cancel_it(True)

    def _cancel_it(self, queued_only: bool) -> bool:
        watch: _Watch | None = self.__dict__.get(_watch_key)
        if watch is None:
            return self._cancel(queued_only) or self.cancelled()
        mine, this = False, object()
        try:
            with watch.condition:
                # What it calls back is called here, though the dispatcher may be quicker.
                watch.cancelling.append(this)
            mine = self._cancel(queued_only)
            if mine:
                self._settle()
                while (callback := self._next_callback()) is not None:
                    self._call(callback, Exception)
        finally:
            with watch.condition:
                if this in watch.cancelling:  # no interrupt was before
                    watch.cancelling.remove(this)
                alone = not watch.cancelling
                left = alone and watch.settled and bool(watch.callbacks)
            if left:  # it has ended by itself, or one of them exits
                dispatcher.take(self)
        return mine or self.cancelled()

    # ---------------------------------------------------------- being watched

    def _get_condition(self) -> threading.Condition:
        watch = self._watch_it()
        self._retrieve()
        if not watch.settled and self.done():
            # Before the caller has it: whoever has seen the result sees the state.
            self._settle()
        return watch.condition

    def _get_waiters(self) -> list[Any]:
        return self._watch_it().waiters

    def _watch_it(self) -> _Watch:
        """From now on the state changes only with the condition held."""
        attributes = self.__dict__
        watch: _Watch | None = attributes.get(_watch_key)
        if watch is None:
            watch = attributes.setdefault(_watch_key, _Watch())
        if not watch.begun:
            with watch.condition:
                if not watch.begun:
                    watch.settled = self.done() or not dispatcher.watch(self)
                    watch.begun = True
        return watch

    def _get_state(self) -> str:
        # Not done() alone: nothing changes under the eyes of who holds the condition.
        watch: _Watch | None = self.__dict__.get(_watch_key)
        if not (self.done() if watch is None or not watch.begun else watch.settled):
            return RUNNING if self.running() or self.done() else PENDING
        return CANCELLED_AND_NOTIFIED if self.cancelled() else FINISHED

    # To type checkers attributes, as those of the base class: as_completed() and wait()
    # are declared to take what has these.
    _condition: threading.Condition = property(_get_condition)  # type: ignore[assignment]
    _waiters: list[Any] = property(_get_waiters)  # type: ignore[assignment]
    _state: str = property(_get_state)  # type: ignore[assignment]

    def _settle(self) -> bool:
        """It is done: tell those who wait. Returns whether there are callbacks to be
        called. Any thread; runs none of them."""
        watch = self._watch_it()  # whoever asked for it may not be through with that
        with watch.condition:
            if not watch.settled:
                watch.settled = True
                for waiter in watch.waiters:
                    if self.cancelled():
                        waiter.add_cancelled(self)
                    elif self._failed():
                        waiter.add_exception(self)
                    else:
                        waiter.add_result(self)
                watch.condition.notify_all()
            prompt = watch.prompt.copy()
            watch.prompt.clear()
            due = bool(watch.callbacks) and not watch.cancelling
        for fn in prompt:
            self._call(fn, Exception)
        return due

    def _next_callback(self) -> Callback | None:
        """Take the next one out; None if all have been called."""
        try:
            return self._watch_it().callbacks.popleft()
        except IndexError:
            return None

    def _call(self, callback: Callback, caught: type[BaseException]) -> None:
        try:
            callback(self)
        except caught:
            LOGGER.exception("exception calling callback for %r", self)

    def add_done_callback(self, fn: Callable[[Self], object]) -> None:
        """Call ``fn(future)`` when it has ended or been cancelled.

        In a thread of atoll's, in the order of their addition; in this one, at once, if
        it is done. What it raises is logged; if it exits there, that is logged as well.
        It may block, and wait for other futures: they end nevertheless, though their
        callbacks may come a moment later. At the end of the program all get five
        seconds (ATOLL_CLOSE_LIMIT).

        Raises RuntimeError if there is no thread for it; TypeError for what cannot be
        called.
        """
        check_callable(fn, "fn")
        watch = self._watch_it()
        prompt = _is_prompt(fn)
        if not prompt and not watch.settled:
            dispatcher.have_caller()
        self._add(fn, watch.prompt if prompt else watch.callbacks)

    def _when_settled(self, fn: Callback) -> None:
        """As add_done_callback, before the others: it does nothing that takes time."""
        self._add(fn, self._watch_it().prompt)

    def _add(self, fn: Callback, callbacks: list[Callback] | deque[Callback]) -> None:
        self._retrieve()
        watch = self._watch_it()
        if not watch.settled and self.done():
            self._settle()
        with watch.condition:
            if not watch.settled:
                callbacks.append(fn)
                return
        self._call(fn, Exception)

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
        """Raises RuntimeError: only the interpreter that runs the task can begin it."""
        raise RuntimeError("a task of atoll's is set by its interpreter")

    def set_result(self, result: object) -> None:
        """Raises RuntimeError: the result comes from the interpreter that runs the task."""
        raise RuntimeError("a task of atoll's is set by its interpreter")

    def set_exception(self, exception: object) -> None:
        """Raises RuntimeError: as set_result()."""
        raise RuntimeError("a task of atoll's is set by its interpreter")

    def __repr__(self) -> str:
        name = f"<{type(self).__name__} at {id(self):#x} state="
        if not self.done():
            return f"{name}{'running' if self.running() else 'pending'}>"
        if self.cancelled():
            return f"{name}cancelled>"
        try:
            value = self._peek()
        except ForkedError:  # the parent's, and nobody has looked before the fork
            return f"{name}finished>"
        how = "raised" if self._failed() else "returned"
        return f"{name}finished {how} {type(value).__name__}>"

    def __init__(self) -> None:
        raise TypeError(f"{type(self).__name__} objects are made by submit()")

    def __await__(self) -> Generator[Any, None, T]:
        """Wait in an event loop, without a thread, and do as result().

        If the coroutine that waits is cancelled, so is the task.
        """
        return self._outcome().__await__()

    async def _outcome(self) -> T:
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
        if limit == 0:
            return TimeoutError("the task was given no time to run")
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


def forget_notes(exc: BaseException, names: Iterable[str]) -> None:
    """Take out of `exc` what a wait that it has ended has noted: that the task goes on.

    Called when the pools of these names have been stopped after all.
    """
    notes = getattr(exc, "__notes__", None)
    if isinstance(notes, list):
        ends = tuple(f"'{name}'; cancel()" for name in names)
        notes[:] = [
            note
            for note in notes
            if not (str(note).startswith("the task ") and any(end in note for end in ends))
        ]
        if not notes:
            del exc.__notes__


# ------------------------------------------------- outcomes that nobody asks for

# Who exits or is interrupted has been told to, and threads say nothing of it either.
_ASKED_FOR = (SystemExit, KeyboardInterrupt)


def unretrieved(future: Future) -> None:
    """Called by the core: it has failed, nobody has looked at that, and it goes."""
    if LOGGER is None:  # this interpreter is taken apart
        return
    exc = future._peek()
    if not isinstance(exc, _ASKED_FOR):
        # As text: a handler that keeps its records is not to keep the future.
        LOGGER.error(f"Task exception was never retrieved\nfuture: {future!r}", exc_info=exc)


def mourn(status: int, value: Any) -> None:
    """Called by the core where a task has failed whose future was dropped before."""
    if status == _core._JOB_LATE:
        exc: BaseException = TimeoutError("the task ran for too long and was stopped")
    else:
        exc = failure(status, value, "", 0, None)
    if not isinstance(exc, _ASKED_FOR):
        LOGGER.error("Task exception was never retrieved", exc_info=exc)
