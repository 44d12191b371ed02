"""What threads and interpreters do in the tests of select."""

import atoll


def collect(ends, out):
    """Receive from whichever has something until all are closed; then tell `out`."""
    ends = list(ends)
    got = []
    while any(end is not None for end in ends):
        try:
            index, value = atoll.select(*ends)
        except (atoll.ChannelClosed, atoll.QueueShutDown) as exc:
            ends[exc.case] = None
        else:
            got.append((index, value))
    out.put(got)


def swap(recv, send, count):
    """Send 0, 1, ... and receive as many, in whatever order they come."""
    got, sent = [], 0
    while len(got) < count or sent < count:
        out = (send, sent) if sent < count else None
        index, value = atoll.select(recv if len(got) < count else None, out)
        if index == 0:
            got.append(value)
        else:
            sent += 1
    return got


def wait_in_select(ready, *cases):
    ready.put(atoll.get_current().id)
    return atoll.select(*cases)
