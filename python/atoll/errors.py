"""The exceptions of atoll, and the markers for items of closed interpreters.

The interpreter errors are CPython's own classes, so handlers written for
``concurrent.interpreters`` catch them. The queue errors are also those of
``queue``. Classes that need the module ``queue`` are made when they are first
looked at: importing it takes longer than importing all of atoll.
"""

from __future__ import annotations

from _interpreters import (
    InterpreterError,
    InterpreterNotFoundError,
    NotShareableError,
)
from _queue import Empty

from . import _core

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing itself takes too long to import
    from queue import Full, ShutDown
    from types import SimpleNamespace
    from typing import Any

__all__ = [
    "KEEP",
    "UNBOUND",
    "UNBOUND_ERROR",
    "UNBOUND_REMOVE",
    "AtollError",
    "ChannelClosed",
    "ChannelEmpty",
    "ChannelError",
    "ChannelFull",
    "ChannelNotFoundError",
    "ChannelPoisoned",
    "ChannelTimeout",
    "DeadlockError",
    "ExecutionFailed",
    "ForkedError",
    "InterpreterError",
    "InterpreterNotFoundError",
    "ItemInterpreterDestroyed",
    "LockOwnerDied",
    "NotShareableError",
    "QueueEmpty",
    "QueueError",
    "QueueFull",
    "QueueNotFoundError",
    "QueueShutDown",
    "RemoteError",
    "RemoteTraceback",
]


class AtollError(Exception):
    """An error of atoll's that has no family elsewhere."""


class ForkedError(AtollError):
    """A queue or channel of the parent process was used in a forked child."""


class DeadlockError(AtollError):
    """Nobody is left who could end this wait: all of them are in waits without end.

    The message says who waits for what, and where.
    """


class LockOwnerDied(AtollError):
    """The interpreter that held the lock has ended without releasing it.

    Whoever gets this does not hold the lock. It is told once: the next acquire() works
    as usual, so this is the moment to look after what the lock protects.
    """


class QueueError(Exception):
    """Any error of a queue.

    Attributes:
      case (int | None): if select() raised it, the index of the case.
    """

    case: int | None = None


class QueueNotFoundError(QueueError):
    """There is no queue with this id, or it belongs to another process."""


class QueueEmpty(QueueError, Empty):
    """get() found nothing in time. Also a queue.Empty."""


class ChannelError(Exception):
    """Any error of a channel.

    Attributes:
      case (int | None): if select() raised it, the index of the case.
    """

    case: int | None = None


class ChannelNotFoundError(ChannelError):
    """There is no channel with this id, or it belongs to another process."""


class ChannelClosed(ChannelError):
    """The channel is closed and, for a receiver, drained."""


class ChannelPoisoned(ChannelError):
    """Somebody has called poison() on the channel.

    Attributes:
      reason (BaseException | None): why: a copy of the exception that was given,
        or a RemoteError that stands for it. Also the `__cause__`.
    """

    def __init__(
        self, message: str = "the channel is poisoned", reason: BaseException | None = None
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.__cause__ = reason


def _poisoned(id: int, value: Any) -> ChannelPoisoned:
    """Called by the core: what to raise at channel `id`. `value` is None, or what
    describe() takes, or the exception that came of decoding that."""
    text = f"channel {id} is poisoned"
    if value is None:
        return ChannelPoisoned(text)
    if isinstance(value, BaseException):
        why = f"{type(value).__name__}: {value}"
        return ChannelPoisoned(text, RemoteError("the reason", "", why))
    excinfo, reason = describe(value)
    return ChannelPoisoned(f"{text}: {excinfo.formatted}", reason)


class ChannelTimeout(ChannelError, TimeoutError):
    """send() or recv() did not happen in time."""


class ItemInterpreterDestroyed(QueueError, ChannelError):
    """The item's sender is gone, and it was put with UNBOUND_ERROR."""


class ExecutionFailed(InterpreterError):
    """Code that ran in another interpreter raised.

    Attributes:
      excinfo: a description of the exception there: `type` (with `__name__`,
        `__qualname__`, `__module__`), `msg`, `formatted` ("Type: msg") and
        `errdisplay` (the traceback as text); all of it str.

    Its `__cause__` is the exception itself, or a RemoteError in its place.
    """

    def __init__(self, excinfo: SimpleNamespace) -> None:
        super().__init__(excinfo.formatted or excinfo.type.__name__)
        self.excinfo = excinfo

    def __str__(self) -> str:
        text = super().__str__()
        if not self.excinfo.errdisplay:
            return text
        return f"{text}\n\nUncaught in the interpreter:\n\n{self.excinfo.errdisplay}"

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.excinfo,))


class RemoteTraceback(Exception):
    """The traceback of an exception that came from another interpreter, as text.

    It is the `__cause__` at the end of that exception's chain.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f"\n\n{self.text}"


class RemoteError(AtollError):
    """Stands for an exception that could not be sent, or not be rebuilt here.

    Attributes:
      formatted (str): "Type: message" of the exception.
      traceback (str): where it happened, as text.
      reason (str): why it is not here itself.
    """

    def __init__(self, formatted: str, traceback: str = "", reason: str = "") -> None:
        super().__init__(formatted)
        self.formatted = formatted
        self.traceback = traceback
        self.reason = reason

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.formatted, self.traceback, self.reason)

    def __str__(self) -> str:
        return (
            f"{self.formatted} (the exception itself could not be rebuilt here: "
            f"{self.reason})\n\n{self.traceback}"
        )


class _Unbound:
    """What becomes of an item when the interpreter that put it is closed."""

    __slots__ = ("_name", "_rule")

    def __init__(self, name: str, rule: int) -> None:
        self._name = name
        self._rule = rule  # an atoll_orphan of core/include/atoll/atoll.h

    def __repr__(self) -> str:
        return f"atoll.{self._name}"

    def __reduce__(self) -> str:
        return self._name  # a name in this module: one object per interpreter


#: The item stays and is delivered (the default).
KEEP = _Unbound("KEEP", _core._ORPHAN_KEEP)
#: The item is removed.
UNBOUND_REMOVE = _Unbound("UNBOUND_REMOVE", _core._ORPHAN_REMOVE)
#: Receiving it raises ItemInterpreterDestroyed.
UNBOUND_ERROR = _Unbound("UNBOUND_ERROR", _core._ORPHAN_ERROR)
#: UNBOUND itself is received in its place.
UNBOUND = _Unbound("UNBOUND", _core._ORPHAN_MARK)


# Classes that __getattr__ makes: the family, the base in `queue`, the reason.
_LAZY = {
    "QueueFull": (QueueError, "Full", "put() found no room in time."),
    "QueueShutDown": (QueueError, "ShutDown", "shutdown() has been called."),
    "ChannelEmpty": (ChannelError, "Empty", "recv_nowait() found nothing."),
    "ChannelFull": (ChannelError, "Full", "send_nowait() found no room."),
}

if TYPE_CHECKING:

    from concurrent.futures import BrokenExecutor

    class BrokenInterpreterPool(BrokenExecutor): ...

    class QueueFull(QueueError, Full): ...

    class QueueShutDown(QueueError, ShutDown): ...

    class ChannelEmpty(ChannelError, Empty): ...

    class ChannelFull(ChannelError, Full): ...


def _broken_pool() -> type:
    """Also the standard library's class of that name, where it has one."""
    try:
        from concurrent.futures.interpreter import (  # type: ignore[import-not-found]
            BrokenInterpreterPool as Base,
        )
    except ImportError:  # before 3.14
        from concurrent.futures import BrokenExecutor as Base
    doc = "The workers of a pool cannot be had, or their initializer has failed."
    namespace = {"__doc__": doc, "__module__": __name__}
    return type("BrokenInterpreterPool", (Base,), namespace)


def __getattr__(name: str) -> Any:
    if name == "BrokenInterpreterPool":
        return globals().setdefault(name, _broken_pool())
    if name == "BrokenBarrierError":  # threading's own
        from threading import BrokenBarrierError

        return BrokenBarrierError
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import queue

    family, also, reason = _LAZY[name]
    namespace = {"__doc__": f"{reason} Also a queue.{also}.", "__module__": __name__}
    cls = type(name, (family, getattr(queue, also)), namespace)
    return globals().setdefault(name, cls)  # the first definition counts for all threads


def describe(value: tuple[Any, ...]) -> tuple[SimpleNamespace, BaseException]:
    """The reply to a job that raised, as (excinfo, cause).

    `value` is what atoll._boot.capture returned, and the exception; or, if that
    could not be sent, the reason (str), or could not be rebuilt, a tuple of the
    exception that says why.
    """
    from types import SimpleNamespace

    (name, qualname, module, msg, formatted, errdisplay), cause = value
    excinfo = SimpleNamespace(
        type=SimpleNamespace(__name__=name, __qualname__=qualname, __module__=module),
        msg=msg,
        formatted=formatted,
        errdisplay=errdisplay,
    )
    if not isinstance(cause, BaseException):
        if isinstance(cause, str):
            reason = cause
        elif type(cause) is tuple and len(cause) == 1 and isinstance(cause[0], Exception):
            reason = f"{type(cause[0]).__name__}: {cause[0]}"
        else:
            reason = f"its __reduce__ makes a {type(cause).__name__} of it"
        cause = RemoteError(formatted, errdisplay, reason)
    return excinfo, cause
