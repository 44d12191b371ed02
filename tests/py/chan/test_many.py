"""What has a handle costs the same whether there are few or many of them."""

import time

import atoll
import pytest

FEW, MANY = 2_000, 200_000


def drop_time(make, have):
    """The time of the thread for dropping one of the oldest: the best of some rounds,
    since others use the machine."""
    keep = [make() for _ in range(have)]
    best = float("inf")
    for begin in range(0, FEW, 250):
        start = time.thread_time()
        for at in range(begin, begin + 250):
            keep[at] = None
        best = min(best, time.thread_time() - start)
    return best


@pytest.mark.parametrize(
    "make",
    [atoll.create_channel, atoll.create_queue, atoll.Lock, atoll.Event],
    ids=["channel", "queue", "lock", "event"],
)
def test_dropping_one_of_many(make):
    few, many = drop_time(make, FEW), drop_time(make, MANY)
    assert many < 30 * few, f"{few / 250 * 1e6:.2f} us, then {many / 250 * 1e6:.2f} us"


def close_time(handles):
    """The time until an interpreter that holds so many has closed, in every order."""
    interp = atoll.create()
    interp.exec(f"""if 1:
        import atoll, random
        keep = [f() for _ in range({handles // 4})
                for f in (atoll.create_queue, atoll.Lock, atoll.Semaphore, atoll.Event)]
        random.Random(1).shuffle(keep)
    """)
    start = time.process_time()
    interp.close()
    return time.process_time() - start


def test_closing_an_interpreter_that_holds_many():
    few = min(close_time(10_000) for _ in range(2))
    many = close_time(100_000)
    assert many < 40 * few, f"{few:.3f} s, then {many:.3f} s"


def test_one_object_for_each_of_many():
    locks = [atoll.Lock() for _ in range(5_000)]
    ends = [atoll.create_channel() for _ in range(5_000)]
    again, both = atoll.create_queue(), (locks, ends)
    again.put(both)
    locks2, ends2 = again.get()
    assert all(a is b for a, b in zip(locks, locks2, strict=True))
    assert all(a is c and b is d for (a, b), (c, d) in zip(ends, ends2, strict=True))
    ids = {lock.id for lock in locks}
    del locks2, ends2, both
    del locks[::2]
    assert {lock.id for lock in locks} < ids
    again.put(locks)
    assert all(a is b for a, b in zip(locks, again.get(), strict=True))
