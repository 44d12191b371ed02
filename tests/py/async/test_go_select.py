"""Go's published test programs for select, as scenarios.

Each docstring names the program in https://github.com/golang/go (BSD licence)
whose scenario it plays. The parties are threads, and once more interpreters. A
case that is None is Go's nil channel: never ready. A case of a closed channel is
ready here as there; it raises ChannelClosed, which says which case it was.
"""

import gc
import itertools
import os
import random
import threading

import atoll
import go_parties as go
import pytest
from support import SLACK, STRESS, Task, parked, rss_kib

NOTHING = object()


def blocks(*cases):
    """Nothing is ready, and it does not become so."""
    assert atoll.select(*cases, default=NOTHING) == (None, NOTHING)
    with pytest.raises(atoll.ChannelTimeout):
        atoll.select(*cases, timeout=0.02)
    assert atoll.select(*cases, timeout=0.001, default=7) == (None, 7)
    return True


def never_blocks(*cases):
    """Something is ready: with a default, with a timeout and for ever alike."""
    which, value = atoll.select(*cases, default=NOTHING)
    assert which is not None
    return which, value


# --------------------------------------------------------------- one at a time


def test_select():
    """test/chan/select.go: what has been sent is a case no more (None); when nobody
    can take any, the default."""

    def send_each(*sends):
        sent, value = 0, 1
        cases = list(sends)
        while True:
            made.append(value)
            which, _ = atoll.select(
                *(None if send is None else (send, value) for send in cases), default=None
            )
            if which is None:
                return sent
            cases[which] = None
            sent += 1
            value *= 2

    made = []
    a, a_send = atoll.create_channel(1)
    b, b_send = atoll.create_channel(1)
    assert send_each(a_send, b_send) == 2
    assert a.recv() | b.recv() == 3
    assert send_each(a_send, None) == 1
    assert (a.recv(), b.recv_nowait(None)) == (1, None)
    assert made == [1, 2, 4, 1, 2]


def test_select2(start):
    """test/chan/select2.go: selecting again and again takes no more memory, although
    one of its channels is never ready."""
    recv, send = atoll.create_channel()
    dummy, keep = atoll.create_channel()
    count = 2000

    def go_on():
        party = start(go.send_all, send, range(count))
        go.receive_or_dummy(recv, dummy, count)
        party.result(SLACK)

    for _ in range(3):
        go_on()
    gc.collect()
    before = rss_kib()
    for _ in range(4):
        go_on()
    gc.collect()
    # 8,000 selects that leave one node of 64 bytes each would be 500 KiB; a
    # closed interpreter may leave its own pages, on 3.13 many of them.
    if start is Task:
        assert rss_kib() - before < 400
    del keep


def test_select3():
    """test/chan/select3.go: what blocks and what does not, for channels that are
    nil, closed, full, empty, and for no case at all."""
    recv, send = atoll.create_channel()
    closed_recv, closed_send = atoll.create_channel()
    closed_send.close()

    # Nil channels are never selected.
    assert blocks(None)
    assert blocks(None, None)
    # A channel with room takes, one with a message gives.
    buffered, buffer = atoll.create_channel(1)
    assert never_blocks((buffer, 7)) == (0, None)
    assert blocks((buffer, 8))
    assert never_blocks(buffered) == (0, 7)
    assert blocks(buffered)
    # Without a buffer and without anybody on the other side.
    assert blocks(recv)
    assert blocks((send, 1))
    assert blocks(None, recv, (send, 1))
    # Closed: ready for ever.
    for _ in range(10):
        for cases in ([closed_recv], [(closed_send, 7)], [None, closed_recv, recv]):
            with pytest.raises(atoll.ChannelClosed) as info:
                atoll.select(*cases)
            assert info.value.case == len(cases) // 2
            with pytest.raises(atoll.ChannelClosed):
                atoll.select(*cases, default=1)
            with pytest.raises(atoll.ChannelClosed):
                atoll.select(*cases, timeout=1)
    # With a default it never blocks.
    assert atoll.select(None, default=5) == (None, 5)
    assert atoll.select(recv, (send, 1), default=None) == (None, None)
    # It does not serve itself.
    other, other_send = atoll.create_channel()
    party = parked(atoll.select, (other_send, 1), other)
    assert party.is_alive()
    assert other.recv(SLACK) == 1
    assert party.result() == (0, None)


def test_select4():
    """test/chan/select4.go: of the case that was not chosen nothing happens."""
    recv, send = atoll.create_channel(1)
    other, other_send = atoll.create_channel()
    send.send(42)
    assert atoll.select(other, recv) == (1, 42)
    send.send([1])
    for cases in itertools.permutations([recv, other, None]):
        which, value = atoll.select(*cases)
        assert (cases[which], value) == (recv, [1])
        send.send(value)


@pytest.mark.parametrize("way", ["select", "default", "timeout", "priority"])
@pytest.mark.parametrize("sending", [True, False], ids=["send", "receive"])
def test_select5(way, sending):
    """test/chan/select5.go: all forms of a select that does one real send or receive:
    with the others before and after it, dummies in both directions and nil."""
    options = {
        "select": {},
        "default": {"default": NOTHING},
        "timeout": {"timeout": SLACK},
        "priority": {"priority": True},
    }[way]
    recv, send = atoll.create_channel(1)
    dummy, dummy_send = atoll.create_channel()
    others = [dummy, (dummy_send, "wrong"), None]
    forms = [form for r in range(4) for form in itertools.product(others, repeat=r)]
    for n, chosen in enumerate(forms):
        for place in range(len(chosen) + 1):
            if not sending:
                send.send(n)
            real = (send, n) if sending else recv
            cases = [*chosen[:place], real, *chosen[place:]]
            assert atoll.select(*cases, **options) == (place, None if sending else n)
            if sending:
                assert recv.recv_nowait() == n
            assert recv.recv_nowait(NOTHING) is NOTHING
            # Not ready: of all cases none.
            nothing = [*chosen[:place], recv, *chosen[place:]]
            assert atoll.select(*nothing, default=NOTHING) == (None, NOTHING)


def test_select6(start):
    """test/chan/select6.go: who selects and was served elsewhere leaves the line at
    the other channel as it was, and may stand in it again."""
    for _ in range(10 * STRESS if start is Task else 1):
        c1, c1_send = atoll.create_channel()
        c2, c2_send = atoll.create_channel()
        c3, c3_send = atoll.create_channel()
        first = start(c1.recv) if start is Task else start(go.plain_receive, c1, None)
        second = start(go.wait_for_either, c1, c2, c3_send)
        sender = start(go.plain_send, c2_send, True, None)
        c3.recv(SLACK)
        c1_send.send(True, SLACK)
        c1_send.send(True, SLACK)
        assert first.result(SLACK) is second.result(SLACK) is True
        sender.result(SLACK)


SENDS = [go.plain_send, go.lone_send, go.select_send]
RECEIVES = [go.plain_receive, go.lone_receive, go.select_receive]


@pytest.mark.parametrize("receive", RECEIVES, ids=lambda f: f.__name__)
@pytest.mark.parametrize("send", SENDS, ids=lambda f: f.__name__)
def test_select7(start, send, receive):
    """test/chan/select7.go: plain sends and selects with one or two cases meet plain
    receives and selects with one or two cases."""
    for n in range(20 * STRESS if start is Task else 2):
        c, c_send = atoll.create_channel()
        (never, keep), (keep_too, never_send) = (atoll.create_channel() for _ in range(2))
        party = start(receive, c, never)
        send(c_send, n, never_send)
        assert party.result(SLACK) == n


@pytest.mark.parametrize("cases", [1, 2, 3])
def test_select8(start, cases):
    """test/chan/select8.go: selects of one, two and three cases with somebody who
    sends all the time."""
    recv, send = atoll.create_channel()
    idle, idle_send = atoll.create_channel()
    party = start(go.count_from, 0, 1, send)
    for n in range(20):
        assert atoll.select(*[recv, idle, (idle_send, 10)][:cases]) == (0, n)
    assert atoll.select(None, default="no") == (None, "no")
    expected = 20
    for _ in range(20):
        which, value = atoll.select(*[recv, idle, (idle_send, 10)][:cases], default=None)
        if which is not None:
            assert (which, value) == (0, expected)
            expected += 1
    recv.close()
    party.result(SLACK)


# ------------------------------------------------------------- nothing is lost


def test_doubleselect(start):
    """test/chan/doubleselect.go: of the four sends of a select one is done and no
    other; each number arrives once."""
    count = 2000 * STRESS
    pairs = [atoll.create_channel() for _ in range(4)]
    mux, mux_send = atoll.create_channel()
    left, leave = atoll.create_channel(4)
    parties = [start(go.spread, [send for _, send in pairs], count)]
    parties += [start(go.forward, recv, mux_send, leave) for recv, _ in pairs]
    got = []
    while len(got) < count:
        got.append(mux.recv(SLACK))
    for _ in range(4):
        left.recv(SLACK)
    assert mux.recv_nowait(None) is None
    for party in parties:
        party.result(SLACK)
    assert sorted(got) == list(range(count))


def test_doubleselect_received_by_select(start):
    """test/chan/doubleselect.go, with one who selects on the receiving side as well."""
    count = 2000 * STRESS
    pairs = [atoll.create_channel() for _ in range(4)]
    party = start(go.spread, [send for _, send in pairs], count)
    cases, got = [recv for recv, _ in pairs], []
    while any(case is not None for case in cases):
        try:
            got.append(atoll.select(*cases, timeout=SLACK)[1])
        except atoll.ChannelClosed as exc:
            cases[exc.case] = None
    party.result(SLACK)
    assert got == list(range(count))  # one sender, and nothing in between


def test_select_stress(start):
    """src/runtime/chan_test.go, TestSelectStress: four channels of different capacity,
    plain parties on one side of each and selects over all on the other."""
    count = 300 * STRESS
    for selecting in ("send", "receive", "both"):
        pairs = [atoll.create_channel(capacity) for capacity in (0, 0, 2, 3)]
        recvs, sends = ([pair[end] for pair in pairs] for end in (0, 1))
        parties = []
        if selecting != "receive":
            parties.append(start(go.stress_select, sends, True, count))
        else:
            parties += [start(go.stress_plain, send, True, count) for send in sends]
        if selecting != "send":
            parties.append(start(go.stress_select, recvs, False, count))
        else:
            parties += [start(go.stress_plain, recv, False, count) for recv in recvs]
        for party in parties:
            party.result(2 * SLACK * STRESS)


@pytest.mark.parametrize("capacity", [0, 10])
def test_self_select(start, capacity):
    """src/runtime/chan_test.go, TestSelfSelect: two parties, each with sends and
    receives on the same two channels in one select. Without a buffer nobody meets
    itself; with one it may, but there is always something that can be done."""
    count = 500 * STRESS
    ends = [atoll.create_channel(capacity) for _ in range(2)]
    names = ("one", "two")
    parties = [
        start(go.meet, name, names if capacity else names[not i : 2 - i], count, ends)
        for i, name in enumerate(names)
    ]
    received = sum(party.result(SLACK * STRESS) for party in parties)
    left = 0
    for recv, _ in ends:
        while recv.recv_nowait(None) is not None:
            left += 1
    assert 2 * received + left == 2 * count


def test_duplicate_channel(start):
    """src/runtime/chan_test.go, TestSelectDuplicateChannel: one channel in two cases
    of a select that is served by a third; somebody behind it in line still is."""
    for _ in range(50 * STRESS if start is Task else 2):
        c, c_send = atoll.create_channel()
        d, d_send = atoll.create_channel()
        e, e_send = atoll.create_channel()
        first = start(go.third_of_three, c, c, d, e_send)
        second = start(go.plain_receive, c, None)
        d_send.send(7, SLACK)
        assert e.recv(SLACK) == 7
        c_send.send(8, SLACK)
        assert second.result(SLACK) == 8
        first.result(SLACK)


def test_two_way_ring(start):
    """A ring as in test/bench/shootout/threadring.go, with tokens that run in both
    directions and meet: who has one to hand on also takes others meanwhile."""
    size, hops = 5, 200 * STRESS
    right = [atoll.create_channel() for _ in range(size)]  # to i from its left
    left = [atoll.create_channel() for _ in range(size)]  # to i from its right
    stop, stop_send = atoll.create_channel()
    done, done_send = atoll.create_channel()
    parties = [
        start(
            go.member_of_two_way_ring,
            stop,
            right[i][0],
            left[i - 1][1],
            left[i][0],
            right[(i + 1) % size][1],
            done_send,
        )
        for i in range(size)
    ]
    for send in (right[0][1], left[2][1], right[3][1]):
        send.send(hops)
    assert sorted(done.recv(SLACK * STRESS) for _ in range(3)) == [1, 2, 2]
    stop_send.close()
    assert sum(party.result(SLACK) for party in parties) == 3 * hops


# --------------------------------------------------------------------- fairness


def test_pseudo_random_send(start):
    """src/runtime/chan_test.go, TestPseudoRandomSend: between two sends to one channel
    that are both ready it chooses at random."""
    for capacity in (0, 10):
        count = 1000
        recv, send = atoll.create_channel(capacity)
        party = start(go.choose, [send], count)
        got = [recv.recv(SLACK) for _ in range(count)]
        assert party.result(SLACK) == got.count(0)
        # Fewer than 350 of 1,000 by chance: less often than once in 10**20 runs.
        assert 350 < sum(got) < 650


@pytest.mark.parametrize("cases", [2, 3, 8, 64])
def test_fairness_of_what_is_ready(cases):
    """The same with 2 to 64 queues: none that is always ready starves another."""
    queues = [atoll.create_queue() for _ in range(cases)]
    for queue in queues:
        for _ in range(400):
            queue.put(0)
    counts = go.count_chosen(queues, 200 * cases)
    assert min(counts) > 100 and max(counts) < 300  # 7 standard deviations
    for n in range(1, cases):  # in order, if it was asked for
        assert atoll.select(*queues[n:], priority=True)[0] == 0


def test_select_fairness(start):
    """src/runtime/chan_test.go, TestSelectFairness: two channels that always have
    something, behind two that never have; each of the two comes as often."""
    count = 2000 * STRESS
    filled = [atoll.create_channel(count) for _ in range(2)]
    idle = [atoll.create_channel() for _ in range(2)]
    for _, send in filled:
        start(go.send_all, send, range(count)).result(SLACK * STRESS)
    cases = [recv for recv, _ in idle + filled]
    counts = start(go.count_chosen, cases, count).result(SLACK * STRESS)
    assert counts[:2] == [0, 0] and sum(counts) == count
    assert abs(counts[2] / count - 0.5) < 0.1  # 9 standard deviations


def test_priority(start):
    """In order, where Go leaves it to chance: the first that is ready."""
    pairs = [atoll.create_channel(3) for _ in range(3)]
    for _, send in pairs:
        start(go.send_all, send, range(3)).result(SLACK)
    order = [atoll.select(*(recv for recv, _ in pairs), priority=True) for _ in range(9)]
    assert order == [(which, n) for which in range(3) for n in range(3)]


# ------------------------------------------------------------ what is not ready


def test_nonblock_receive_race():
    """src/runtime/chan_test.go, TestNonblockRecvRace: a close is seen by who tries
    while it happens, as closed or as not ready, and by all who try later."""
    for _ in range(200 * STRESS):
        recv, send = atoll.create_channel(1)
        send.send(1)
        closing = threading.Thread(target=send.close)
        closing.start()
        assert atoll.select(recv, default="lost") == (0, 1)
        closing.join()
        with pytest.raises(atoll.ChannelClosed):
            atoll.select(recv, default=None)


def test_nonblock_select_race(start):
    """src/runtime/chan_test.go, TestNonblockSelectRace: one of two channels always has
    a value, though never the same for long; whoever looks finds it."""
    a, a_send = atoll.create_channel(1)
    b, b_send = atoll.create_channel(1)
    for _ in range(100 * STRESS if start is Task else 3):
        a_send.send(1)
        party = start(go.try_until_taken, a, b)
        b_send.send(1)
        which, value, _ = party.result(SLACK)
        assert value == 1
        # The other one is still there.
        assert [b, a][which].recv_nowait() == 1


def test_nonblock_select_race_with_close():
    """src/runtime/chan_test.go, TestNonblockSelectRace2: a value is there before the
    other channel is closed; a look at both never finds neither."""
    for _ in range(200 * STRESS):
        a, a_send = atoll.create_channel(1)
        b, b_send = atoll.create_channel()
        a_send.send(1)

        def closer(b_send=b_send, a=a):
            b_send.close()
            a.recv_nowait(None)

        closing = threading.Thread(target=closer)
        closing.start()
        try:
            which, value = atoll.select(a, b, default="neither")
            assert (which, value) == (0, 1)
        except atoll.ChannelClosed as exc:
            assert exc.case == 1
        closing.join()


@pytest.mark.parametrize("capacity", [0, 1])
def test_closedchan_in_selects(start, capacity):
    """test/closedchan.go: the same by select, with and without a default: what was
    sent comes first, then the close, again and again."""
    recv, send = atoll.create_channel(capacity)
    idle, idle_send = atoll.create_channel()
    party = start(go.send_and_close, send, [1, 2])
    assert [atoll.select(idle, recv)[1] for _ in range(2)] == [1, 2]
    party.result(SLACK)
    for case in (recv, (send, 3)):
        for cases in ((case,), (None, case), (idle, case), (idle, (idle_send, 1), case)):
            for options in ({}, {"default": 1}, {"timeout": 0}, {"priority": True}):
                with pytest.raises(atoll.ChannelClosed) as info:
                    atoll.select(*cases, **options)
                assert info.value.case == len(cases) - 1


def test_close_wakes_who_selects(start):
    """test/chan/select3.go: a close is as good as a message for who waits already."""
    recv, send = atoll.create_channel()
    others = [atoll.create_channel() for _ in range(5)]
    party = start(go.select_all, [recv, *(r for r, _ in others)], None)
    for _, other in others:
        other.close()
    send.send(1)
    send.close()
    assert party.result(SLACK) == [1, 0, 0, 0, 0, 0]


# ------------------------------------------------------------------- sieve2, mix


def test_sieve2(start):
    """test/chan/sieve2.go: composites are merged from channels of multiples, primes are
    fed back through a party that buffers without end by select, with a nil channel
    while its buffer is empty."""
    out, out_send = atoll.create_channel(10)
    composites, composites_send = atoll.create_channel(50)
    candidates, candidates_send = atoll.create_channel(50)
    primes, primes_send = atoll.create_channel(10)
    proxy, proxy_send = atoll.create_channel(10)
    primes_send.send(3)
    parties = [
        start(go.merge_multiples, start, primes, composites_send),
        start(go.sieve_out, composites, candidates, proxy_send, out_send),
        start(go.buffer_without_end, proxy, primes_send),
        start(go.count_from, 5, 2, candidates_send),
    ]
    found = [2, 3] + [out.recv(SLACK) for _ in range(23)]
    for recv in (out, composites, candidates, primes, proxy):
        recv.close()
    for party in parties:
        party.result(SLACK)
    assert found == [n for n in range(2, 100) if all(n % d for d in range(2, n))]


def test_random_selects(start):
    """In the spirit of test/chan/select5.go, which makes selects of all forms: random
    ones, all parties on the same few channels; what was sent is what was received."""
    seed = int.from_bytes(os.urandom(4))
    print("seed", seed)
    rng = random.Random(seed)
    pairs = [atoll.create_channel(rng.choice([0, 0, 1, 5])) for _ in range(4)]
    count = 300 * STRESS
    receivers = [
        start(go.select_all, rng.sample([r for r, _ in pairs], len(pairs)), None)
        for _ in range(2)
    ]
    senders = [
        start(go.spread, rng.sample([s for _, s in pairs], len(pairs)), count, False)
        for _ in range(3)
    ]
    for party in senders:
        party.result(SLACK * STRESS)
    for _, send in pairs:
        send.close()
    assert sum(sum(party.result(SLACK)) for party in receivers) == 3 * count
