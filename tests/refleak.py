#!/usr/bin/env python3
"""Does each room leave the total of references as it was? On a debug build of CPython.

    python tests/refleak.py [ROOM ...]

Each round does what the room is for, some times, in this and in other interpreters, and
cleans up. The first rounds fill CPython's caches: it goes on specialising code, each time
after more calls than before. Then sys.gettotalrefcount(), which counts the references
of all interpreters, must be the same as three rounds before; a room that does not
come to that leaks. Prints how many references the first and the last rounds have added,
and exits 1 if there is a leak.
"""

import array
import gc
import itertools
import os
import sys
import threading
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "py" / "helpers"))

import atoll
import sendable as s
import workers

ROUNDS = 3  # in a row that must add nothing
LIMIT = 60  # rounds until then
TIMES = {
    "home": 20,
    "wire": 100,
    "chan": 100,
    "sync": 100,
    "frozen": 50,
    "pool": 20,
    "follow": 5,
}


def home():
    """Interpreters made, used, and closed; errors that come back."""
    with atoll.create() as interp:
        interp.exec("x = 1")
        assert interp.call(workers.give, [1, "two"]) == [1, "two"]
        try:
            interp.call(workers.fail)
        except atoll.ExecutionFailed:
            pass
        interp.prepare_main({"y": (1, 2)})


def wire():
    """Objects of all kinds, there and back, and what cannot cross."""
    queue = atoll.create_queue()
    node = s.Node(1)
    node.link = node
    for obj in (
        (None, True, 2**100, 1.5, "ä€", b"bytes", bytearray(b"x"), 1j, range(3), slice(1)),
        {"list": [1, 2.0, "three"], "set": {1, 2}, "dict": {i: str(i) for i in range(20)}},
        [{"id": i, "name": f"name {i}"} for i in range(50)],
        node,
        s.Slotted(1, [1]),
        s.Plain(2, s.Frozen(3)),
        s.Rank.HIGH,
        ValueError("bad"),
        workers.give,
        "long " * 10_000,
        memoryview(b"shared"),
        atoll.Buffer(64),
    ):
        queue.put(obj)
        queue.get()
    try:
        queue.put({"key": [threading.Lock()]})
    except atoll.NotShareableError:
        pass


def chan():
    """Queues, channels, select, poison, timers."""
    queue = atoll.create_queue(3)
    recv, send = atoll.create_channel(1)
    send.send("one")
    queue.put(2)
    for _ in range(2):
        atoll.select(recv, queue)
    send.poison(ValueError("poison"))
    try:
        recv.recv()
    except atoll.ChannelPoisoned:
        pass
    atoll.after(0).recv()
    try:
        queue.get(timeout=0.001)
    except atoll.QueueEmpty:
        pass
    atoll.list_queues()


def sync():
    """Locks and what is like them."""
    lock, rlock, event = atoll.Lock(), atoll.RLock(), atoll.Event()
    condition, barrier = atoll.Condition(), atoll.Barrier(2)
    semaphore, counter, cell = atoll.Semaphore(2), atoll.Counter(), atoll.Cell([1])
    with lock, rlock, semaphore:
        counter.add(1)
    thread = threading.Thread(target=barrier.wait)
    thread.start()
    barrier.wait()
    thread.join()
    with condition:
        condition.wait(timeout=0.001)
        condition.notify_all()
    event.set()
    event.wait()
    cell.store({"new": cell.load()})
    queue = atoll.create_queue()
    queue.put([lock, cell, event])
    queue.get()


def frozen():
    """Graphs, views, thawing; where this build lets objects be frozen."""
    graph = atoll.freeze({"rows": [(i, str(i)) for i in range(100)], "set": {1, 2}})
    view = graph.view()
    assert view["rows"][5] == (5, "5")
    atoll.thaw(graph)
    queue = atoll.create_queue()
    queue.put([graph, view])
    queue.get()


def pool():
    """Tasks of an executor, those that fail and those that are cancelled."""
    with atoll.InterpreterPoolExecutor(2) as executor:
        assert list(executor.map(workers.give, range(20))) == list(range(20))
        future = executor.submit(workers.fail)
        assert isinstance(future.exception(), Exception)
        futures = [executor.submit(workers.give, i) for i in range(10)]
        for one in futures:
            one.cancel()


def follow():
    """Surroundings that change between tasks. No filter of warnings with a pattern: an
    interpreter that has one leaves some 30 references when it ends, without atoll."""
    limit = sys.getrecursionlimit()
    with atoll.InterpreterPoolExecutor(1) as executor:
        for n in range(10):
            os.environ["ATOLL_LEAKS"] = str(n)
            sys.path.append(f"/nowhere/{n}")
            sys.setrecursionlimit(limit + n)
            warnings.simplefilter("ignore", UserWarning)
            assert executor.submit(workers.give, n).result() == n
            del warnings.filters[0], sys.path[-1], os.environ["ATOLL_LEAKS"]
    sys.setrecursionlimit(limit)


def differences(work):
    """What each round has added to the total, until some have added nothing."""
    totals = array.array("q", [0] * (LIMIT + 1))  # holds no references
    for i in range(LIMIT + 1):
        for _ in range(TIMES[work.__name__]):
            work()
        gc.collect()
        totals[i] = sys.gettotalrefcount()
        if i >= ROUNDS and totals[i] == totals[i - ROUNDS]:
            break
    return [after - before for before, after in itertools.pairwise(totals[: i + 1])]


def main():
    if not hasattr(sys, "gettotalrefcount"):
        sys.exit("refleak: this is no debug build of CPython")
    atoll.warm(0)
    rooms = {work.__name__: work for work in (home, wire, chan, sync, frozen, follow, pool)}
    leaks = 0
    for name in sys.argv[1:] or rooms:
        if name == "frozen" and not can_freeze():
            print(f"{name:8} skipped: atoll does not know the layout of this build's objects")
            continue
        found = differences(rooms[name])
        last = found[-ROUNDS:]
        leaks += sum(last) != 0
        shown = " ".join(f"{one:+d}" for one in last)
        print(f"{name:8} {found[0]:+d} in round 1; {shown} in the last of {len(found)}")
    print(f"refleak: {leaks} rooms leak references" if leaks else "refleak: none leaks")
    return 1 if leaks else 0


def can_freeze():
    try:
        atoll.freeze(1)
    except atoll.AtollError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
