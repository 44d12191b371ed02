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


# CPython's channels have no limit; atoll's default is a rendezvous, and KEEP.
def create(*, unbounditems=UNBOUND):
    return atoll.create_channel(sys.maxsize, unbounditems=unbounditems)
