"""What the core calls inside an interpreter of atoll's."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sized
    from typing import Any


def capture(exc: BaseException) -> tuple[str, ...]:
    """Describe an exception for the interpreter that waits for this one.

    Returns (name, qualname, module, msg, formatted, errdisplay), all of them str.
    """
    cls = type(exc)
    name = _text(cls, "__name__")
    qualname, module = _text(cls, "__qualname__"), _text(cls, "__module__")
    shown = qualname if module in ("builtins", "__main__") else f"{module}.{qualname}"
    try:
        msg = str(exc)
    except BaseException:  # the user's code: anything may come of it
        msg = "<its str() raised>"
    formatted = f"{shown}: {msg}" if msg else shown
    return (name, qualname, module, msg, formatted, _display(exc, formatted))


def report_initializer(exc: BaseException) -> None:
    """Say that a pool's initializer has failed, as concurrent.futures does."""
    from logging import getLogger

    getLogger("concurrent.futures").critical("Exception in initializer:", exc_info=exc)


def _text(cls: type, name: str) -> str:
    try:
        value = getattr(cls, name)
    except BaseException:
        value = None
    return value if isinstance(value, str) else "<unknown>"


def _display(exc: BaseException, formatted: str) -> str:
    try:
        from traceback import TracebackException

        return "".join(TracebackException.from_exception(exc).format()).rstrip("\n")
    except BaseException:
        return formatted


def limit(module: Any) -> None:
    """After the import of faulthandler or _tracemalloc: take out what changes the
    one that the process has, which belongs to main.

    CPython refuses these modules in interpreters, but packages import them. Faults
    are handled as main has said; to enable the handler here does nothing. What is
    traced is main (ext/isolate/tracing.c), and what its traces refer to are its
    objects: so here nothing is.
    """
    name = module.__name__.removeprefix("_")

    def refuse(*args: object, **kwargs: object) -> None:
        raise RuntimeError(
            f"{name} works for the whole process; use it in the main interpreter"
            + ", whose memory it traces" * (name == "tracemalloc")
        )

    def accept(*args: object, **kwargs: object) -> None:
        pass

    if name == "tracemalloc":
        module.start = refuse
        module.stop = module.clear_traces = module.reset_peak = accept
        module.is_tracing = lambda: False
        module.get_traced_memory = lambda: (0, 0)
        module.get_tracemalloc_memory = lambda: 0
        module._get_traces = list
        module._get_object_traceback = accept
        return
    from ._look.faults import mend

    mend(module)
    module.enable = accept
    module.disable = lambda: False
    module.cancel_dump_traceback_later = accept
    for word in ("dump_traceback_later", "register", "unregister"):
        setattr(module, word, refuse)


def measure(config: str) -> None:
    """Measure coverage, as where this interpreter was made."""
    from ._look.coverage import measure

    measure(config)


def use_c_datetime() -> None:
    """Change over from the pure-Python datetime; see ext/isolate/datetime.c.

    Who has taken a class out of the module before keeps the old one.
    """
    for name in ("_datetime", "_zoneinfo"):
        if sys.modules.get(name, name) is None:
            del sys.modules[name]
    import _datetime  # type: ignore[import-not-found]

    module = sys.modules.get("datetime")
    if module is not None:
        vars(module).update(
            {k: v for k, v in vars(_datetime).items() if not k.startswith("__")}
        )
    zoneinfo = sys.modules.get("zoneinfo")  # its classes derive from datetime's
    if zoneinfo is not None:
        from importlib import reload

        reload(zoneinfo)


def preload(names: tuple[str, ...]) -> None:
    """Import modules before the first job."""
    from importlib import import_module

    for name in names:
        try:
            import_module(name)
        except Exception as exc:
            raise ImportError(f"cannot preload {name!r}: {type(exc).__name__}: {exc}") from exc


# asyncio.Runner of this interpreter, kept from one coroutine to the next
_runner: Any = None
# what run_coroutine() runs in it, and whether that has been interrupted
_task: Any = None
_interrupted = False
# a ContextVar: whose code it is that has made a task, a timer, a callback. What the
# initializer has made is to stay.
_owner: Any = None
_INITIALIZER = object()


def make_loop(_: object) -> None:
    """Make the event loop, if there is none; called where no interrupt comes, which
    would leave half a loop and, in socketpair(), open descriptors."""
    global _runner
    try:
        import asyncio
    except Exception:
        # An interrupt has hit a task's own import of it, and left submodules that a new
        # package does not find in itself.
        for name in list(sys.modules):
            if name.split(".")[0] in ("asyncio", "_asyncio"):
                del sys.modules[name]
        import asyncio

    # An interrupt that would wait no longer may have left them half begun or ended.
    asyncio._set_running_loop(None)
    if _runner is not None and _runner.get_loop().is_running():
        _runner.get_loop()._thread_id = None
        _close_loop()
    if _runner is None:
        runner = asyncio.Runner()
        runner.get_loop()
        _runner = runner


def run_coroutine(coroutine: Any) -> Any:
    """Run what a task has returned, if that is a coroutine, in the worker's loop, and
    end what it leaves there."""
    return _run(coroutine, object())


def run_initializer(coroutine: Any) -> Any:
    """Run what an initializer has returned; what it leaves in the loop goes on."""
    return _run(coroutine, _INITIALIZER)


def _run(coroutine: Any, owner: object) -> Any:
    global _task, _interrupted, _owner
    import asyncio
    from contextvars import ContextVar

    from ._aio import hub

    if _owner is None:
        _owner = ContextVar("atoll owner")
    generators: list[Any] = []

    async def run() -> Any:
        hub()  # so that an interrupt wakes the loop
        _owner.set(owner)
        _note_generators(generators)
        return await coroutine

    loop = _runner.get_loop()
    _interrupted = False
    _task = loop.create_task(run())
    try:
        return loop.run_until_complete(_task)
    except asyncio.CancelledError:
        if _interrupted:
            raise KeyboardInterrupt from None
        raise
    except KeyboardInterrupt:
        # It came in the code of this task, or of another that this one has begun.
        _interrupted = True
        raise
    finally:
        _task = None
        if owner is not _INITIALIZER:
            _end_leftovers(loop, owner, generators)


def _note_generators(generators: list[Any]) -> None:
    """Note the asynchronous generators that begin in the loop that runs here."""
    from weakref import ref

    first = sys.get_asyncgen_hooks().firstiter

    def note(generator: Any) -> None:
        generators.append(ref(generator))
        if first is not None:
            first(generator)

    sys.set_asyncgen_hooks(firstiter=note)  # the loop takes it back when it stops


def _end_leftovers(loop: Any, owner: object, generators: list[Any]) -> None:
    """End what a task has left in the loop, as asyncio.run() does."""
    try:
        _cancel_tasks(loop)
        left = [generator for one in generators if (generator := one()) is not None]
        if left or getattr(loop, "_ready", None):
            loop.run_until_complete(_close_generators(loop, left))
        # Only asyncio's own loops show their timers and callbacks.
        for name in ("_scheduled", "_ready"):
            for handle in list(getattr(loop, name, ())):
                if handle._context is not None and handle._context.get(_owner) is owner:
                    handle.cancel()
    except BaseException:
        # Interrupted: something does not let itself be ended. So the loop goes.
        _drop_loop()
        raise


def _cancel_tasks(loop: Any) -> None:
    import asyncio

    def is_left(task: Any) -> bool:
        return task.get_context().get(_owner) is not _INITIALIZER

    left = list(filter(is_left, asyncio.all_tasks(loop)))
    if not left:
        return
    for task in left:
        task.cancel()
    loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
    for task in left:
        if not task.cancelled() and task.exception() is not None:
            loop.call_exception_handler({
                "message": "unhandled exception while what a task has left was cancelled",
                "exception": task.exception(),
                "task": task,
            })  # fmt: skip


async def _close_generators(loop: Any, left: list[Any]) -> None:
    import asyncio

    results = await asyncio.gather(*[g.aclose() for g in left], return_exceptions=True)
    for generator, result in zip(left, results, strict=True):
        if isinstance(result, Exception):
            loop.call_exception_handler({
                "message": f"an error occurred during closing of {generator!r}",
                "exception": result,
                "asyncgen": generator,
            })  # fmt: skip


def cancel_coroutine(_: object) -> bool:
    """Cancel the coroutine of run_coroutine() and wake the loop, which runs in this
    thread. False if there is none, or it is another loop that runs here."""
    global _interrupted
    import asyncio

    if _task is None or asyncio._get_running_loop() is not _task.get_loop():
        return False
    _interrupted = True
    _task.get_loop().call_soon_threadsafe(_task.cancel)
    return True


# Has the loop gone on since will_hear()?
_heard = True


def _hear() -> None:
    global _heard
    _heard = True


def will_hear(handler: Any) -> bool:
    """Have the event loop note that it goes on, after it has been told by the handler
    of asyncio.Runner."""
    global _heard
    _heard = False
    handler.keywords["main_task"].get_loop().call_soon_threadsafe(_hear)
    return True


def is_deaf(_: object) -> bool:
    """It has not: what it runs does not let it."""
    return not _heard


def _drop_loop() -> None:
    """Close the loop without ending what is in it."""
    global _runner
    runner, _runner = _runner, None
    runner.get_loop().close()


def _close_loop() -> None:
    global _runner
    runner, _runner = _runner, None
    if runner is not None:
        runner.close()


def join_threads(_: object) -> None:
    """Before the end: run threading's exit handlers, join its threads."""
    _close_loop()
    threading = sys.modules.get("threading")
    if threading is None:
        return
    threading._shutdown()
    # CPython calls it again when it ends the interpreter; the handlers have
    # run and must not run twice.
    threading._threading_atexits.clear()


def join_daemons(_: object) -> None:
    """After the exit handlers, which end the daemon threads that some packages have:
    give these half a second, raise SystemExit in those that are left, and give them
    another half. A process would end under them."""
    threads = _other_threads()
    _join_within(threads, 0.5)
    for thread in threads:
        if thread.is_alive() and thread.ident is not None:
            from . import _core

            _core._end_thread(thread.ident)
    _join_within(threads, 0.5)


def threads_in_the_way(others: int) -> str:
    """Name the threads of this interpreter besides the calling one, which has `others`."""
    names = [
        f"{thread.name!r}{' (daemon)' if thread.daemon else ''}"
        for thread in _other_threads()
    ]
    unknown = max(0, others - len(names))
    texts = []
    if names:
        texts.append(f"{_threads(names)} {', '.join(names)}")
    if unknown:
        texts.append(f"{unknown} {_threads(range(unknown))} that threading does not know")
    return " and ".join(texts)


def _threads(some: Sized) -> str:
    return "thread" if len(some) == 1 else "threads"


def _other_threads() -> list[Any]:
    threading = sys.modules.get("threading")
    if threading is None:
        return []
    here = threading.get_ident()
    return [
        thread
        for thread in threading.enumerate()
        if thread.ident != here and not isinstance(thread, threading._DummyThread)
    ]


def _join_within(threads: list[Any], seconds: float) -> None:
    from time import monotonic

    end = monotonic() + seconds
    for thread in threads:
        # If its start was interrupted it is about to begin, and cannot be joined before.
        if thread._started.wait(max(0, end - monotonic())):
            thread.join(max(0, end - monotonic()))


def run_exit_handlers(_: object) -> None:
    """Before the end, after the threads: what was registered with atexit."""
    atexit = sys.modules.get("atexit")
    if atexit is not None:
        atexit._run_exitfuncs()
