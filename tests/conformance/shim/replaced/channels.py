"""test.support.channels with atoll's objects."""

import sys

import atoll
from atoll import (
    UNBOUND,
    UNBOUND_ERROR,
    UNBOUND_REMOVE,
    ChannelError,
    ChannelNotFoundError,
    ItemInterpreterDestroyed,
    RecvChannel,
    SendChannel,
)

__all__ = [
    "UNBOUND",
    "UNBOUND_ERROR",
    "UNBOUND_REMOVE",
    "ChannelClosedError",
    "ChannelEmptyError",
    "ChannelError",
    "ChannelNotFoundError",
    "ItemInterpreterDestroyed",
    "RecvChannel",
    "SendChannel",
    "create",
    "list_all",
]

ChannelClosedError = atoll.ChannelClosed  # another name
ChannelEmptyError = atoll.ChannelEmpty  # another name
list_all = atoll.list_channels  # another name

# In CPython's channels send() waits for a receiver, but send_nowait() does not
# need one. In atoll it is either: the worker sets 0 for the tests of the first.
capacity = sys.maxsize


# The default of unbounditems is CPython's; atoll's is KEEP.
def create(*, unbounditems=UNBOUND):
    return atoll.create_channel(capacity, unbounditems=unbounditems)
