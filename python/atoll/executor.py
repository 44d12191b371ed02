"""InterpreterPoolExecutor: concurrent.futures on interpreters."""

from __future__ import annotations

import itertools
import os
import sys
import weakref
from collections import deque
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass
from time import monotonic
from types import CoroutineType

from . import _core
from ._check import (
    check_callable,
    check_int,
    check_iterable,
    check_mapping,
    check_number,
    check_seconds,
    check_tuple,
)
from ._plan import check_name, is_isolated, make_setup
from ._tasks import exit as _exit
from ._tasks.call import named_after
from ._tasks.future import Future, forget_notes
from .errors import ForkedError, NotShareableError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
    from types import TracebackType
    from typing import Any, Literal, overload

__all__ = ["InterpreterPoolExecutor", "PoolStats", "WorkerStats"]

_MAX_WORKERS = 10_000
_MOST_NAMED = 8  # of those who are busy, in a repr


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
        is broken. It may be an `async def`; what it begins in the worker's event loop
        goes on while later tasks run there.
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
      follow (bool, or iterable of str): as of create(): the surroundings of whoever
        submits a task are those of the worker that runs it.

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
        follow: bool | Iterable[str] = True,
    ) -> None:
        _exit.check("make an executor")
        if max_workers is None:
            max_workers = os.process_cpu_count() or 1
        max_workers = check_int(max_workers, "max_workers")
        if max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        if max_workers > _MAX_WORKERS:
            raise ValueError(f"max_workers must be at most {_MAX_WORKERS}")
        if initializer is not None and not callable(initializer):
            raise TypeError(
                f"initializer must be a callable or None, not {type(initializer).__name__}"
            )
        if max_tasks_per_child is not None:
            max_tasks_per_child = check_int(
                max_tasks_per_child, "max_tasks_per_child", "an int or None"
            )
            if max_tasks_per_child <= 0:
                raise ValueError("max_tasks_per_child must be >= 1")
        check_seconds(grace, "grace")
        check_seconds(exit_grace, "exit_grace")
        nice = check_int(nice, "nice")
        if not 0 <= nice <= 19:
            raise ValueError("nice must be from 0 to 19")
        name = check_name(name) or check_name(thread_name_prefix, "thread_name_prefix")
        name = name or f"InterpreterPoolExecutor-{InterpreterPoolExecutor._counter()}"
        self._name = name
        self._max_workers = max_workers
        self._grace = grace
        self._exit_grace = exit_grace
        self._pool = _core.Pool(
            name,
            max_workers,
            is_isolated(extensions),
            make_setup(preload, follow),
            None
            if initializer is None
            else (initializer, check_tuple(initargs, "initargs"), {}),
            min(max_tasks_per_child or 0, sys.maxsize),
            grace,
            nice,
        )
        _executors.add(self)

    def __del__(self, drop: Any = _exit.drop) -> None:
        if "_pool" in self.__dict__:  # else there is none
            drop(self._pool, self._name, self._exit_grace)

    def __repr__(self) -> str:
        try:
            queued, strays, _, closed, why, workers = self._pool.state()
        except ForkedError:
            return f"<{type(self).__name__} {self._name!r}: of the parent process>"
        alive = sum(worker[0] is not None for worker in workers)
        busy = [worker[0] for worker in workers if worker[4] is not None]
        parts = [f"{alive} of {self._max_workers} workers"]
        if busy:
            who = ", ".join(map(str, busy[:_MOST_NAMED]))
            more = ", …" if len(busy) > _MOST_NAMED else ""
            plural = "s" if len(busy) > 1 else ""
            parts.append(f"{len(busy)} busy (interpreter{plural} {who}{more})")
        if strays:
            parts.append(f"{strays} left to themselves")
        if queued or not (why or closed):
            parts.append(f"{queued} queued")
        if why or closed:
            parts.append("broken" if why else "shut down")
        return f"<{type(self).__name__} {self._name!r}: {', '.join(parts)}>"

    # ------------------------------------------------------------- submitting

    if TYPE_CHECKING:

        @overload
        def submit[**P, R](
            self, fn: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs
        ) -> Future[R]: ...
        @overload
        def submit[**P, R](
            self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
        ) -> Future[R]: ...

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Queue ``fn(*args, **kwargs)`` and return its Future. Does not block.

        Raises NotShareableError if something in the call cannot be sent;
        RuntimeError after shutdown(), and as create() does; BrokenInterpreterPool.
        """
        return self._pool.submit(Future, fn, args, kwargs, None)

    if TYPE_CHECKING:
        # What is in a tuple is compared with what the function takes. What goes by name
        # is not, nor what is in another iterable: no type can say that.

        @overload
        def submit_with[*Ts, R](
            self,
            fn: Callable[[*Ts], Coroutine[Any, Any, R]],
            args: tuple[*Ts],
            kwargs: None = None,
            *,
            timeout: float | None = None,
        ) -> Future[R]: ...
        @overload
        def submit_with[*Ts, R](
            self,
            fn: Callable[[*Ts], R],
            args: tuple[*Ts],
            kwargs: None = None,
            *,
            timeout: float | None = None,
        ) -> Future[R]: ...
        @overload
        def submit_with[R](
            self,
            fn: Callable[..., Coroutine[Any, Any, R]],
            args: Iterable[Any],
            kwargs: Mapping[str, Any],
            *,
            timeout: float | None = None,
        ) -> Future[R]: ...
        @overload
        def submit_with[R](
            self,
            fn: Callable[..., R],
            args: Iterable[Any],
            kwargs: Mapping[str, Any],
            *,
            timeout: float | None = None,
        ) -> Future[R]: ...
        @overload
        def submit_with[R](
            self,
            fn: Callable[..., Coroutine[Any, Any, R]],
            args: tuple[()] | list[Any] | Iterator[Any] = (),
            kwargs: Mapping[str, Any] | None = None,
            *,
            timeout: float | None = None,
        ) -> Future[R]: ...
        @overload
        def submit_with[R](
            self,
            fn: Callable[..., R],
            args: tuple[()] | list[Any] | Iterator[Any] = (),
            kwargs: Mapping[str, Any] | None = None,
            *,
            timeout: float | None = None,
        ) -> Future[R]: ...

    def submit_with(
        self,
        fn: Callable[..., Any],
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,
    ) -> Future[Any]:
        """As submit(), with a limit.

        Args:
          fn: what to call.
          args, kwargs: with what.
          timeout (float | None): seconds that the task may run, once it has begun.
            Then it ends with TimeoutError, and its code is stopped as by
            Future.cancel(). With 0 it ends so at once, and is not begun.
        """
        return self._pool.submit(
            Future, fn, check_tuple(args, "args"), check_mapping(kwargs, "kwargs"), timeout
        )

    if TYPE_CHECKING:
        # As builtins.map() has them. That the function takes what is in the iterables is
        # more than the base class asks for.

        @overload  # type: ignore[override]
        def map[A, R](
            self,
            fn: Callable[[A], Coroutine[Any, Any, R]],
            first: Iterable[A],
            /,
            *,
            timeout: float | None = None,
            chunksize: int = 1,
            buffersize: int | None = None,
        ) -> Iterator[R]: ...
        @overload
        def map[A, R](
            self,
            fn: Callable[[A], R],
            first: Iterable[A],
            /,
            *,
            timeout: float | None = None,
            chunksize: int = 1,
            buffersize: int | None = None,
        ) -> Iterator[R]: ...
        @overload
        def map[A, B, R](
            self,
            fn: Callable[[A, B], Coroutine[Any, Any, R]],
            first: Iterable[A],
            second: Iterable[B],
            /,
            *,
            timeout: float | None = None,
            chunksize: int = 1,
            buffersize: int | None = None,
        ) -> Iterator[R]: ...
        @overload
        def map[A, B, R](
            self,
            fn: Callable[[A, B], R],
            first: Iterable[A],
            second: Iterable[B],
            /,
            *,
            timeout: float | None = None,
            chunksize: int = 1,
            buffersize: int | None = None,
        ) -> Iterator[R]: ...
        @overload
        def map[A, B, C, R](
            self,
            fn: Callable[[A, B, C], Coroutine[Any, Any, R]],
            first: Iterable[A],
            second: Iterable[B],
            third: Iterable[C],
            /,
            *,
            timeout: float | None = None,
            chunksize: int = 1,
            buffersize: int | None = None,
        ) -> Iterator[R]: ...
        @overload
        def map[A, B, C, R](
            self,
            fn: Callable[[A, B, C], R],
            first: Iterable[A],
            second: Iterable[B],
            third: Iterable[C],
            /,
            *,
            timeout: float | None = None,
            chunksize: int = 1,
            buffersize: int | None = None,
        ) -> Iterator[R]: ...
        @overload
        def map[R](
            self,
            fn: Callable[..., Coroutine[Any, Any, R]],
            first: Iterable[Any],
            second: Iterable[Any],
            third: Iterable[Any],
            fourth: Iterable[Any],
            /,
            *iterables: Iterable[Any],
            timeout: float | None = None,
            chunksize: int = 1,
            buffersize: int | None = None,
        ) -> Iterator[R]: ...
        @overload
        def map[R](
            self,
            fn: Callable[..., R],
            first: Iterable[Any],
            second: Iterable[Any],
            third: Iterable[Any],
            fourth: Iterable[Any],
            /,
            *iterables: Iterable[Any],
            timeout: float | None = None,
            chunksize: int = 1,
            buffersize: int | None = None,
        ) -> Iterator[R]: ...

    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[Any]:
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
        and results are copied. Results come in order. What a call raises is raised in
        its place, and the iterator can go on after it; so it is, with `buffersize`,
        with an argument that cannot be sent and with a pool that has been shut down in
        the meantime. When its time is over, or the iterator is dropped after a result
        has been asked for, the calls that have not begun are cancelled. One that is
        dropped at once, as by ``pool.map(save, items)``, leaves them to be made.
        """
        check_callable(fn, "fn")
        for number, iterable in enumerate(iterables):
            check_iterable(iterable, f"iterables[{number}]")
        chunksize = min(check_int(chunksize, "chunksize"), sys.maxsize)
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if buffersize is not None:
            buffersize = check_int(buffersize, "buffersize", "an integer or None")
            buffersize = min(buffersize, sys.maxsize)
            if buffersize < 1:
                raise ValueError("buffersize must be None or > 0")
        check_number(timeout, "timeout")
        end = None if timeout is None else monotonic() + timeout
        calls: Iterator[tuple[Any, ...]] = zip(*iterables, strict=False)
        if chunksize > 1:
            # Each is the one argument of a call that does all of them.
            chunks = iter(lambda: tuple(itertools.islice(calls, chunksize)), ())
            results = _Results(self, named_after(fn, _run_chunk), zip(chunks), end)
            results.start(buffersize)
            return _Chunks(results)
        results = _Results(self, fn, calls, end)
        results.start(buffersize)
        return results

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
        try:
            if exc_type is not None and issubclass(exc_type, KeyboardInterrupt):
                self.stop()
                if exc is not None:
                    forget_notes(exc, [self._name])
            else:
                self.shutdown()
        except ForkedError:
            pass  # in the block there was a fork, and this is the child

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


def _run_chunk(
    fn: Callable[..., Any], chunk: Iterable[tuple[Any, ...]]
) -> list[Any] | Coroutine[Any, Any, list[Any]]:
    results: list[Any] = []
    calls = iter(chunk)
    for call in calls:
        result = fn(*call)
        if isinstance(result, CoroutineType):
            return _run_coroutines(fn, calls, results, result)
        results.append(result)
    return results


async def _run_coroutines(
    fn: Callable[..., Any],
    calls: Iterator[tuple[Any, ...]],
    results: list[Any],
    result: Any,
) -> list[Any]:
    """The rest of a chunk, from the first coroutine on, in the worker's loop."""
    results.append(await result)
    for call in calls:
        result = fn(*call)
        results.append(await result if isinstance(result, CoroutineType) else result)
    return results


class _Results:
    """What map() returns: the results in order.

    What a call raises is raised in its place, and the next results come after it. So
    does what cannot be sent, or comes out of the arguments' iterator, once the calls
    before it have been seen.
    """

    def __init__(
        self,
        executor: InterpreterPoolExecutor,
        fn: Callable[..., Any],
        calls: Iterator[tuple[Any, ...]],
        end: float | None,
    ) -> None:
        # Until it has all calls, and no longer: it goes when nobody else has it.
        self._submit: Callable[..., Future] | None = executor.submit
        self._fn = fn
        self._calls = calls
        self._end = end
        self._call: tuple[Any, ...] | None = None  # the next, not made yet
        self._started: deque[Future | Exception] = deque()
        self._asked = False

    def start(self, count: int | None) -> None:
        """Make the first calls; None: all, and then no others."""
        assert self._submit is not None
        try:
            for call in itertools.islice(self._calls, count):
                self._started.append(self._submit(self._fn, *call))
        except BaseException:
            self.close()
            raise
        if count is None:
            self._submit = None

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        self._asked = True
        try:
            future = self._started.popleft()
        except IndexError:
            raise StopIteration from None
        failed = future if isinstance(future, Exception) else self._outcome(future)
        try:
            self._fill()
        except BaseException:  # Ctrl-C: it is still to be given
            self._started.appendleft(future)
            raise
        if failed is None:
            assert not isinstance(future, Exception)
            return future.result()
        try:
            if isinstance(failed, StopIteration):
                raise RuntimeError("a call of map() raised StopIteration") from failed
            raise failed
        finally:
            del failed, future  # no cycle

    def _outcome(self, future: Future) -> BaseException | None:
        """Wait for it; what it has raised."""
        try:
            return future.exception(None if self._end is None else self._end - monotonic())
        except CancelledError as exc:
            return exc
        except TimeoutError:
            self._started.append(future)
            self.close()
            raise
        except BaseException:  # Ctrl-C: it is still to come
            self._started.appendleft(future)
            raise

    def _fill(self) -> None:
        """Make the next call, if there is one and that is wanted."""
        submit = self._submit
        if submit is None:
            return
        try:
            if self._call is None:
                self._call = next(self._calls, None)
            if self._call is None:
                self._submit = None
                return
            self._started.append(submit(self._fn, *self._call))
        except NotShareableError as exc:
            self._started.append(exc)
        except Exception as exc:  # the pool is closed; or the iterator has failed
            self._submit = None
            self._started.append(exc)
        self._call = None

    def close(self) -> None:
        """Cancel what has not begun. There are no results any more."""
        self._submit = None
        while self._started:
            future = self._started.pop()
            if not isinstance(future, Exception):
                future._retrieve()  # nobody will ask
                future._withdraw()

    def __del__(self) -> None:
        if not self._asked:
            return  # they are made for what they do, not for what they return
        try:
            self.close()
        except ForkedError:
            pass  # in a child, where they are not


class _Chunks:
    """The results of chunks, one at a time."""

    def __init__(self, results: _Results) -> None:
        self._results = results
        self._chunk: Iterator[Any] = iter(())

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        while True:
            for result in self._chunk:
                return result
            self._chunk = iter(next(self._results))

    def close(self) -> None:
        """As _Results.close()."""
        self._chunk = iter(())
        self._results.close()


_executors: weakref.WeakSet[InterpreterPoolExecutor] = weakref.WeakSet()

_exit.register(lambda: [(e._pool, e._name, e._exit_grace) for e in _executors])
