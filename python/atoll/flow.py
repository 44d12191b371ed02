"""What is built of channels: pipelines, broadcasts, and the way back into one stream.

A pipeline is a row of tasks (interpreters) with channels between them:

    source -> channel -> workers of stage 1 -> channel -> workers of stage 2 -> results

Each channel holds a few items and then makes its senders wait, so a slow stage slows
down what is before it, and nothing piles up. An item travels with its number. Whatever
fails poisons the channels on both sides of it; so the error gets to the source and to
the results, and everybody stops.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from time import monotonic

from ._check import check_callable, check_int, check_iterable, check_seconds, check_tuple
from ._core import Queue, RecvChannel, Semaphore, SendChannel, create_channel, select
from ._ends import poison_on_exit
from ._plan import check_name
from ._tasks.call import named_after
from ._tasks.task import Task
from .errors import (
    ChannelClosed,
    ChannelFull,
    ChannelPoisoned,
    ChannelTimeout,
    QueueShutDown,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType
    from typing import Any, NoReturn, Self, TypeVar, overload

    T_co = TypeVar("T_co", covariant=True, default=Any)
    type _Stage[A, B] = Callable[[A], B] | tuple[Callable[[A], B], int]
    Stage = _Stage[Any, Any]

__all__ = ["Broadcast", "Pipeline", "create_broadcast", "fan_in", "pipeline"]


# ---------------------------------------------------------------- pipelines


def _work(function: Callable[[Any], Any], recv: RecvChannel, send: SendChannel) -> int:
    """A worker, in its interpreter: returns how many items it has done."""
    done = 0
    try:
        with poison_on_exit(recv, send):
            for number, value in recv:
                send.send((number, function(value)))
                done += 1
        send.retire()
    except ChannelPoisoned:
        pass  # somebody else has failed
    except ChannelClosed:
        pass  # nobody wants the results any more
    return done


def _stages(stages: tuple[Stage, ...]) -> list[tuple[Callable[[Any], Any], int]]:
    """As (function, workers)."""
    if not stages:
        raise TypeError("a pipeline needs at least one stage")
    pairs = []
    for stage in stages:
        if not isinstance(stage, tuple):
            stage = stage, 1
        if len(stage) != 2:
            raise TypeError(f"a stage is a callable, or one and a number, not {stage!r}")
        function, workers = stage
        check_callable(function, "a stage")
        workers = check_int(workers, "workers")
        if workers < 1:
            raise ValueError("a stage needs at least one worker")
        pairs.append((function, workers))
    return pairs


if TYPE_CHECKING:
    # Each stage takes what the one before it gives.

    @overload
    def pipeline[A, B](
        source: Iterable[A] | Queue[A],
        first: _Stage[A, B],
        /,
        *,
        ordered: bool = True,
        capacity: int | None = None,
        name: str = "pipeline",
    ) -> Pipeline[B]: ...
    @overload
    def pipeline[A, B, C](
        source: Iterable[A] | Queue[A],
        first: _Stage[A, B],
        second: _Stage[B, C],
        /,
        *,
        ordered: bool = True,
        capacity: int | None = None,
        name: str = "pipeline",
    ) -> Pipeline[C]: ...
    @overload
    def pipeline[A, B, C, D](
        source: Iterable[A] | Queue[A],
        first: _Stage[A, B],
        second: _Stage[B, C],
        third: _Stage[C, D],
        /,
        *,
        ordered: bool = True,
        capacity: int | None = None,
        name: str = "pipeline",
    ) -> Pipeline[D]: ...
    @overload
    def pipeline[A, B, C, D, E](
        source: Iterable[A] | Queue[A],
        first: _Stage[A, B],
        second: _Stage[B, C],
        third: _Stage[C, D],
        fourth: _Stage[D, E],
        /,
        *,
        ordered: bool = True,
        capacity: int | None = None,
        name: str = "pipeline",
    ) -> Pipeline[E]: ...
    @overload
    def pipeline[A, B, C, D, E, F](
        source: Iterable[A] | Queue[A],
        first: _Stage[A, B],
        second: _Stage[B, C],
        third: _Stage[C, D],
        fourth: _Stage[D, E],
        fifth: _Stage[E, F],
        /,
        *,
        ordered: bool = True,
        capacity: int | None = None,
        name: str = "pipeline",
    ) -> Pipeline[F]: ...
    @overload
    def pipeline(
        source: Iterable[Any] | Queue[Any],
        first: Stage,
        second: Stage,
        third: Stage,
        fourth: Stage,
        fifth: Stage,
        sixth: Stage,
        /,
        *stages: Stage,
        ordered: bool = True,
        capacity: int | None = None,
        name: str = "pipeline",
    ) -> Pipeline[Any]: ...


def pipeline(
    source: Iterable[Any] | RecvChannel | Queue,
    *stages: Stage,
    ordered: bool = True,
    capacity: int | None = None,
    name: str = "pipeline",
) -> Pipeline[Any]:
    """Put each item of `source` through the stages, which all run at the same time.

        with atoll.pipeline(open("log"), parse, (analyse, 4)) as results:
            for result in results: ...

    Each worker of a stage is an interpreter of its own. What goes from stage to stage
    is copied, as through a channel; functions are sent once to each worker. The source
    is read by a thread of this interpreter, no further ahead than the pipeline has room.

    Args:
      source: an iterable, a RecvChannel, or a Queue (until it is shut down).
      *stages: each a callable with one argument, or a tuple of one and the number of
        its workers (int).
      ordered (bool): results come in the order of the source; else as they are ready.
      capacity (int | None): items that may wait in front of each stage, and as results.
        None: two for each worker.
      name (str): of the workers' interpreters, with the number of the stage.
    Returns:
      Pipeline: an iterator over the results, and a context manager. Leaving the block,
      or close(), stops it.
    Raises:
      TypeError, ValueError: a stage or number is none.
      NotShareableError: a stage cannot be sent. The iterator raises what the source or
      a stage has raised; results that were on their way then are dropped.
    """
    return Pipeline(source, _stages(stages), ordered, capacity, name)


class _Network:
    """Tasks and channels of a pipeline, and the thread that feeds it. Nothing in it
    refers to the Pipeline, which so can be dropped, and then ends it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.stopped = False
        self.error: BaseException | None = None  # of the source
        self.tasks: list[Task] = []
        self.ends: list[RecvChannel] = []
        # Not threading's, whose lock an interrupt may leave locked.
        self.credit = Semaphore(0)

    def start_stage(
        self, recv: RecvChannel, function: Callable[[Any], Any], workers: int, room: int
    ) -> RecvChannel:
        self.ends.append(recv)
        results, send = create_channel(room)
        for _ in range(workers):
            name = f"{self.name}-{len(self.tasks)}"
            task = Task(named_after(function, _work), (recv, send), name=name).start()
            self.tasks.append(task)
            task.add_done_callback(self.on_done)
        send.retire()  # it ends when the workers have left
        return results

    def on_done(self, task: Task) -> None:
        """One that has been cancelled, or could not be made, has poisoned nothing."""
        if not self.stopped and (task.cancelled() or task._failed()):
            try:
                task.result()
            except BaseException as exc:
                self.poison(exc)

    def feed(self, items: Iterator[Any], send: SendChannel) -> None:
        """In a thread: until the source ends, or somebody stops the pipeline."""
        numbered = enumerate(items)
        try:
            while True:
                self.credit.acquire()
                if self.stopped:
                    return
                try:
                    item = next(numbered)
                except StopIteration:
                    send.close()
                    return
                except BaseException as exc:
                    self.error = exc
                    raise
                send.send(item)
        except (ChannelPoisoned, ChannelClosed) as exc:
            send.poison(exc)  # if the source has raised it
        except BaseException as exc:
            self.error = exc
            send.poison(exc)

    def poison(self, exc: BaseException | None = None) -> None:
        for end in self.ends:
            end.poison(exc)

    def stop(self) -> None:
        """Does not wait."""
        if not self.stopped:
            self.stopped = True
            self.poison()
            for task in self.tasks:
                task.cancel()
            self.credit.release()


# Its parameter is a string: typing is not imported.
class Pipeline(Iterator["T_co"]):
    """The results of pipeline(); see there."""

    def __init__(
        self,
        source: Iterable[Any] | RecvChannel | Queue,
        stages: list[tuple[Callable[[Any], Any], int]],
        ordered: bool,
        capacity: int | None,
        name: str,
    ) -> None:
        if capacity is not None:
            capacity = check_int(capacity, "capacity", "an int or None")
            if capacity < 0:
                raise ValueError("capacity must be 0 or more")
        name = check_name(name) or "pipeline"
        items = _items(source)
        self._ordered = ordered
        self._early: dict[int, T_co] = {}  # by the number of its turn
        self._item: tuple[int, T_co] | None = None
        self._next = self._paid = 0
        self._network = network = _Network(name)
        rooms = [2 * workers if capacity is None else capacity for _, workers in stages]
        rooms.append(rooms[-1])
        recv, first = create_channel(rooms[0])
        for number, (function, workers) in enumerate(stages):
            recv = network.start_stage(recv, function, workers, rooms[number + 1])
        network.ends.append(recv)
        self._results = recv
        # What may be under way at once: else what is ready early, and has to wait for
        # its turn, would pile up.
        network.credit.release(sum(rooms) + len(network.tasks) + 1)
        threading.Thread(
            target=network.feed, args=(items, first), name=f"atoll-{name}", daemon=True
        ).start()

    # ------------------------------------------------------------ the results

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T_co:
        network = self._network
        if network.stopped:
            raise StopIteration
        # An interrupt may come after any call, and would take the result of that with it.
        # So what has come is received without one (as `for` does), and kept here until
        # nothing is left to be called.
        early, number = self._early, self._next
        try:
            while number not in early:
                if self._item is None:
                    for self._item in self._results:  # noqa: B020
                        break
                    else:
                        self._finish()
                early[self._item[0] if self._ordered else number] = self._item[1]
                self._item = None
        except ChannelPoisoned as exc:
            error = network.error or exc.reason or exc
            self.close()
            raise error from error.__cause__
        if self._paid <= number:
            network.credit.release()
            self._paid = number + 1
        value = early[number]
        del early[number]
        self._next = number + 1
        return value

    def _finish(self) -> NoReturn:
        """All results have come."""
        try:
            for task in reversed(self._network.tasks):
                task.result()  # they have left, or failed
        finally:
            self.close()
        raise StopIteration

    # ------------------------------------------------------------------- ends

    def close(self) -> None:
        """Stop it: what has not come out is dropped. Waits until its workers have ended
        or, if they do not stop within their grace, have been left to themselves."""
        self._network.stop()
        for task in self._network.tasks:
            task._settled_and_left()

    def __del__(self) -> None:
        if "_network" in self.__dict__:
            self._network.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        tasks = self._network.tasks
        alive = sum(task.is_alive() for task in tasks)
        state = "stopped" if self._network.stopped else f"{alive} of {len(tasks)} workers"
        return f"<Pipeline {self._network.name!r}: {self._next} results, {state}>"


def _items(source: Iterable[Any] | RecvChannel | Queue) -> Iterator[Any]:
    if isinstance(source, Queue):
        return _drain(source)
    check_iterable(source, "source", "an iterable, a RecvChannel or a Queue")
    return iter(source)


def _drain(queue: Queue) -> Iterator[Any]:
    try:
        while True:
            yield queue.get()
    except QueueShutDown:
        pass


# ----------------------------------------------------------- fan-in, fan-out


def fan_in[T](*ends: RecvChannel[T] | Queue[T]) -> Iterator[T]:
    """Iterate over what comes from any of `ends`, until all of them are closed.

    Blocks as select() does, for all at once; of several that have something any one
    comes first. What comes are copies, as of recv(). Raises ChannelPoisoned if one is
    poisoned.
    """
    cases: list[RecvChannel[T] | Queue[T] | None] = list(ends)
    left = len(cases)
    while left:
        try:
            _, value = select(*cases)
        except (ChannelClosed, QueueShutDown) as exc:
            assert exc.case is not None
            cases[exc.case] = None
            left -= 1
        else:
            yield value


def create_broadcast(
    receivers: int, capacity: int = 0
) -> tuple[tuple[RecvChannel, ...], Broadcast]:
    """Make a channel of which each receiver gets every object.

    Args:
      receivers (int): how many.
      capacity (int): objects that may wait for each of them; 0 is a rendezvous.
    Returns:
      (tuple of RecvChannel, Broadcast): the receiving ends, and the one that sends.
      They can be sent to other interpreters.
    """
    receivers = check_int(receivers, "receivers")
    if receivers < 1:
        raise ValueError("a broadcast needs at least one receiver")
    pairs = [create_channel(capacity) for _ in range(receivers)]
    return tuple(recv for recv, _ in pairs), Broadcast(send for _, send in pairs)


class Broadcast:
    """The sending end of create_broadcast(). A context manager that closes."""

    def __init__(self, ends: Iterable[SendChannel]) -> None:
        self._ends = check_tuple(ends, "ends")
        for end in self._ends:
            if not isinstance(end, SendChannel):
                raise TypeError(f"ends must be SendChannels, not {type(end).__name__}")

    def send(self, obj: object, timeout: float | None = None) -> int:
        """Send `obj` to every receiver that has not left; each gets its own copy.

        Blocks until all of them have it, or room for it. Those who are ready get it
        first, and wait for nobody.

        Args:
          obj: anything that crosses.
          timeout (float | None): seconds, for all of them together.
        Returns:
          int: how many have it.
        Raises:
          ChannelClosed: nobody is left.
          ChannelTimeout: not in time; some receivers may have it.
          ChannelPoisoned, NotShareableError: as SendChannel.send().
        """
        check_seconds(timeout, "timeout")
        end = None if timeout is None else monotonic() + timeout
        slow, sent = [], 0
        for channel in self._ends:
            try:
                channel.send_nowait(obj)
                sent += 1
            except ChannelFull:
                slow.append(channel)
            except ChannelClosed:
                pass
        for channel in slow:
            left = None if end is None else max(0.0, end - monotonic())
            try:
                channel.send(obj, left)
                sent += 1
            except ChannelClosed:
                pass
            except ChannelFull:  # no time left
                raise ChannelTimeout("broadcast: a receiver had no room in time") from None
        if not sent:
            raise ChannelClosed("all receivers of the broadcast have left")
        return sent

    def close(self) -> None:
        """No more objects; the receivers get those that were accepted. Does not block."""
        for channel in self._ends:
            channel.close()

    def poison(self, exc: BaseException | None = None) -> int:
        """Poison every channel; returns how many objects were dropped. Does not block."""
        return sum(channel.poison(exc) for channel in self._ends)

    def retire(self) -> None:
        """This interpreter sends no more; closed when all senders have left. Does not
        block."""
        for channel in self._ends:
            channel.retire()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return Broadcast, (self._ends,)

    def __repr__(self) -> str:
        return f"<Broadcast to {len(self._ends)} receivers>"
