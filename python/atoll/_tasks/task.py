"""Tasks with an interpreter of their own: Task, spawn, TaskGroup."""

from __future__ import annotations

import itertools

from .. import _core
from .._check import check_callable, check_mapping, check_seconds, check_tuple
from .._plan import check_name, is_isolated, make_setup
from ..errors import ForkedError
from . import exit as _exit
from .future import Future, forget_notes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping
    from types import TracebackType
    from typing import Any, Literal, Self, TypeVar, overload

    T = TypeVar("T", default=Any)

__all__ = ["Task", "TaskGroup", "spawn"]


class Task(Future["T"]):
    """A call in an interpreter of its own: a process of CSP, on a core of its own.

    It has the names of threading.Thread (start, join, is_alive, name) and those of
    concurrent.futures.Future (result, exception, cancel, done, add_done_callback),
    and can be awaited. The interpreter is made when it starts, without waiting for
    that, and closed when the call has ended. Tasks that Interpreter.submit() returns
    run in that interpreter.

    Args:
      target: what to call there.
      args (tuple), kwargs (mapping): with what; copied, as through a queue.
      name (str | None): for people; also the interpreter's.
      timeout (float | None): seconds that the call may run; then it is stopped and
        ends with TimeoutError.
      preload, extensions, follow: as of create().
      grace (float | None): seconds that it gets to stop when it is cancelled. Then
        it is left to itself; None: no limit.
    """

    _counter = itertools.count(1).__next__
    _pool: _core.Pool | None
    _name: str

    if TYPE_CHECKING:

        @overload
        def __init__[R](
            self: Task[R],
            target: Callable[..., Coroutine[Any, Any, R]],
            args: Iterable[Any] = (),
            kwargs: Mapping[str, Any] | None = None,
            *,
            name: str | None = None,
            timeout: float | None = None,
            preload: Iterable[str] = (),
            extensions: Literal["isolate", "strict"] = "isolate",
            grace: float | None = 1.0,
            follow: bool | Iterable[str] = True,
        ) -> None: ...
        @overload
        def __init__[R](
            self: Task[R],
            target: Callable[..., R],
            args: Iterable[Any] = (),
            kwargs: Mapping[str, Any] | None = None,
            *,
            name: str | None = None,
            timeout: float | None = None,
            preload: Iterable[str] = (),
            extensions: Literal["isolate", "strict"] = "isolate",
            grace: float | None = 1.0,
            follow: bool | Iterable[str] = True,
        ) -> None: ...

    def __init__(
        self,
        target: Callable[..., Any],
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        name: str | None = None,
        timeout: float | None = None,
        preload: Iterable[str] = (),
        extensions: Literal["isolate", "strict"] = "isolate",
        grace: float | None = 1.0,
        follow: bool | Iterable[str] = True,
    ) -> None:
        check_callable(target, "target")
        check_seconds(timeout, "timeout")
        check_seconds(grace, "grace")
        self._name = check_name(name) or f"Task-{Task._counter()}"
        self._pool = _core.Pool(
            self._name,
            1,
            is_isolated(extensions),
            make_setup(preload, follow),
            None,
            0,
            grace,
            watched=True,  # a network of tasks that wait for each other comes to an end
        )
        self._grace = grace
        call = check_tuple(args, "args"), check_mapping(kwargs, "kwargs")
        self._call_args = (target, *call, timeout)

    @classmethod
    def _queued(cls, name: str) -> Self:
        """One that an interpreter of that name runs between other things."""
        self = cls.__new__(cls)
        self._name = name
        self._pool = None
        self._grace = None
        return self

    @property
    def name(self) -> str:
        """Its name (str)."""
        return self._name

    def start(self) -> Self:
        """Begin; returns the task. Does not block. Once only.

        Raises NotShareableError if something in the call cannot be sent.
        """
        if self._pool is None:
            raise RuntimeError("a task can be started once only")
        _exit.check("start a task")
        call = self.__dict__.pop("_call_args", None)
        if call is None:
            raise RuntimeError("a task can be started once only")
        try:
            self._pool.submit(self, *call)
        except BaseException:
            self._call_args = call
            raise
        self._pool.close(False)
        _exit.keep(self._pool, f"task {self._name!r}", _EXIT_GRACE)
        return self

    def join(self, timeout: float | None = None) -> None:
        """Wait until its code has ended, for up to `timeout` seconds (float; None:
        for ever). See is_alive()."""
        self._wait(timeout)

    def _settled_and_left(self) -> None:
        """Wait until its interpreter is closed, or it has been left to itself."""
        assert self._pool is not None
        self._pool.wait(None)

    def __repr__(self) -> str:
        return super().__repr__().replace("<Task at", f"<Task {self._name!r} at", 1)


if TYPE_CHECKING:

    @overload
    def spawn[**P, R](
        fn: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Task[R]: ...
    @overload
    def spawn[**P, R](
        fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> Task[R]: ...


def spawn(fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Task[Any]:
    """Start ``fn(*args, **kwargs)`` in an interpreter of its own; return its Task.

    Arguments and result are copied, as through a queue. Does not block, nor wait for
    the interpreter to be made. Raises NotShareableError if something in the call
    cannot be sent; RuntimeError as create() does.
    """
    check_callable(fn, "fn")
    return Task(fn, args, kwargs).start()


class TaskGroup:
    """Tasks that belong together: leaving the block waits for all of them.

    When one fails, the others are cancelled; so they are when the block itself
    raises. All errors come out together, in an ExceptionGroup. Those that do not stop
    within their grace are left to themselves, with a RuntimeWarning.

    Use it with ``with``, or with ``async with`` in asyncio and trio.
    """

    def __init__(self) -> None:
        # No lock: the dispatcher cancels, and must not wait for who starts a task.
        self._tasks: list[Task] = []
        self._aborting = False
        self._open = self._used = False

    def __enter__(self) -> Self:
        if self._used:
            raise RuntimeError("a TaskGroup can be used once only")
        self._open = self._used = True
        return self

    if TYPE_CHECKING:

        @overload
        def spawn[**P, R](
            self, fn: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs
        ) -> Task[R]: ...
        @overload
        def spawn[**P, R](
            self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
        ) -> Task[R]: ...

    def spawn(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Task[Any]:
        """As atoll.spawn(). RuntimeError outside of the block, or once the group is
        being cancelled."""
        check_callable(fn, "fn")
        return self.start(Task(fn, args, kwargs))

    def start[R](self, task: Task[R]) -> Task[R]:
        """Start a Task that was made with options; returns it."""
        if not isinstance(task, Task):
            raise TypeError(f"task must be a Task, not {type(task).__name__}")
        if not self._open:
            raise RuntimeError("the TaskGroup is not open: use it with `with`")
        if self._aborting:
            raise RuntimeError("the TaskGroup is being cancelled")
        task.start()
        self._tasks.append(task)
        if self._aborting:  # since then: it may have been too early for it
            task.cancel()
        task._when_settled(self._on_done)
        return task

    def cancel(self) -> None:
        """Cancel all its tasks. Does not wait."""
        self._aborting = True
        for task in list(self._tasks):
            task.cancel()

    def _on_done(self, task: Task) -> None:
        """Called by the dispatcher, which is not to call back for the others."""
        if task._failed() and not task.cancelled():
            self._aborting = True
            for other in list(self._tasks):
                other._cancel(False)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if exc is not None:
                self.cancel()
            for task in self._tasks:
                task._settled_and_left()
            if isinstance(exc, KeyboardInterrupt):
                forget_notes(exc, [task.name for task in self._tasks])
        except ForkedError:  # the child of a fork in the block: they are the parent's
            if exc is not None:
                return
            raise
        except BaseException:  # Ctrl-C
            self.cancel()
            for task in self._tasks:
                task._settled_and_left()
            raise
        finally:
            self._open = False
        self._raise(exc)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        from .._aio import shielded, wait_event, watcher

        async def wait() -> None:
            for task in self._tasks:
                assert task._pool is not None
                await wait_event(watcher(task._pool.event()))

        try:
            if exc is None:
                await wait()
            else:
                self.cancel()
                await shielded(wait)
        except BaseException:  # the coroutine is cancelled
            self.cancel()
            await shielded(wait)
            raise
        finally:
            self._open = False
        self._raise(exc)

    def _raise(self, exc: BaseException | None) -> None:
        import warnings

        errors: list[BaseException] = []
        if exc is not None:
            if not isinstance(exc, Exception):
                return  # KeyboardInterrupt, SystemExit: as it is
            errors.append(exc)
        for task in self._tasks:
            if task.is_alive():
                warnings.warn(
                    f"task {task.name!r} did not stop within {task._grace:g} s and was "
                    "left to itself",
                    RuntimeWarning,
                    stacklevel=3,
                )
            if not task.cancelled():
                error = task.exception()
                if error is not None:
                    errors.append(error)
        if errors:
            try:
                raise BaseExceptionGroup("unhandled errors in a TaskGroup", errors) from None
            finally:
                errors.clear()  # no cycle through this frame


_EXIT_GRACE = 5.0  # seconds that a task may run on at the end of the program
