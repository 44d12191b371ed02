"""Classics of communicating sequential processes, as threads and as interpreters.

The processes are those of C. A. R. Hoare's papers and books; the ring of commstime is
the benchmark of the occam compilers, from the University of Kent.
"""

import math

import atoll
import csp_parties as csp
import pytest
from support import SLACK, STRESS, Task

SEATS = 5


@pytest.mark.parametrize("seats", [4, 1])
def test_dining_philosophers(start, seats):
    """Hoare, "Communicating Sequential Processes" (1985), 2.5: five philosophers, five
    forks, and a butler who lets four sit down, so that one can always eat."""
    meals = (100 if start is Task else 30) * STRESS
    sit, sit_send = atoll.create_channel()
    leave, leave_send = atoll.create_channel()
    table, table_send = atoll.create_channel()
    # hands[fork][0 for its right neighbour, 1 for its left]: take, put
    hands = [
        [[atoll.create_channel() for _ in ("take", "put")] for _ in range(2)]
        for _ in range(SEATS)
    ]
    parties = [start(csp.butler, sit, leave, seats)]
    for both in hands:
        take, put = ([hand[what][0] for hand in both] for what in (0, 1))
        parties.append(start(csp.fork, take, put))
    philosophers = []
    for name in range(SEATS):
        left, right = hands[name][0], hands[(name + 1) % SEATS][1]
        philosophers.append(
            start(
                csp.philosopher,
                name,
                meals,
                sit_send,
                leave_send,
                *([channel[1] for channel in hand] for hand in (left, right)),
                table_send,
            )
        )
    eating, had = set(), dict.fromkeys(range(SEATS), 0)
    for _ in range(2 * SEATS * meals):
        name, does = table.recv(SLACK)
        if does == "eats":
            assert not eating & {(name - 1) % SEATS, (name + 1) % SEATS}
            eating.add(name)
            had[name] += 1
        else:
            eating.remove(name)
    for party in philosophers:
        party.result(SLACK)
    sit_send.close()
    most, *taken = (party.result(SLACK) for party in parties)
    assert had == dict.fromkeys(range(SEATS), meals)
    assert 1 <= most <= seats
    assert taken == [2 * meals] * SEATS


def test_sieve_of_eratosthenes(start):
    """Hoare, "Communicating Sequential Processes" (CACM 1978), 6.1: a chain of 100
    processes, each of which has a prime; here each is a thread, or an interpreter."""
    recv, send = atoll.create_channel()
    source = start(csp.numbers, send)
    chain = []
    for n in range(100):
        out, send = atoll.create_channel() if n < 99 else (None, None)
        chain.append(start(csp.prime, recv, send))
        recv = out
    primes = [process.result(12 * SLACK) for process in chain]
    assert source.result(SLACK) >= primes[-1]
    assert primes == [
        n for n in range(2, 542) if all(n % d for d in range(2, math.isqrt(n) + 1))
    ]


@pytest.mark.parametrize("capacity", [0, 1])
@pytest.mark.parametrize("split", [csp.delta, csp.parallel_delta])
def test_commstime(start, split, capacity):
    """The natural numbers from a ring of processes: a prefix, a delta, a successor;
    a consumer beside it counts."""
    count = 1000 * STRESS
    (a, a_send), (b, b_send), (c, c_send), (d, d_send) = (
        atoll.create_channel(capacity) for _ in range(4)
    )
    ring = [
        start(csp.prefix, 0, b, a_send),
        start(split, a, d_send, c_send),
        start(csp.successor, c, b_send),
    ]
    assert start(csp.consumer, d, count).result(SLACK * STRESS) == list(range(count))
    for process in ring:
        process.result(SLACK)  # the consumer's leaving runs round the ring


@pytest.mark.parametrize("capacity", [0, 1])
def test_commstime_ends_by_poison(start, capacity):
    """The same ring, ended as in occam's successors: the consumer has had enough, and
    its poison runs round the ring. Each party dies of the same error."""
    (a, a_send), (b, b_send), (c, c_send), (d, d_send) = (
        atoll.create_channel(capacity) for _ in range(4)
    )
    parties = [
        start(csp.poisoned, csp.copy, 0, b, a_send),
        start(csp.poisoned, csp.split, a, d_send, c_send),
        start(csp.poisoned, csp.count_up, c, b_send),
        start(csp.poisoned, csp.have_enough, d, 100),
    ]
    with pytest.raises(csp.Enough):
        parties.pop().result(SLACK)
    for party in parties:
        with pytest.raises(atoll.ChannelPoisoned) as info:
            party.result(SLACK)
        assert isinstance(info.value.__cause__, csp.Enough), info.value.__cause__
    for end in (a, a_send, b, b_send, c, c_send, d, d_send):
        assert end.is_poisoned
        with pytest.raises(atoll.ChannelPoisoned):
            atoll.select(end if hasattr(end, "recv") else (end, 1), default=None)
