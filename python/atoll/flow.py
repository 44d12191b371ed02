"""What is built of channels: pipelines, broadcasts, and the way back into one stream.

A pipeline is a row of tasks (interpreters) with channels between them:

    source -> channel -> workers of stage 1 -> channel -> workers of stage 2 -> results

Each channel holds a few items and then makes its senders wait, so a slow stage slows
down what is before it, and nothing piles up. An item travels with its number. Whatever
fails poisons the channels on both sides of it; so the error gets to the source and to
the results, and everybody stops.
"""

from __future__ import annotations

import itertools
import threading
from time import monotonic

from ._core import Queue, RecvChannel, SendChannel, create_channel, select
from ._ends import poison_on_exit
from ._task import spawn
from .errors import ChannelClosed, ChannelError, ChannelFull, ChannelPoisoned, QueueShutDown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType
    from typing import Any, Self

    from ._task import Task

    Stage = Callable[[Any], Any] | tuple[Callable[[Any], Any], int]

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
        function, workers = stage if isinstance(stage, tuple) else (stage, 1)
        if not callable(function):
            raise TypeError(f"expected a callable, got {type(function).__name__}")
        if not isinstance(workers, int):
            raise TypeError(f"workers must be an int, not {type(workers).__name__}")
        if workers < 1:
            raise ValueError("a stage needs at least one worker")
        pairs.append((function, workers))
    return pairs


def pipeline(
    source: Iterable[Any] | RecvChannel | Queue,
    *stages: Stage,
    ordered: bool = True,
    capacity: int | None = None,
    name: str = "pipeline",
) -> Pipeline:
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


class Pipeline:
    """The results of pipeline(); see there."""

    def __init__(
        self,
        source: Iterable[Any] | RecvChannel | Queue,
        stages: list[tuple[Callable[[Any], Any], int]],
        ordered: bool,
        capacity: int | None,
        name: str,
    ) -> None:
        if capacity is not None and capacity < 0:
            raise ValueError("capacity must be 0 or more")
        self._name = name
        self._stop = False
        self._error: BaseException | None = None  # of the source
        self._early: dict[int, Any] | None = {} if ordered else None
        self._next = 0
        self._tasks: list[Task] = []
        self._ends: list[SendChannel] = []
        items = _items(source)
        rooms = [2 * workers if capacity is None else capacity for _, workers in stages]
        rooms.append(rooms[-1])
        recv, first = create_channel(rooms[0])
        self._ends.append(first)
        try:
            for number, (function, workers) in enumerate(stages):
                recv = self._start_stage(recv, function, workers, rooms[number + 1])
        except BaseException:
            self.close()
            raise
        self._results = recv
        # What may be under way at once: else what is ready early, and has to wait for
        # its turn, would pile up.
        under_way = sum(rooms) + len(self._tasks) + 1
        self._credit = threading.Semaphore(under_way)
        self._feeder = threading.Thread(
            target=self._feed, args=(items, first), name=f"atoll-{name}", daemon=True
        )
        self._feeder.start()

    def _start_stage(
        self, recv: RecvChannel, function: Callable[[Any], Any], workers: int, room: int
    ) -> RecvChannel:
        results, send = create_channel(room)
        self._ends.append(send)
        for _ in range(workers):
            name = f"{self._name}-{len(self._tasks)}"
            self._tasks.append(Task(_work, (function, recv, send), name=name).start())
        return results

    # ------------------------------------------------------------- the source

    def _feed(self, items: Iterator[Any], send: SendChannel) -> None:
        """In a thread: until the source ends, or somebody stops the pipeline."""
        try:
            for numbered in enumerate(items):
                self._credit.acquire()
                if self._stop:
                    return
                send.send(numbered)
            send.close()
        except (ChannelPoisoned, ChannelClosed) as exc:
            if exc.__traceback__ is not None and exc.__traceback__.tb_next is not None:
                self._fail(exc, send)  # not ours: the source has raised it
        except BaseException as exc:
            self._fail(exc, send)

    def _fail(self, exc: BaseException, send: SendChannel) -> None:
        self._error = exc
        send.poison(exc)

    # ------------------------------------------------------------ the results

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        if self._stop:
            raise StopIteration
        early, number = self._early, self._next
        try:
            if early is None:
                value = self._results.recv()[1]
            else:
                while number not in early:
                    n, value = self._results.recv()
                    early[n] = value
                value = early.pop(number)
        except ChannelClosed:
            self.close()
            for task in self._tasks:
                task.result()  # one that was cancelled, say
            raise StopIteration from None
        except ChannelPoisoned as exc:
            error = self._error or exc.reason or exc
            self.close()
            raise error from error.__cause__
        self._next += 1
        self._credit.release()
        return value

    # ------------------------------------------------------------------- ends

    def close(self) -> None:
        """Stop it: what has not come out is dropped. Waits until its workers have ended
        or, if they do not stop within their grace, have been left to themselves."""
        if not self._stop:
            self._stop = True
            for end in self._ends:
                end.poison()
            for task in self._tasks:
                task.cancel()
            if hasattr(self, "_credit"):
                self._credit.release()
        for task in self._tasks:
            task._settled_and_left()

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
        alive = sum(task.is_alive() for task in self._tasks)
        state = "stopped" if self._stop else f"{alive} of {len(self._tasks)} workers"
        return f"<Pipeline {self._name!r}: {self._next} results, {state}>"
