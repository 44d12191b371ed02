"""concurrent.interpreters with atoll's objects. Adapts names and defaults only."""

from atoll import (
    ExecutionFailed,
    Interpreter,
    InterpreterError,
    InterpreterNotFoundError,
    NotShareableError,
    create,
    get_current,
    get_main,
    is_shareable,
    list_all,
)

from ._queues import Queue, QueueEmpty, QueueFull
from ._queues import create as create_queue

__all__ = [
    "ExecutionFailed",
    "Interpreter",
    "InterpreterError",
    "InterpreterNotFoundError",
    "NotShareableError",
    "Queue",
    "QueueEmpty",
    "QueueFull",
    "create",
    "create_queue",
    "get_current",
    "get_main",
    "is_shareable",
    "list_all",
]

_atoll_new = Interpreter.__new__
_atoll_whence = Interpreter.whence


# The tests' helpers give the standard library's two private arguments.
def _new(cls, id, /, _whence=None, _ownsref=None):
    return _atoll_new(cls, id)


# What create() makes is named after its maker, which is not the same one here.
def _whence(self):
    whence = _atoll_whence.__get__(self)
    return "_interpreters module" if whence == "atoll" else whence


Interpreter.__new__ = _new
Interpreter.whence = property(_whence)
