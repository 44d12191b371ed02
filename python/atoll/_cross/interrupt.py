"""Which exceptions come from outside: from the handler of a signal."""

from __future__ import annotations

import functools

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType, FrameType

_VARARGS = 0x04  # inspect.CO_VARARGS


def _installed() -> set[CodeType]:
    """The code of the handlers that are functions, of whatever kind."""
    import signal

    codes = set()
    for number in signal.valid_signals():
        handler = signal.getsignal(number)
        while isinstance(handler, functools.partial):
            handler = handler.func
        for function in handler, getattr(type(handler), "__call__", None):  # noqa: B004
            code = getattr(function, "__code__", None)
            if code is not None:
                codes.add(code)
    return codes


def _is_given_its_caller(frame: FrameType) -> bool:
    """As CPython calls handlers: handler(number, frame), frame being the one that is
    interrupted. So one is known that has taken itself away before it raised."""
    code, back = frame.f_code, frame.f_back
    if back is None or (code.co_argcount < 2 and not code.co_flags & _VARARGS):
        return False
    count = code.co_argcount + code.co_kwonlyargcount + bool(code.co_flags & _VARARGS)
    values = frame.f_locals
    for name in code.co_varnames[:count]:
        value = values.get(name)
        if value is back or (isinstance(value, tuple) and back in value):
            return True
    return False


def from_handler(exc: BaseException) -> bool:
    """Has a handler raised it, or what one called?"""
    codes = None
    traceback = exc.__traceback__
    while traceback is not None:
        frame = traceback.tb_frame
        codes = _installed() if codes is None else codes
        if frame.f_code in codes or _is_given_its_caller(frame):
            return True
        traceback = traceback.tb_next
    return False
