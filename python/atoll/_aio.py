"""Asynchronous waits: what an event loop has of atoll, its *hub*.

A loop has one hub, made when something in it has to wait for the first time. The
hub has one CompletionQueue, and that has one descriptor, which the loop watches.
However much is awaited, there is no thread, and nothing is polled: what ends an
operation puts it into the queue and, if that was empty, writes to the descriptor.

For whatever has an event in C (core_event_capsule in ext/base/base.h), a coroutine
waits so:

    await _aio.wait_event(_aio.watcher(event))

where watch() starts to wait and returns the Operation, or None if the event is set
already. When the coroutine is cancelled the operation is. By hand:

    here = _aio.hub()                 # RuntimeError if no loop runs
    token = here.future()
    op = watch(here.cq, token)
    if op is not None:
        await here.wait(op, token)

Cancelling. An operation has happened, or the coroutine is cancelled, never both.
Trio asks before it cancels. asyncio does not: if a send has been accepted by then
(it cannot be called back), the call returns as usual, and the cancellation comes at
the coroutine's next await. What has been received goes back to its place.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Coroutine
from time import monotonic
from typing import Any
from weakref import WeakKeyDictionary

from . import errors
from ._core import (
    CompletionQueue,
    Operation,
    Queue,
    RLock,
    _receive_now,
    _select_now,
    _send_now,
    _take_now,
    select,
)

_NOTHING = object()

type Watch = Callable[[CompletionQueue, Any], Operation | None]


# ------------------------------------------------------------------- asyncio


class _Reader:
    """What an asyncio loop calls when its hub's descriptor is readable.

    Only the loop refers to it: when the loop is closed this goes, and all that was
    awaited in it ends then, not when somebody collects the garbage.
    """

    __slots__ = ("cq",)

    def __init__(self, cq: CompletionQueue) -> None:
        self.cq = cq

    def __call__(self) -> None:
        for future in self.cq.drain():
            if not future.done():
                future.set_result(None)

    def __del__(self) -> None:
        self.cq.close()


class _AsyncioHub:
    """The hub of one asyncio loop, in an attribute of the loop."""

    __slots__ = ("cq",)

    def __init__(self, loop: Any) -> None:
        self.cq = CompletionQueue()
        # No reference to the loop from here: both go at once, without a collector.
        loop.add_reader(self.cq.fileno(), _Reader(self.cq))

    def future(self) -> Any:
        return sys.modules["asyncio"].get_running_loop().create_future()

    async def wait(self, op: Operation, token: Any) -> None:
        """Until `op`, which was started with `token`, has ended."""
        if op.done:
            return
        try:
            await token
        except BaseException as exc:
            if op.cancel() or not _cancel_later(exc):
                raise

    async def wait_within(self, op: Operation, token: Any, seconds: float | None) -> bool:
        """The same, for so long at most. False: it has been cancelled instead."""
        if seconds is None:
            await self.wait(op, token)
            return True
        if op.done:
            return True
        late = False
        loop = sys.modules["asyncio"].get_running_loop()
        end = monotonic() + seconds
        timer: Any = None

        def expire() -> None:
            nonlocal late, timer
            left = end - monotonic()
            if left > 0:  # uvloop counts milliseconds, from a time that it has noted
                timer = loop.call_later(max(left, 0.001), expire)
            elif not token.done() and op.cancel():
                # A token that is done says that it has happened, in this turn of the
                # loop, or that the task is being cancelled, who will see to it.
                late = True
                token.set_result(None)

        timer = loop.call_later(seconds, expire)
        try:
            await token
        except BaseException as exc:
            # If it was too late before it was cancelled, nothing has happened.
            if late or op.cancel() or not _cancel_later(exc):
                raise
        finally:
            timer.cancel()
        return not late


def _cancel_later(exc: BaseException) -> bool:
    """Have the current task cancelled at its next await, if `exc` is that."""
    asyncio = sys.modules["asyncio"]
    if not isinstance(exc, asyncio.CancelledError):
        return False
    task = asyncio.current_task()
    if task is None or not task.cancelling():
        return False
    task.uncancel()  # the same request: it is to be counted once
    task.cancel(*exc.args[:1])
    return True


# ---------------------------------------------------------------------- Trio


class _TrioFuture:
    """What one task waits for; as much of a future as the hub needs."""

    __slots__ = ("op", "ready", "task", "trio")

    def __init__(self, trio: Any) -> None:
        self.trio = trio
        self.task: Any = None
        self.op: Operation | None = None
        self.ready = False

    def set(self) -> None:
        self.ready = True
        task, self.task = self.task, None
        if task is not None:
            self.trio.reschedule(task)

    async def wait(self) -> None:
        if not self.ready:
            self.task = self.trio.current_task()
            await self.trio.wait_task_rescheduled(self._abort)

    def _abort(self, _: object) -> Any:
        """Trio wants to cancel the task."""
        if self.op is not None and not self.op.cancel():
            return self.trio.Abort.FAILED  # it has happened: set() is on its way
        self.task = None
        return self.trio.Abort.SUCCEEDED


class _TrioHub:
    """The hub of one trio.run(), in a run variable."""

    __slots__ = ("cq", "trio")

    def __init__(self, trio: Any) -> None:
        self.trio = trio
        self.cq = CompletionQueue()
        trio.spawn_system_task(self._serve, name="atoll")

    async def _serve(self) -> None:
        """Until the run ends: then Trio cancels it."""
        try:
            fd = self.cq.fileno()
            while True:
                await self.trio.wait_readable(fd)
                for future in self.cq.drain():
                    future.set()
        finally:
            self.cq.close()

    def future(self) -> _TrioFuture:
        return _TrioFuture(self.trio)

    async def wait(self, op: Operation, token: _TrioFuture) -> None:
        if op.done:
            return
        token.op = op
        try:
            await token.wait()
        except BaseException:
            op.cancel()
            raise
        finally:
            token.op = None  # no cycle: it may have the last message

    async def wait_within(
        self, op: Operation, token: _TrioFuture, seconds: float | None
    ) -> bool:
        if seconds is None:
            await self.wait(op, token)
            return True
        # It asks before it cancels: what has happened is not lost.
        with sys.modules["trio"].move_on_after(seconds) as scope:
            await self.wait(op, token)
        return not scope.cancelled_caught


_trio_hubs: Any = None  # trio.lowlevel.RunVar


def _trio_hub(trio: Any) -> _TrioHub:
    global _trio_hubs
    if _trio_hubs is None:
        _trio_hubs = trio.RunVar("atoll", None)
    here: _TrioHub | None = _trio_hubs.get()
    if here is None:
        here = _TrioHub(trio)
        _trio_hubs.set(here)
    return here


# ------------------------------------------------------------------- the hub


def _trio_here() -> Any:
    """The module trio.lowlevel, if the code that runs is a task of Trio's."""
    # Whoever has not imported it does not run in it.
    trio = getattr(sys.modules.get("trio"), "lowlevel", None)
    if trio is not None:
        try:
            trio.current_task()
        except (AttributeError, RuntimeError):
            return None
    return trio


def hub() -> Any:
    """The hub of the loop that runs in this thread; RuntimeError if none does."""
    trio = _trio_here()
    if trio is not None:
        return _trio_hub(trio)
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        raise RuntimeError("no running event loop")
    loop = asyncio.get_running_loop()
    try:
        return loop._atoll_hub
    except AttributeError:
        here = loop._atoll_hub = _AsyncioHub(loop)
        return here


def watcher(event: Any) -> Watch:
    """What wait_event() takes, for the capsule of an event."""
    return lambda cq, token: cq.watch(event, token)


async def wait_event(watch: Watch) -> None:
    """Wait for an event; see the module's documentation."""
    here = hub()
    token = here.future()
    op = watch(here.cq, token)
    if op is not None:
        await here.wait(op, token)


async def shielded(function: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """``await function()`` to its end, also in a coroutine that is being cancelled.

    A cancellation that comes meanwhile is raised afterwards.
    """
    trio = _trio_here()
    anyio = sys.modules.get("anyio")
    if trio is not None:
        with sys.modules["trio"].CancelScope(shield=True):
            await function()
    elif anyio is None:
        await _to_its_end(function)
    else:  # its scopes cancel again and again, until the coroutine has left them
        with anyio.CancelScope(shield=True):
            await _to_its_end(function)


async def _to_its_end(function: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio = sys.modules["asyncio"]
    task = asyncio.get_running_loop().create_task(function())
    cancelled = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as exc:
            cancelled = exc
    task.result()
    if cancelled is not None:
        raise cancelled


# --------------------------------------------- methods of queues and channels


async def get_async(end: Any) -> Any:
    """Queue.get_async and RecvChannel.recv_async."""
    obj = _receive_now(end, _NOTHING)
    if obj is not _NOTHING:
        return obj
    here = hub()
    token = here.future()
    op = here.cq.recv(end, token)
    await here.wait(op, token)
    return op.result()


async def put_async(end: Any, obj: Any, *, unbounditems: Any = None) -> None:
    """Queue.put_async and SendChannel.send_async."""
    op = _send_now(end, obj, unbounditems)
    if op is None:
        return
    here = hub()
    token = here.future()
    here.cq.start(op, token)
    await here.wait(op, token)
    op.result()


async def join_async(queue: Queue) -> None:
    """Queue.join_async."""
    here = hub()
    token = here.future()
    op = here.cq.join(queue, token)
    await here.wait(op, token)
    op.result()


async def take_async(lock: Any) -> bool:
    """acquire_async() of a Lock and a Semaphore, and Event.wait_async."""
    if not _take_now(lock):
        here = hub()
        token = here.future()
        op = here.cq.take(lock, token)
        await here.wait(op, token)
        op.result()
    return True


_numbers: WeakKeyDictionary[Any, int] = WeakKeyDictionary()
_count = itertools.count(1)


def task_number() -> int:
    """The number of the task that runs in this thread, by which it owns; 0: none does."""
    task = None
    trio = _trio_here()
    asyncio = sys.modules.get("asyncio")
    if trio is not None:
        task = trio.current_task()
    elif asyncio is not None:
        try:
            task = asyncio.current_task()
        except RuntimeError:
            return 0
    return 0 if task is None else _numbers.setdefault(task, next(_count))


async def take_as_task(lock: RLock) -> bool:
    """RLock.acquire_async."""
    here = hub()
    number = task_number()
    if not number:
        raise RuntimeError("no task runs that could own it")
    if not _take_now(lock, number):
        token = here.future()
        op = here.cq.take(lock, token, number)
        await here.wait(op, token)
        op.result()
    return True


async def select_async(
    *cases: Any, timeout: float | None = None, default: Any = _NOTHING, priority: bool = False
) -> tuple[int | None, Any]:
    """select(), for a coroutine of asyncio or Trio.

    Args, result and errors are those of select(). If a case is ready it does not
    yield. When it is cancelled, nothing has happened.
    """
    if timeout == 0 or (timeout is None and default is not _NOTHING):
        rest = {} if default is _NOTHING else {"default": default}
        return select(*cases, timeout=0, priority=priority, **rest)
    op = _select_now(cases, priority)
    if isinstance(op, tuple):
        return op
    here = hub()
    token = here.future()
    here.cq.start(op, token)
    if await here.wait_within(op, token, timeout):
        result: tuple[int, Any] = op.result()
        return result
    if default is not _NOTHING:
        return None, default
    raise errors.ChannelTimeout("select: no case was ready in time")


async def next_async(end: Any) -> Any:
    """`async for`: until it is closed, or shut down."""
    over = errors.QueueShutDown if type(end) is Queue else errors.ChannelClosed
    try:
        return await get_async(end)
    except over:
        raise StopAsyncIteration from None
