"""What the core calls inside an interpreter of atoll's."""

from __future__ import annotations

import sys


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


def join_threads(_: object) -> None:
    """Before the end: run threading's exit handlers, join its threads."""
    threading = sys.modules.get("threading")
    if threading is None:
        return
    threading._shutdown()
    # CPython calls it again when it ends the interpreter; the handlers have
    # run and must not run twice.
    threading._threading_atexits.clear()


def join_daemons(_: object) -> None:
    """After the exit handlers: those of packages end the daemon threads that they
    have, so give these a second in all."""
    threading = sys.modules.get("threading")
    if threading is None:
        return
    from time import monotonic

    end = monotonic() + 1
    for thread in threading.enumerate():
        if thread.daemon and thread is not threading.current_thread():
            thread.join(max(0, end - monotonic()))


def run_exit_handlers(_: object) -> None:
    """Before the end, after the threads: what was registered with atexit."""
    atexit = sys.modules.get("atexit")
    if atexit is not None:
        atexit._run_exitfuncs()
