"""Go's published test programs for channels, as scenarios.

Each docstring names the program in https://github.com/golang/go (BSD licence)
whose scenario it plays. The parties are threads, and once more interpreters.
"""

import atoll
import go_parties as go
import pytest
from support import SLACK, STRESS, Task, until


def primes_below(limit):
    return [n for n in range(2, limit) if all(n % d for d in range(2, int(n**0.5) + 1))]


def test_fifo_buffered():
    """test/chan/fifo.go: a buffer gives back in order what was put in."""
    recv, send = atoll.create_channel(10)
    for n in range(10):
        send.send(n)
    assert [recv.recv() for _ in range(10)] == list(range(10))


def test_fifo_rendezvous(start):
    """test/chan/fifo.go: parties that take turns by a daisy chain get the values
    of one channel in the order in which they were sent."""
    values, send = atoll.create_channel()
    before, first = atoll.create_channel()
    parties = []
    for n in range(10):
        recv, after = atoll.create_channel()
        parties.append(start(go.link_of_chain, values, n, before, after))
        before = recv
    first.send(None)
    for n in range(10):
        send.send(n)
    before.recv()
    assert all(party.result(SLACK) for party in parties)


@pytest.mark.parametrize(
    "start, count", [("threads", 1000), ("interpreters", 30)], indirect=["start"]
)
def test_goroutines(start, count):
    """test/chan/goroutines.go: a long chain in which everybody waits for the next,
    and one value runs through it."""
    leftmost, left = atoll.create_channel()
    parties = []
    for _ in range(count):
        right, next_left = atoll.create_channel()
        parties.append(start(go.pass_on, right, left))
        left = next_left
    left.send(0)
    assert leftmost.recv(SLACK) == count
    for party in parties:
        party.result(SLACK)


def test_sieve1(start):
    """test/chan/sieve1.go: a filter for each prime, put at the end of the chain when
    that prime comes out of it."""
    recv, send = atoll.create_channel()
    parties = [start(go.count_from, 2, 1, send)]
    found = []
    for _ in range(25):
        prime = recv.recv(SLACK)
        found.append(prime)
        out, send = atoll.create_channel()
        parties.append(start(go.drop_multiples, recv, send, prime))
        recv = out
    del send
    recv.close()
    for party in parties:
        party.result(SLACK)  # that it ends: the close runs back along the chain
    assert found == primes_below(100)


VALUES = [123, 2**40, True, "hello", b"", (1, [2.5, None])]


@pytest.mark.parametrize("capacity", [0, 1])
@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_nonblock(start, capacity, value):
    """test/chan/nonblock.go: trying to send and to receive, with values of several
    types, with and without a buffer."""
    recv, send = atoll.create_channel(capacity)
    answer, told = atoll.create_channel()
    with pytest.raises(atoll.ChannelEmpty):
        recv.recv_nowait()
    assert recv.recv_nowait("nothing") == "nothing"

    def sent():
        try:
            send.send_nowait(value)
        except atoll.ChannelFull:
            return False
        return True

    party = start(go.receive, recv, told)
    until(sent)  # with no buffer: as soon as the party waits
    assert answer.recv(SLACK) == value
    party.result(SLACK)

    party = start(go.send_and_tell, send, value, told)
    if capacity:
        answer.recv(SLACK)
    assert until(lambda: (recv.recv_nowait(answer) is not answer) or None)
    if not capacity:
        answer.recv(SLACK)
    party.result(SLACK)
    with pytest.raises(atoll.ChannelEmpty):
        recv.recv_nowait()


@pytest.mark.parametrize("capacity", [0, 1])
def test_zerosize(start, capacity):
    """test/chan/zerosize.go: messages without any content are messages."""
    recv, send = atoll.create_channel(capacity)
    empty = [None, (), b"", "", [], {}, frozenset()]
    party = start(go.send_and_close, send, empty)
    assert list(recv) == empty
    party.result(SLACK)


def test_direction():
    """test/chan/perm.go: an end of a channel has one direction; there it is for the
    compiler to say, here there is no such method."""
    recv, send = atoll.create_channel(1)
    for end, names in ((recv, ("send", "send_nowait")), (send, ("recv", "recv_nowait"))):
        for name in names:
            assert not hasattr(end, name)
    with pytest.raises(TypeError):
        iter(send)


@pytest.mark.parametrize("capacity", [0, 1, 2])
def test_closedchan(start, capacity):
    """test/closedchan.go: what was sent before the close comes first; after that every
    receive says at once that it is closed, and so does every send."""
    recv, send = atoll.create_channel(capacity)
    party = start(go.send_and_close, send, [1, 2, 3])
    assert [recv.recv(SLACK) for _ in range(3)] == [1, 2, 3]
    party.result(SLACK)
    for _ in range(3):
        for call in (recv.recv, recv.recv_nowait, lambda: recv.recv_nowait(None)):
            with pytest.raises(atoll.ChannelClosed):
                call()
        for call in (send.send, send.send_nowait):
            with pytest.raises(atoll.ChannelClosed):
                call(4)
    assert list(recv) == []
    send.close()  # there a panic, here nothing


def test_chancap():
    """test/chancap.go: a channel has the capacity that was asked for, and one that
    makes no sense is an error."""
    recv, send = atoll.create_channel(10)
    assert (recv.capacity, send.capacity, atoll.create_channel()[0].capacity) == (10, 10, 0)
    for bad in (-1, -(2**63), 2**64):
        with pytest.raises((ValueError, OverflowError)):
            atoll.create_channel(bad)


@pytest.mark.parametrize("size", [2, 7])
@pytest.mark.parametrize("capacity", [0, 1])
def test_threadring(start, size, capacity):
    """test/bench/shootout/threadring.go: a token goes round until its hops are used
    up; who has it then is known beforehand."""
    channels = [atoll.create_channel(capacity) for _ in range(size)]
    parties = [
        start(go.member_of_ring, channels[i][0], channels[(i + 1) % size][1])
        for i in range(size)
    ]
    hops = 500 * STRESS
    channels[0][1].send(hops)
    ended = [party.result(SLACK * STRESS) for party in parties]
    assert ended == [i == hops % size for i in range(size)]


@pytest.mark.parametrize("capacity", [0, 3, 100])
def test_many_producers_many_consumers(start, capacity):
    """src/runtime/chan_test.go, TestChan and TestMultiConsumer: nothing is lost, and
    nothing comes twice; each producer's values come to one consumer in order."""
    recv, send = atoll.create_channel(capacity)
    count = 300 * STRESS
    consumers = [start(go.receive_all, recv) for _ in range(3)]
    values = [[(who, n) for n in range(count)] for who in range(3)]
    # The last interpreter that retires closes the channel; threads share one end.
    produce = go.send_all if start is Task else go.send_and_retire
    producers = [start(produce, send, mine) for mine in values]
    if start is not Task:
        send.retire()
    for party in producers:
        party.result(SLACK * STRESS)
    send.close()
    got = [party.result(SLACK) for party in consumers]
    for mine in got:
        for who in range(3):
            assert (order := [n for w, n in mine if w == who]) == sorted(order)
    everything = [value for mine in values for value in mine]
    assert sorted(value for mine in got for value in mine) == everything


def test_receive_on_a_channel_that_is_closed_meanwhile():
    """src/runtime/chan_test.go, TestChan: who waits is told of the close, whether it
    came before or after."""
    for _ in range(50 * STRESS):
        recv, send = atoll.create_channel()
        waiting = Task(recv.recv)
        send.close()
        with pytest.raises(atoll.ChannelClosed):
            waiting.result()
