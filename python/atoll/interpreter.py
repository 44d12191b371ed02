"""Interpreters: create them, run code in them, close them (PEP 734)."""

from __future__ import annotations

import _interpreters
from _weakref import ref  # the module weakref takes longer to import than atoll

from . import _core
from .errors import (
    ExecutionFailed,
    InterpreterError,
    InterpreterNotFoundError,
    describe,
)

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing itself takes too long to import
    from collections.abc import Callable, Coroutine, Iterable, Mapping
    from threading import Thread
    from types import CodeType, TracebackType
    from typing import Any, Literal, Self, overload

    from ._tasks.task import Task

__all__ = ["Interpreter", "create", "get_current", "get_main", "list_all", "warm"]

# Where an interpreter that is not atoll's was made, in PEP 734's words.
_WHENCE = {
    _interpreters.WHENCE_UNKNOWN: "unknown",
    _interpreters.WHENCE_RUNTIME: "runtime init",
    _interpreters.WHENCE_LEGACY_CAPI: "legacy C-API",
    _interpreters.WHENCE_CAPI: "C-API",
    _interpreters.WHENCE_XI: "cross-interpreter C-API",
    _interpreters.WHENCE_STDLIB: "_interpreters module",
}

_NO_ID = 1 << 63  # CPython counts with 63 bits

# id -> weak reference to the one Interpreter object of it here
_known: dict[int, ref[Interpreter]] = {}


def _recall(id: int) -> Interpreter | None:
    known = _known.get(id)
    return None if known is None else known()


def _remember(interp: Interpreter) -> None:
    id = interp.id

    def forget(dead: ref[Interpreter]) -> None:
        if _known.get(id) is dead:  # it may have been made anew meanwhile
            del _known[id]

    _known[id] = ref(interp, forget)


class Interpreter:
    """An interpreter: isolated, with its own GIL, on a thread of its own.

    Made by create(). ``Interpreter(id)`` stands for the live interpreter with
    that id, also one that atoll did not make; those can be looked at but not
    run or closed. There is one object per id and interpreter.

    When the last Interpreter object for it, in all interpreters and messages,
    is gone, an interpreter is closed as soon as it is idle. It is a context
    manager that closes. It can be sent through queues and channels, and pickled
    within its process.
    """

    __slots__ = ("__weakref__", "_handle", "_id")

    _id: int
    _handle: _core.Home | None  # None: atoll did not make it

    def __new__(cls, id: int, /) -> Interpreter:
        if not isinstance(id, int):
            raise TypeError(f"id must be an int, got {id!r}")
        id = int(id)
        if id < 0:
            raise ValueError(f"id must be 0 or more, got {id}")
        if id >= _NO_ID:
            raise InterpreterNotFoundError(f"unrecognized interpreter {id}")
        self = _recall(id)
        if self is None:
            handle = _core._find_home(id)
            if handle is None:
                _interpreters.whence(id)  # raises InterpreterNotFoundError
                if _core._find_home(id, True) is not None:
                    raise InterpreterNotFoundError(f"interpreter {id} is being made or closed")
            self = cls._new(id, handle)
        else:
            self.is_running()  # raises if it is closed
        return self

    @classmethod
    def _new(cls, id: int, handle: _core.Home | None) -> Interpreter:
        self = object.__new__(cls)
        self._id = id
        self._handle = handle
        _remember(self)
        return self

    @classmethod
    def _from_handle(cls, handle: _core.Home) -> Interpreter:
        """For the core: the object of a Home, which may be closed already."""
        self = _recall(handle.id)
        if self is None:
            return cls._new(handle.id, handle)
        if self._handle is None:  # it was listed while it was being made
            self._handle = handle
        return self

    def __repr__(self) -> str:
        name = f", name={self.name!r}" if self.name else ""
        return f"Interpreter({self._id}{name})"

    def __hash__(self) -> int:
        return hash(self._id)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.close()
        except InterpreterNotFoundError:
            pass  # closed in the block
        except InterpreterError:
            # Code that does not obey an interrupt still runs there. It is
            # closed when that ends; the block's own error matters more.
            if exc is None:
                raise

    def __reduce__(self) -> tuple[Any, ...]:
        if self._handle is not None:
            self._handle.note()
        return (_unpickle, (self._id, _core._process_token()))

    @property
    def id(self) -> int:
        """The id (int): unique in this process, never used again."""
        return self._id

    @property
    def name(self) -> str:
        """The name given to create() (str), or ''."""
        return "" if self._handle is None else self._handle.name

    @property
    def whence(self) -> str:
        """Where it was made (str): 'atoll', or as PEP 734 says."""
        if self._handle is not None:
            return "atoll"
        return _WHENCE.get(_interpreters.whence(self._id), "unknown")

    def is_running(self) -> bool:
        """Is code running in its __main__ now? (bool)

        Threads that it started do not count. Raises InterpreterNotFoundError
        once it is closed.
        """
        if self._handle is not None:
            return self._handle.is_running()
        return bool(_interpreters.is_running(self._id))

    def _own(self) -> _core.Home:
        if self._handle is None:
            if self._id == 0:
                raise InterpreterError("the main interpreter is always running")
            _interpreters.whence(self._id)  # raises if it is gone
            raise InterpreterError(
                f"unrecognized interpreter {self._id}: atoll did not make it"
            )
        return self._handle

    def exec(self, source: str | bytes | Callable[[], object], /) -> None:
        """Run source code in its ``__main__`` and wait for the end.

        Args:
          source: the code (str, bytes), or a function without arguments and
            free variables, whose body is run as if it were the source.

        Blocks; the GIL is released. A signal that raises here (Ctrl-C) also
        interrupts the code there.

        Raises:
          ExecutionFailed: the code raised, or did not compile.
          InterpreterError: it is running already.
          InterpreterNotFoundError: it is closed.
        """
        handle = self._own()
        ok, value = handle.exec(_as_source(source))
        if not ok:
            excinfo, cause = describe(value)
            raise ExecutionFailed(excinfo) from cause

    def call[**P, T](
        self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Call ``function(*args, **kwargs)`` there and return the result.

        Arguments and result are copied, as through a queue. Functions of
        modules go by name and are imported there; functions of ``__main__``,
        lambdas and closures go by value.

        Blocks, is interrupted and raises as exec() does; NotShareableError if
        an argument or the result cannot cross.
        """
        if not callable(function):
            raise TypeError(f"expected a callable, got {type(function).__name__}")
        ok, value = self._own().call((function, args, kwargs))
        if not ok:
            excinfo, cause = describe(value)
            raise ExecutionFailed(excinfo) from cause
        return value  # type: ignore[no-any-return]

    if TYPE_CHECKING:

        @overload
        def submit[**P, T](
            self,
            function: Callable[P, Coroutine[Any, Any, T]],
            /,
            *args: P.args,
            **kwargs: P.kwargs,
        ) -> Task[T]: ...
        @overload
        def submit[**P, T](
            self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
        ) -> Task[T]: ...

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Task[Any]:
        """Queue ``function(*args, **kwargs)`` there and return its Task at once.

        Tasks run one after the other, between calls of exec() and call(); what is
        queued when the interpreter is closed ends with InterpreterNotFoundError.
        Arguments and result are copied, as in call(). Does not block.

        Raises NotShareableError; InterpreterError if it works for an executor;
        InterpreterNotFoundError.
        """
        from ._tasks.task import Task

        task = Task._queued(self.name or f"interpreter-{self.id}")
        _core._submit(self._own(), task, function, args, kwargs, None)
        return task

    def call_in_thread[**P](
        self, function: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs
    ) -> Thread:
        """Start a thread that does ``call(function, *args, **kwargs)``.

        Returns the started threading.Thread. The result is discarded; an
        exception goes to threading.excepthook. A call that still runs some seconds
        after the end of the program (see close()) is stopped.
        """
        from ._check import check_callable
        from ._tasks.exit import call_in_thread

        check_callable(function, "function")
        return call_in_thread(self, function, args, kwargs)

    def prepare_main(
        self,
        ns: Mapping[str, Any] | Iterable[tuple[str, Any]] | None = None,
        /,
        **kwargs: Any,
    ) -> None:
        """Bind names in its ``__main__``.

        Args:
          ns: a mapping, or an iterable of pairs, of str to objects.
          **kwargs: more of them.

        The objects are copied. All are bound or, on an error, none. Raises as
        exec() does; NotShareableError, ValueError if there is nothing to bind.
        """
        try:
            names = dict(ns, **kwargs) if ns is not None else kwargs
        except (TypeError, ValueError) as exc:
            kind = f"not {type(ns).__name__}"
            raise TypeError(f"ns must be a mapping or an iterable of pairs, {kind}") from exc
        if not names:
            raise ValueError("there is no name to bind")
        for name in names:
            if not isinstance(name, str):
                raise TypeError(f"names must be str, got {name!r}")
            if "\0" in name:
                raise ValueError(f"names must not contain null characters, got {name!r}")
        ok, value = self._own().prepare(names)
        if not ok:
            excinfo, cause = describe(value)
            raise ExecutionFailed(excinfo) from cause

    def interrupt(self) -> bool:
        """Raise KeyboardInterrupt in the code that is running there.

        Returns whether anything was running (bool). Does not wait: the code
        gets it at its next bytecode, or in a blocked call of atoll's at once;
        an event loop that sleeps is woken; a long call into C (time.sleep, say)
        ends first. Where it would break more than the job, in an `__enter__` for
        instance, it comes a moment later. An interrupt never reaches code that
        starts later. Code there may have set a handler of SIGINT, which is called
        instead.
        """
        return self._own().interrupt()

    def close(self, timeout: float | None = None) -> None:
        """End the interpreter: run its exit handlers, free what it owns.

        Its non-daemon threads are waited for. Daemon threads get a second, and
        SystemExit in the middle of it. What it has put into queues stays there;
        tasks of submit() that have not begun end with InterpreterNotFoundError.

        Args:
          timeout (float | None): seconds to wait for running code and for
            threads. None: running code is an error at once, threads are
            waited for without limit.

        Raises:
          InterpreterError: it runs code, or is the current or the main one, or
            threads that do not end still use it, or the timeout was over (it
            then goes on closing if it had begun to). The message names the threads.
            If they are in the way it is open again, but its exit handlers have run:
            code runs there, and cannot make executors.
          InterpreterNotFoundError: it is closed.

        A close that nobody asks for in this way (of a pool's workers, of an
        interpreter that nobody has any more, of all at the end of the program) takes
        five seconds at most, or as many as the environment variable
        ATOLL_CLOSE_LIMIT says ("inf": any number). An interpreter that cannot be
        closed in that time is left to itself, which is said on sys.stderr: it ends
        when its threads do, and nobody waits for it.
        """
        if self._handle is None and self._id == 0:
            raise InterpreterError("cannot close the main interpreter")
        self._own().close(timeout)


_core._set_interpreter_class(Interpreter)


def _as_source(source: object) -> str | CodeType:
    if isinstance(source, str):
        if "\0" in source:
            raise ValueError("source code string cannot contain null characters")
        return source
    if isinstance(source, (bytes, bytearray)):
        return _as_source(source.decode())
    code = getattr(source, "__code__", source)
    if not isinstance(code, type(_as_source.__code__)):
        raise TypeError(f"expected source code or a function, got {type(source).__name__}")
    if code.co_argcount or code.co_kwonlyargcount or code.co_flags & 0x0C:
        raise ValueError(f"function {code.co_name}() must not take arguments")
    if code.co_freevars:
        raise ValueError(f"function {code.co_name}() must not be a closure")
    return code


def _unpickle(id: int, token: int) -> Interpreter:
    if token != _core._process_token():
        raise InterpreterNotFoundError(
            f"interpreter {id} belongs to another process; a handle works "
            "within one process only"
        )
    # A message that holds it knows it even when it has been closed.
    handle = _core._find_home(id, True)
    return Interpreter(id) if handle is None else Interpreter._from_handle(handle)


def create(
    name: str | None = None,
    *,
    extensions: Literal["isolate", "strict"] = "isolate",
    preload: Iterable[str] = (),
    follow: bool | Iterable[str] = True,
) -> Interpreter:
    """Make an interpreter and return it, idle.

    It has its own GIL and runs on a thread of its own, with the `sys.path` of
    the caller. Blocks while it is made (some 10 ms); the GIL is released.

    Args:
      name (str | None): for people: shown in its repr.
      extensions (str): what its imports do with extension modules that do not
        declare support for interpreters with their own GIL, as most do not.
        "isolate": load a private copy of the module's shared object, with
        static data of its own (Linux with glibc, x86-64 and aarch64). "strict":
        CPython's own behaviour: ImportError.
      preload (iterable of str): modules to import there at once.
      follow (bool, or iterable of str): what of the surroundings of whoever gives it
        work it takes over whenever that has changed; True: all of atoll.FOLLOWS,
        False: nothing. ``atoll.FOLLOWS - {"environ"}`` leaves out one of them.

    Raises:
      ValueError: `extensions` is neither; `follow` has a name that is none.
      InterpreterError: CPython or the operating system refused, or a module of
        `preload` cannot be imported.
      RuntimeError: an interpreter of atoll's is importing the module that asks, or
        too many have started one another.
    """
    # Not with the module: `import atoll` would take a twentieth longer.
    from ._plan import check_name, is_isolated, make_setup

    setup = make_setup(preload, follow)
    handle = _core._create(check_name(name), is_isolated(extensions), setup)
    return Interpreter._from_handle(handle)


def warm(
    count: int = 1,
    *,
    preload: Iterable[str] = (),
    extensions: Literal["isolate", "strict"] = "isolate",
    wait: bool = True,
) -> int:
    """Keep interpreters ready, so that making one takes no time.

    create(), executors and tasks take such a spare if it fits: the same `preload` and
    `extensions`, and the `sys.path`, registered types, streams and logging levels of
    now. Another one is then made in the background. Without this function executors
    and tasks have one spare made for the next one of their kind; the environment
    variable ATOLL_SPARES is another number for that, 0 for none.

    Args:
      count (int): how many, up to 16. 0: close all, and make none unasked.
      preload, extensions: as of create().
      wait (bool): until they are ready.

    Returns how many there are (int). Raises RuntimeError as create() does.
    """
    from ._check import check_int
    from ._plan import is_isolated, make_setup

    count = check_int(count, "count")
    if count < 0:
        raise ValueError(f"count must be 0 or more, not {count}")

    return _core._warm(count, is_isolated(extensions), make_setup(preload), wait)


def get_current() -> Interpreter:
    """The interpreter that runs this."""
    return Interpreter(_interpreters.get_current()[0])


def get_main() -> Interpreter:
    """The main interpreter."""
    return Interpreter(_interpreters.get_main()[0])


def list_all() -> list[Interpreter]:
    """All interpreters of this process, also those that atoll did not make."""
    found = []
    for id, _whence in _interpreters.list_all(require_ready=True):
        try:
            found.append(Interpreter(id))
        except InterpreterNotFoundError:
            pass  # being made or closed, or gone since it was listed
    return found
