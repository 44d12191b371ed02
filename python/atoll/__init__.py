"""True multi-core Python in one process.

Isolated interpreters, each with its own GIL and its own thread, and queues and
channels between them that never poll. The names are those of
``concurrent.interpreters`` and ``queue``; ``import atoll as interpreters`` is a
drop-in for the former.
"""

from __future__ import annotations

from ._core import (
    Buffer,
    Moved,
    Queue,
    RecvChannel,
    SendChannel,
    create_channel,
    create_queue,
    is_shareable,
    list_channels,
    list_queues,
    move,
    share,
    stats,
)
from .errors import (
    KEEP,
    UNBOUND,
    UNBOUND_ERROR,
    UNBOUND_REMOVE,
    AtollError,
    ChannelClosed,
    ChannelError,
    ChannelNotFoundError,
    ChannelTimeout,
    ExecutionFailed,
    ForkedError,
    InterpreterError,
    InterpreterNotFoundError,
    ItemInterpreterDestroyed,
    NotShareableError,
    QueueEmpty,
    QueueError,
    QueueNotFoundError,
    RemoteError,
    RemoteTraceback,
)
from .interpreter import Interpreter, create, get_current, get_main, list_all

__all__ = [
    "KEEP",
    "UNBOUND",
    "UNBOUND_ERROR",
    "UNBOUND_REMOVE",
    "AtollError",
    "Buffer",
    "ChannelClosed",
    "ChannelEmpty",
    "ChannelError",
    "ChannelFull",
    "ChannelNotFoundError",
    "ChannelTimeout",
    "Diagnosis",
    "ExecutionFailed",
    "ForkedError",
    "Interpreter",
    "InterpreterError",
    "InterpreterNotFoundError",
    "ItemInterpreterDestroyed",
    "Moved",
    "NotShareableError",
    "Queue",
    "QueueEmpty",
    "QueueError",
    "QueueFull",
    "QueueNotFoundError",
    "QueueShutDown",
    "RecvChannel",
    "RemoteError",
    "RemoteTraceback",
    "SendChannel",
    "create",
    "create_channel",
    "create_queue",
    "doctor",
    "get_current",
    "get_main",
    "is_shareable",
    "list_all",
    "list_channels",
    "list_queues",
    "move",
    "register",
    "share",
    "stats",
]

__version__ = "0.1.0"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._doctor import Diagnosis as Diagnosis
    from ._doctor import doctor as doctor
    from ._registry import register as register
    from .errors import ChannelEmpty, ChannelFull, QueueFull, QueueShutDown

# These need the module `queue`, which costs more to import than all of atoll.
_LAZY = ("QueueFull", "QueueShutDown", "ChannelEmpty", "ChannelFull")


def __getattr__(name: str) -> object:
    if name == "register":
        from ._registry import register

        globals()[name] = register
        return register
    if name in ("Diagnosis", "doctor"):
        from . import _doctor

        value = globals()[name] = getattr(_doctor, name)
        return value
    if name in _LAZY:
        from . import errors

        value = globals()[name] = getattr(errors, name)
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY, "Diagnosis", "doctor", "register"})
