"""True multi-core Python in one process.

Isolated interpreters, each with its own GIL and its own thread, and queues and
channels between them that never poll. The names are those of
``concurrent.interpreters`` and ``queue``; ``import atoll as interpreters`` is a
drop-in for the former.

PYTEST_DONT_REWRITE: a plugin of pytest's comes with it, and it is imported before.
"""

from __future__ import annotations

from . import _core
from ._core import (
    Barrier,
    BoundedSemaphore,
    Buffer,
    Cell,
    Condition,
    Counter,
    Event,
    Frozen,
    FrozenElement,
    Lock,
    Moved,
    Queue,
    RecvChannel,
    RLock,
    Semaphore,
    SendChannel,
    after,
    create_channel,
    create_queue,
    freeze,
    frozen_stats,
    is_shareable,
    list_channels,
    list_queues,
    move,
    select,
    share,
    stats,
    thaw,
    ticker,
)
from ._core import __version__ as __version__
from .errors import (
    KEEP,
    UNBOUND,
    UNBOUND_ERROR,
    UNBOUND_REMOVE,
    AtollError,
    ChannelClosed,
    ChannelError,
    ChannelNotFoundError,
    ChannelPoisoned,
    ChannelTimeout,
    DeadlockError,
    ExecutionFailed,
    ForkedError,
    InterpreterError,
    InterpreterNotFoundError,
    ItemInterpreterDestroyed,
    LockOwnerDied,
    NotShareableError,
    QueueEmpty,
    QueueError,
    QueueNotFoundError,
    RemoteError,
    RemoteTraceback,
)
from .interpreter import Interpreter, create, get_current, get_main, list_all, warm

__all__ = [
    "AtollError",
    "Barrier",
    "BoundedSemaphore",
    "Broadcast",
    "BrokenInterpreterPool",
    "Buffer",
    "Cell",
    "ChannelClosed",
    "ChannelEmpty",
    "ChannelError",
    "ChannelFull",
    "ChannelNotFoundError",
    "ChannelPoisoned",
    "ChannelTimeout",
    "Condition",
    "Counter",
    "DeadlockError",
    "Diagnosis",
    "DictView",
    "Event",
    "ExecutionFailed",
    "FOLLOWS",
    "ForkedError",
    "Frozen",
    "FrozenElement",
    "Future",
    "Interpreter",
    "InterpreterError",
    "InterpreterNotFoundError",
    "InterpreterPoolExecutor",
    "ItemInterpreterDestroyed",
    "KEEP",
    "Lock",
    "LockOwnerDied",
    "Moved",
    "NotShareableError",
    "Pipeline",
    "PoolStats",
    "Queue",
    "QueueEmpty",
    "QueueError",
    "QueueFull",
    "QueueNotFoundError",
    "QueueShutDown",
    "RLock",
    "RecvChannel",
    "RemoteError",
    "RemoteTraceback",
    "Semaphore",
    "SendChannel",
    "SequenceView",
    "StatsServer",
    "Task",
    "TaskGroup",
    "Tracing",
    "UNBOUND",
    "UNBOUND_ERROR",
    "UNBOUND_REMOVE",
    "WorkerStats",
    "after",
    "create",
    "create_broadcast",
    "create_channel",
    "create_queue",
    "detect_deadlocks",
    "doctor",
    "dump",
    "dump_on_signal",
    "fan_in",
    "freeze",
    "frozen_stats",
    "frozen_xml",
    "get_current",
    "get_main",
    "is_shareable",
    "list_all",
    "list_channels",
    "list_queues",
    "move",
    "pipeline",
    "poison_on_exit",
    "register",
    "register_frozen",
    "select",
    "select_async",
    "serve_stats",
    "share",
    "show_to_tools",
    "spawn",
    "stats",
    "thaw",
    "ticker",
    "trace",
    "warm",
]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._aio import select_async as select_async
    from ._core import DictView as DictView
    from ._core import SequenceView as SequenceView
    from ._cross.frozen import register_frozen as register_frozen
    from ._cross.registry import register as register
    from ._cross.xml import frozen_xml as frozen_xml
    from ._doctor.doctor import Diagnosis as Diagnosis
    from ._doctor.doctor import doctor as doctor
    from ._ends import poison_on_exit as poison_on_exit
    from ._follow import FOLLOWS as FOLLOWS
    from ._look.dump import detect_deadlocks as detect_deadlocks
    from ._look.dump import dump as dump
    from ._look.dump import dump_on_signal as dump_on_signal
    from ._look.dump import show_to_tools as show_to_tools
    from ._look.top import StatsServer as StatsServer
    from ._look.top import serve_stats as serve_stats
    from ._look.trace import Tracing as Tracing
    from ._look.trace import trace as trace
    from ._tasks.future import Future as Future
    from ._tasks.task import Task as Task
    from ._tasks.task import TaskGroup as TaskGroup
    from ._tasks.task import spawn as spawn
    from .errors import (
        BrokenInterpreterPool as BrokenInterpreterPool,
    )
    from .errors import ChannelEmpty, ChannelFull, QueueFull, QueueShutDown
    from .executor import InterpreterPoolExecutor as InterpreterPoolExecutor
    from .executor import PoolStats as PoolStats
    from .executor import WorkerStats as WorkerStats
    from .flow import Broadcast as Broadcast
    from .flow import Pipeline as Pipeline
    from .flow import create_broadcast as create_broadcast
    from .flow import fan_in as fan_in
    from .flow import pipeline as pipeline

# What is imported when it is first looked at: `queue` or `concurrent.futures` alone
# cost more than all of atoll.
_LAZY = {
    "Broadcast": "flow",
    "BrokenInterpreterPool": "errors",
    "ChannelEmpty": "errors",
    "ChannelFull": "errors",
    "Diagnosis": "_doctor.doctor",
    "FOLLOWS": "_follow",
    "Future": "_tasks.future",
    "InterpreterPoolExecutor": "executor",
    "Pipeline": "flow",
    "PoolStats": "executor",
    "QueueFull": "errors",
    "QueueShutDown": "errors",
    "StatsServer": "_look.top",
    "Task": "_tasks.task",
    "TaskGroup": "_tasks.task",
    "Tracing": "_look.trace",
    "WorkerStats": "executor",
    "create_broadcast": "flow",
    "detect_deadlocks": "_look.dump",
    "doctor": "_doctor.doctor",
    "dump": "_look.dump",
    "dump_on_signal": "_look.dump",
    "fan_in": "flow",
    "frozen_xml": "_cross.xml",
    "pipeline": "flow",
    "poison_on_exit": "_ends",
    "register": "_cross.registry",
    "register_frozen": "_cross.frozen",
    "select_async": "_aio",
    "serve_stats": "_look.top",
    "show_to_tools": "_look.dump",
    "spawn": "_tasks.task",
    "trace": "_look.trace",
}


def __getattr__(name: str) -> object:
    if name in ("DictView", "SequenceView"):  # not before there are views
        from ._core import _frozen_view_types

        sequence, mapping = _frozen_view_types()
        globals().update(SequenceView=sequence, DictView=mapping)
        return globals()[name]
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY, "DictView", "SequenceView"})


if _core._wanted("ATOLL_TRACE"):
    from ._look.trace import trace_from_environment

    trace_from_environment()
if _core._wanted("ATOLL_TOP"):
    from ._look.top import serve_from_environment

    serve_from_environment()
