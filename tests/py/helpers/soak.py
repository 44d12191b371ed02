"""Messages of all kinds between interpreters that come and go, all of them counted.

Run by test_soak.py in a process of its own: python -m soak COUNT SEED INTERRUPTS.

Each message has a number, a kind and some hops left. A worker takes a message from
its box, checks the content, and puts it into another box, or, after the last hop,
into `out`. Main makes the messages, closes workers and makes new ones, and counts:
every number comes out once, or is reported as lost, or was in the hand of a worker
that was interrupted just then.
"""

import datetime
import gc
import os
import random
import sys
import threading
import time
from decimal import Decimal

import atoll
import failures
import isomorphic
import sendable as s

WORKERS = 4
IN_FLIGHT = 300
KINDS = ("int", "text", "bytes", "big", "tree", "graph", "objects", "library", "function",
         "exception", "view", "moved", "buffer", "queue")

stop = "stop"


def build(kind, n):
    """The content of message n; the same in every interpreter."""
    if kind == "int":
        return n * (-1) ** n << (n % 100)
    if kind == "text":
        return f"number {n} ä€😀\ud800"[: n % 20 + 1] * (n % 300)
    if kind == "bytes":
        return n.to_bytes(8) * (n % 500)
    if kind == "big":
        return str(n) * 20_000
    if kind == "tree":
        return {"n": n, "list": [float(i) for i in range(n % 50)],
                "rows": [{"id": i, "name": f"name {i}", "ok": i % 2 == 0} for i in range(20)]}
    if kind == "graph":
        nodes = [s.Node(i) for i in range(n % 20 + 2)]
        for i, node in enumerate(nodes):
            node.link = nodes[(i * 7 + n) % len(nodes)]
            node.all = nodes
        return nodes
    if kind == "objects":
        shared = s.Slotted(n, [n])
        return [s.Plain(n, shared), s.Frozen(shared), s.Pair(shared, n), s.Rank.HIGH,
                s.Dict(a=shared), s.Reduced(n, str(n))]
    if kind == "library":
        return (datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC), Decimal(n) / 7,
                {n, str(n)}, frozenset([n]), range(n), bytearray(str(n), "ascii"))
    if kind == "exception":
        error = failures.Detailed(n, "soak")
        error.__cause__ = KeyError(n)
        return error
    raise ValueError(kind)


def pack(kind, n):
    if kind == "function":
        return lambda x: x + n
    if kind == "view":
        return memoryview(bytearray(n.to_bytes(8) * (n % 100 + 1)))
    if kind == "moved":
        return atoll.move(bytearray(n.to_bytes(8) * (n % 300 + 1)))
    if kind == "buffer":
        buffer = atoll.Buffer(8)
        with memoryview(buffer) as view:
            view[:] = n.to_bytes(8)
        return buffer
    if kind == "queue":
        queue = atoll.create_queue()
        queue.put([n, queue.id])
        return queue
    return build(kind, n)


def check(kind, n, got):
    if kind == "function":
        assert got(1) == n + 1
    elif kind == "view":
        assert got == n.to_bytes(8) * (n % 100 + 1)
    elif kind == "moved":
        assert type(got) is bytearray
        assert got == n.to_bytes(8) * (n % 300 + 1)
        got += b"changed here"
        del got[-12:]
    elif kind == "buffer":
        assert bytes(got) == n.to_bytes(8)
    elif kind == "queue":
        assert got.qsize() == 1
    elif kind == "exception":
        assert (type(got), got.code, got.args) == (failures.Detailed, n, (f"{n} soak",))
        assert got.__cause__.args == (n,)
    else:
        isomorphic.check(build(kind, n), got, copied=False)


def work(ready, box, boxes, out):
    """Until the word comes. Of what a closed worker had sent, what has an odd
    number is reported as lost.

    All that it needs is imported before it is ready, since an interrupt in the
    middle of an import may be lost: Python's import system has weakref callbacks,
    and what is raised in one is printed and forgotten.
    """
    own = atoll.create_queue()
    for kind in KINDS:
        own.put(pack(kind, 1))
        check(kind, 1, own.get())
    ready.put(True)
    while True:
        item = box.get()
        if item is stop or item == stop:
            return
        if item is atoll.UNBOUND:
            out.put("lost")
            continue
        n, kind, hops, content = item
        check(kind, n, content)
        if kind == "moved":
            content = atoll.move(content)
        rule = atoll.UNBOUND if n % 2 else atoll.KEEP
        if hops:
            boxes[(n + hops) % len(boxes)].put((n, kind, hops - 1, content), unbounditems=rule)
        else:
            out.put((n, kind, content), unbounditems=rule)


class Worker:
    def __init__(self, box, boxes, out):
        self.interp = atoll.create()
        self.error = None
        self.ready = atoll.create_queue()
        args = (self.ready, box, boxes, out)
        self.thread = threading.Thread(target=self.run, args=args, daemon=True)
        self.thread.start()

    def run(self, *args):
        try:
            self.interp.call(work, *args)
        except BaseException as exc:
            self.error = exc

    def interrupt(self):
        self.ready.get(timeout=30)
        assert self.interp.interrupt()

    def end(self, interrupted=False):
        self.thread.join(30)
        assert not self.thread.is_alive(), "a worker does not end"
        if self.error is not None:
            if not interrupted or not is_interrupt(self.error):
                raise self.error
        self.interp.close(timeout=30)


def is_interrupt(error):
    return isinstance(error, atoll.ExecutionFailed) and (
        error.excinfo.type.__name__ == "KeyboardInterrupt")


class Count:
    def __init__(self):
        self.waiting = set()
        self.lost = 0
        self.received = 0

    def take(self, out, timeout):
        """Count one item that has come out; False if none has."""
        try:
            item = out.get(timeout=timeout)
        except atoll.QueueEmpty:
            return False
        if item is atoll.UNBOUND or item == "lost":
            self.lost += 1
            return True
        n, kind, content = item
        check(kind, n, content)
        self.waiting.remove(n)  # a KeyError: it has come out twice
        self.received += 1
        return True


def run(count, seed, interrupts):
    rng = random.Random(seed)
    boxes = [atoll.create_queue() for _ in range(WORKERS)]
    out = atoll.create_queue()
    workers = [Worker(box, boxes, out) for box in boxes]
    counted = Count()
    interrupted = closed = 0
    for n in range(count):
        kind = KINDS[rng.randrange(len(KINDS))]
        counted.waiting.add(n)
        boxes[rng.randrange(WORKERS)].put((n, kind, rng.randrange(4), pack(kind, n)))
        if rng.random() < 40 / count:
            at = rng.randrange(WORKERS)
            if interrupts and rng.random() < 0.5:
                workers[at].interrupt()
                interrupted += 1
                workers[at].end(interrupted=True)
            else:
                boxes[at].put(stop)
                workers[at].end()
            closed += 1
            workers[at] = Worker(boxes[at], boxes, out)
        while len(counted.waiting) - counted.lost > IN_FLIGHT + interrupted:
            assert counted.take(out, 30), "nothing comes out any more"
    # What is still under way: until all boxes have been empty for a while.
    end = time.monotonic() + 60
    while len(counted.waiting) > counted.lost and time.monotonic() < end:
        if not counted.take(out, 0.5) and all(box.empty() for box in boxes):
            break
    for box, worker in zip(boxes, workers, strict=True):
        box.put(stop)
        worker.end()
    while counted.take(out, 0):
        pass
    missing = len(counted.waiting)
    assert counted.received + missing == count
    assert 0 <= missing - counted.lost <= interrupted, (missing, counted.lost, interrupted)
    assert sum(n % 2 == 0 for n in counted.waiting) <= interrupted
    return counted.received, counted.lost, interrupted, closed


def resident_kib():
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE") // 1024


def main(count, seed, interrupts):
    run(count // 10, seed, interrupts)
    before, fds = resident_kib(), len(os.listdir("/proc/self/fd"))
    received, lost, interrupted, closed = run(count, seed + 1, interrupts)
    grown = resident_kib() - before
    assert len(os.listdir("/proc/self/fd")) == fds
    assert len(atoll.list_all()) == 1
    print(received, lost, interrupted, closed, grown)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
