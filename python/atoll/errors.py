"""The exceptions of atoll, and the markers for items of closed interpreters.

The interpreter errors are CPython's own classes, so handlers written for
``concurrent.interpreters`` catch them. The queue errors are also those of
``queue``. Classes that need the module ``queue`` are made when they are first
looked at: importing it takes longer than importing all of atoll.
"""

from _interpreters import (
    InterpreterError,
    InterpreterNotFoundError,
    NotShareableError,
)
from _queue import Empty

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
    "ChannelTimeout",
    "ExecutionFailed",
    "ForkedError",
    "InterpreterError",
    "InterpreterNotFoundError",
    "ItemInterpreterDestroyed",
    "NotShareableError",
    "QueueEmpty",
    "QueueError",
    "QueueFull",
    "QueueNotFoundError",
    "QueueShutDown",
]


class AtollError(Exception):
    """An error of atoll's that has no family elsewhere."""


class ForkedError(AtollError):
    """A queue or channel of the parent process was used in a forked child."""


class QueueError(Exception):
    """Any error of a queue."""


class QueueNotFoundError(QueueError):
    """There is no queue with this id, or it belongs to another process."""


class QueueEmpty(QueueError, Empty):
    """get() found nothing in time. Also a queue.Empty."""


class ChannelError(Exception):
    """Any error of a channel."""


class ChannelNotFoundError(ChannelError):
    """There is no channel with this id, or it belongs to another process."""


class ChannelClosed(ChannelError):
    """The channel is closed and, for a receiver, drained."""


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

    Its `__cause__` is the exception itself, where it can be rebuilt here.
    """

    def __init__(self, excinfo):
        super().__init__(excinfo.formatted or excinfo.type.__name__)
        self.excinfo = excinfo

    def __str__(self):
        text = super().__str__()
        if not self.excinfo.errdisplay:
            return text
        return f"{text}\n\nUncaught in the interpreter:\n\n{self.excinfo.errdisplay}"

    def __reduce__(self):
        return (type(self), (self.excinfo,))


class _Unbound:
    """What becomes of an item when the interpreter that put it is closed."""

    __slots__ = ("_name", "_rule")

    def __init__(self, name, rule):
        self._name = name
        self._rule = rule  # an atoll_orphan of core/include/atoll/atoll.h

    def __repr__(self):
        return f"atoll.{self._name}"

    def __reduce__(self):
        return self._name  # a name in this module: one object per interpreter


#: The item stays and is delivered (the default).
KEEP = _Unbound("KEEP", 0)
#: The item is removed.
UNBOUND_REMOVE = _Unbound("UNBOUND_REMOVE", 1)
#: Receiving it raises ItemInterpreterDestroyed.
UNBOUND_ERROR = _Unbound("UNBOUND_ERROR", 2)
#: UNBOUND itself is received in its place.
UNBOUND = _Unbound("UNBOUND", 3)


def _define_queue_classes():
    from queue import Full, ShutDown

    class QueueFull(QueueError, Full):
        """put() found no room in time. Also a queue.Full."""

    class QueueShutDown(QueueError, ShutDown):
        """shutdown() has been called. Also a queue.ShutDown."""

    class ChannelEmpty(ChannelError, Empty):
        """recv_nowait() found nothing. Also a queue.Empty."""

    class ChannelFull(ChannelError, Full):
        """send_nowait() found no room and no receiver. Also a queue.Full."""

    for cls in (QueueFull, QueueShutDown, ChannelEmpty, ChannelFull):
        cls.__qualname__ = cls.__name__
        globals().setdefault(cls.__name__, cls)


def __getattr__(name):
    if name in ("QueueFull", "QueueShutDown", "ChannelEmpty", "ChannelFull"):
        _define_queue_classes()
        return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
