"""What the core calls inside an interpreter of atoll's."""

import sys


def capture(exc):
    """Describe an exception for the interpreter that waits for this one.

    Returns (name, qualname, module, msg, formatted, errdisplay, pickled): str,
    but for msg, which may be None, and the pickle of the exception (bytes), or
    None if it cannot be pickled.
    """
    cls = type(exc)
    try:
        msg = str(exc)
    except Exception:
        msg = "<its str() raised>"
    formatted = f"{cls.__name__}: {msg}" if msg else cls.__name__
    return (
        cls.__name__,
        cls.__qualname__,
        cls.__module__,
        msg,
        formatted,
        _display(exc, formatted),
        _pickled(exc),
    )


def _display(exc, formatted):
    try:
        from traceback import TracebackException

        return "".join(TracebackException.from_exception(exc).format()).rstrip("\n")
    except Exception:
        return formatted


def _pickled(exc):
    from ._pickle import dumps

    try:
        return dumps(exc)
    except Exception:
        return None


def quiesce(_):
    """Before the end: run threading's exit handlers, join its threads."""
    threading = sys.modules.get("threading")
    if threading is None:
        return
    threading._shutdown()
    # CPython calls it again when it ends the interpreter; the handlers have
    # run and must not run twice.
    threading._threading_atexits.clear()
