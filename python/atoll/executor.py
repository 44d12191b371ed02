"""InterpreterPoolExecutor: concurrent.futures on interpreters."""

from __future__ import annotations

import itertools
import os
import weakref
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import monotonic

from . import _core
from ._plan import check_name, is_isolated, make_setup
from ._tasks import exit as _exit
from ._tasks.future import Future

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from types import TracebackType
    from typing import Any, Literal, TypeVar

    T = TypeVar("T")

__all__ = ["InterpreterPoolExecutor", "PoolStats", "WorkerStats"]

_MAX_WORKERS = 10_000


@dataclass(frozen=True)
class WorkerStats:
    """One place of a pool, and who has been there.

    Attributes:
      interpreter (int | None): the id of the one who is there now.
      tasks (int): how many have ended here.
      busy (float): seconds spent in tasks.
      restarts (int): how often a new interpreter came.
      running (float | None): seconds that the task of now has run.
      memory (int): bytes that CPython's allocator of small objects has taken for it.
    """

    interpreter: int | None
    tasks: int
    busy: float
    restarts: int
    running: float | None
    memory: int


@dataclass(frozen=True)
class PoolStats:
    """What a pool is doing.

    Attributes:
      queued (int): tasks that have not begun.
      abandoned (int): interpreters that did not stop, and still run.
      restarts (int): of all workers together.
      broken (str | None): why it is broken.
      workers (tuple[WorkerStats, ...]): one for each of max_workers.
    """

    queued: int
    abandoned: int
    restarts: int
    broken: str | None
    workers: tuple[WorkerStats, ...]


class InterpreterPoolExecutor(ThreadPoolExecutor):
    """Runs calls in a pool of interpreters, each with its own GIL.

    A concurrent.futures.Executor; like the standard library's of this name it derives
    from ThreadPoolExecutor, so that asyncio takes it as its default. Functions,
    arguments and results are copied, as through a queue (see atoll.Queue): functions
    of modules go by name, those of ``__main__``, lambdas and closures by value, once to
    each worker. Coroutines that a function returns (an ``async def``) are run in the
    worker, in an event loop of its own. A worker runs one task at a time.

    Args:
      max_workers (int | None): how many interpreters at most; they are made as they
        are needed. None: the number of cores that this process may use.
      thread_name_prefix (str): for people; the name of the interpreters if `name` is
        None.
      initializer: a callable that each worker calls first. If it raises, the pool
        is broken.
      initargs (tuple): its arguments.
      preload (iterable of str): modules that each worker imports before its
        first task.
      max_tasks_per_child (int | None): a worker is replaced after so many tasks.
      name (str | None): the name of the interpreters.
      extensions (str): as of create().
      grace (float | None): seconds that a cancelled task gets to stop. Then its
        worker is left to itself and replaced. None: no limit.
      exit_grace (float | None): seconds that a task may run on when the program
        ends without shutdown(). What is queued is still run. None: no limit.
      nice (int): the niceness of the workers' threads, 0 to 19, as of nice(1). With 10
        an event loop or a user interface beside more busy workers than cores gets its
        core at once, instead of after the workers' time slices.

    With ``with``, leaving the block waits for all tasks; leaving it with a
    KeyboardInterrupt (Ctrl-C) cancels them.
    """

    # Nothing of the base class is used.
    _counter = itertools.count().__next__

    def __init__(
        self,
        max_workers: int | None = None,
        thread_name_prefix: str = "",
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        preload: Iterable[str] = (),
        max_tasks_per_child: int | None = None,
        name: str | None = None,
        extensions: Literal["isolate", "strict"] = "isolate",
        grace: float | None = 1.0,
        exit_grace: float | None = 5.0,
        nice: int = 0,
    ) -> None:
        _exit.check("make an executor")
        if max_workers is None:
            max_workers = os.process_cpu_count() or 1
        if max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        if max_workers > _MAX_WORKERS:
            raise ValueError(f"max_workers must be at most {_MAX_WORKERS}")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        if max_tasks_per_child is not None:
            if not isinstance(max_tasks_per_child, int):
                raise TypeError("max_tasks_per_child must be an integer")
            if max_tasks_per_child <= 0:
                raise ValueError("max_tasks_per_child must be >= 1")
        for seconds, what in ((grace, "grace"), (exit_grace, "exit_grace")):
            if seconds is not None and not seconds >= 0:
                raise ValueError(f"{what} must be a non-negative number of seconds")
        if not 0 <= nice <= 19:
            raise ValueError("nice must be from 0 to 19")
        name = check_name(name) or thread_name_prefix
        name = name or f"InterpreterPoolExecutor-{InterpreterPoolExecutor._counter()}"
        self._name = name
        self._max_workers = max_workers
        self._grace = grace
        self._exit_grace = exit_grace
        self._pool = _core.Pool(
            name,
            max_workers,
            is_isolated(extensions),
            make_setup(preload),
            None if initializer is None else (initializer, tuple(initargs), {}),
            max_tasks_per_child or 0,
            grace,
            nice,
        )
        _executors.add(self)

    def __del__(self, drop: Any = _exit.drop) -> None:
        if "_pool" in self.__dict__:  # else there is none
            drop(self._pool, self._name, self._exit_grace)

    def __repr__(self) -> str:
        queued, _, _, closed, why, workers = self._pool.state()
        alive = sum(worker[0] is not None for worker in workers)
        state = "broken" if why else "shut down" if closed else f"{queued} queued"
        count = f"{alive} of {self._max_workers} workers"
        return f"<{type(self).__name__} {self._name!r}: {count}, {state}>"

    # ------------------------------------------------------------- submitting

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future:
        """Queue ``fn(*args, **kwargs)`` and return its Future. Does not block.

        Raises NotShareableError if something in the call cannot be sent;
        RuntimeError after shutdown(), and as create() does; BrokenInterpreterPool.
        """
        return self._pool.submit(Future, fn, args, kwargs, None)

    def submit_with(
        self,
        fn: Callable[..., T],
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,
    ) -> Future:
        """As submit(), with a limit.

        Args:
          fn: what to call.
          args, kwargs: with what.
          timeout (float | None): seconds that the task may run, once it has begun.
            Then it ends with TimeoutError, and its code is stopped as by
            Future.cancel().
        """
        return self._pool.submit(Future, fn, tuple(args), dict(kwargs or {}), timeout)

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[T]:
        """As the built-in map(), with the calls made by the workers.

        Args:
          fn, *iterables: as of map().
          timeout (float | None): seconds from now in which all results must be
            there; else iterating raises TimeoutError.
          chunksize (int): how many calls go to a worker at a time.
          buffersize (int | None): how many calls, in chunks, may be made ahead of
            the results that have been taken; None: all, and the iterables are used
            up at once.

        Does not block; the iterator does, until the next result is there. Arguments
        and results are copied. Results come in order. When the iterator is dropped or
        fails, the calls that have not begun are cancelled.
        """
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if buffersize is not None and not isinstance(buffersize, int):
            raise TypeError("buffersize must be an integer or None")
        if buffersize is not None and buffersize < 1:
            raise ValueError("buffersize must be None or > 0")
        end = None if timeout is None else monotonic() + timeout
        calls: Iterator[Any] = zip(*iterables, strict=False)
        submit = self.submit
        if chunksize > 1:
            from functools import partial

            chunks = iter(lambda: tuple(itertools.islice(calls, chunksize)), ())
            futures = (submit(partial(_run_chunk, fn), chunk) for chunk in chunks)
        else:
            futures = (submit(fn, *call) for call in calls)
        started = deque(itertools.islice(futures, buffersize))
        results = _results(started, futures if buffersize else iter(()), end)
        return itertools.chain.from_iterable(results) if chunksize > 1 else results

    # ------------------------------------------------------------------- ends

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Accept no more tasks; the workers end when all are done.

        Args:
          wait (bool): until the workers have ended. Ctrl-C ends the wait.
          cancel_futures (bool): cancel what has not begun.
        """
        self._pool.close(cancel_futures)
        if wait:
            self._pool.wait(None)

    def stop(self) -> None:
        """Cancel everything, also what runs, and end the workers.

        Waits for those that stop within the grace.
        """
        self._pool.close(True)
        self._pool.stop()
        self._pool.wait(None)  # who does not obey is not waited for

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc_type is not None and issubclass(exc_type, KeyboardInterrupt):
            self.stop()
        else:
            self.shutdown()

    # -------------------------------------------------------------------- looking

    def stats(self) -> PoolStats:
        """What the pool and its workers are doing, and have done."""
        queued, strays, restarts, _, why, workers = self._pool.state()
        return PoolStats(
            queued=queued,
            abandoned=strays,
            restarts=restarts,
            broken=why,
            workers=tuple(WorkerStats(*worker) for worker in workers),
        )


def _run_chunk(fn: Callable[..., Any], chunk: Iterable[tuple[Any, ...]]) -> list[Any]:
    return [fn(*call) for call in chunk]


def _results(
    started: deque[Future], futures: Iterator[Future], end: float | None
) -> Iterator[Any]:
    try:
        while started:
            yield _next_result(started, futures, end)  # which nobody here keeps
    finally:
        while started:
            started.pop()._withdraw()


def _next_result(
    started: deque[Future], futures: Iterator[Future], end: float | None
) -> Any:
    future = started.popleft()
    try:
        result = future.result(None if end is None else end - monotonic())
    finally:
        future._withdraw()
    started.extend(itertools.islice(futures, 1))
    return result


_executors: weakref.WeakSet[InterpreterPoolExecutor] = weakref.WeakSet()

_exit.register(lambda: [(e._pool, e._name, e._exit_grace) for e in _executors])
