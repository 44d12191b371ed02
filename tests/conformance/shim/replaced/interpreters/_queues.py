"""concurrent.interpreters._queues with atoll's objects."""

import atoll
from atoll import (
    UNBOUND,
    UNBOUND_ERROR,
    UNBOUND_REMOVE,
    ItemInterpreterDestroyed,
    Queue,
    QueueEmpty,
    QueueError,
    QueueFull,
    QueueNotFoundError,
)

__all__ = [
    "UNBOUND",
    "UNBOUND_ERROR",
    "UNBOUND_REMOVE",
    "ItemInterpreterDestroyed",
    "Queue",
    "QueueEmpty",
    "QueueError",
    "QueueFull",
    "QueueNotFoundError",
    "create",
    "list_all",
]

list_all = atoll.list_queues  # another name


# The default is the standard library's; atoll's is KEEP.
def create(maxsize=0, *, unbounditems=UNBOUND):
    return atoll.create_queue(maxsize, unbounditems=unbounditems)
