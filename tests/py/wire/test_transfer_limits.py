"""Depth and memory: messages that are too much for one side."""

import pytest
from support import check_python

SNEAKY = "import atoll, awkward, gc, sys\nfrom awkward import *\nq = atoll.create_queue()\n"


DEPTH = """
keep = []  # taking such objects apart may recurse in CPython itself
wrap = {kind}
def chain(depth):
    obj = None
    for n in range(depth):
        obj = wrap(obj)
    return obj
def attempt(depth, get):
    keep.append(chain(depth))
    try:
        q.put(keep[-1])
    except (RecursionError, atoll.NotShareableError, MemoryError):
        assert q.empty()
        return "refused"
    try:
        keep.append(get())
    except (RecursionError, atoll.ExecutionFailed, MemoryError):
        return "not received"
    return "received"
"""
KINDS = ["lambda x: (x,)", "lambda x: [x]", "lambda x: {1: x}", "lambda x: Node(x)",
         "lambda x: frozenset([x])", "lambda x: Slotted(x)", "lambda x: Tuple((x,))",
         "lambda x: Reduced(x)", "lambda x: deque([x])", "lambda x: Pair(x)",
         "lambda x: partial(x or print)"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_million_deep_is_no_crash(kind):
    """Encoding and decoding; and in threads whose stacks are smaller."""
    out = check_python(
        SNEAKY
        + "import os, threading, workers\nfrom collections import deque\n"
        + "from sendable import *\nfrom functools import partial\n"
        + DEPTH.format(kind=kind)
        + """
interp = atoll.create()
assert attempt(100, q.get) == "received"
def small():
    got.append(attempt(20_000, q.get))
for depth in (1_000, 30_000, 1_000_000):
    attempt(depth, q.get)
    attempt(depth, lambda: interp.call(workers.receive_and_keep, q))
# CPython 3.13 counts calls and does not look at the stack.
threading.stack_size(256 * 1024 if sys.version_info >= (3, 14) else 16 << 20)
got = []
for target in (small, lambda: got.append(attempt(20_000, q.get))):
    thread = threading.Thread(target=target)
    thread.start()
    thread.join()
assert len(got) == 2, got
while not q.empty():
    try: q.get()
    except RecursionError: pass
q.put("fine")
print(interp.call(q.get), flush=True)
os._exit(0)
""",
        timeout=90,
    )
    assert out == "fine"


def test_what_was_sent_may_be_too_deep_for_the_receiver():
    """Sent with a large stack, received in a thread with a small one."""
    out = check_python(
        SNEAKY
        + """
import threading, os
sys.setrecursionlimit(10**7)
threading.stack_size(512 * 1024 * 1024)
def send():
    for depth in (100, 1_000, 10_000, 100_000, 1_000_000):
        for wrap in (lambda x: [x], lambda x: (x,), lambda x: Holder(x=x)):
            obj = None
            for _ in range(depth):
                obj = wrap(obj)
            keep.append(obj)
            try:
                q.put(obj)
            except (RecursionError, atoll.NotShareableError):
                pass
    q.put("end")
def receive():
    while True:
        try:
            obj = q.get()
            keep.append(obj)
        except RecursionError:
            continue
        if obj == "end":
            done.append(1)
            return
keep, done = [], []
# CPython 3.13 counts calls and does not look at the stack.
small = 256 << 10 if sys.version_info >= (3, 14) else 16 << 20
for size, target in ((512 << 20, send), (small, receive)):
    threading.stack_size(size)
    thread = threading.Thread(target=target)
    thread.start()
    thread.join()
print(len(done), flush=True)
os._exit(0)
""",
        timeout=60,
    )
    assert out == "1"


@pytest.mark.parametrize(
    "big",
    ["[str(n) * 150 for n in range(60_000)]", "[[n, {n: (n,)}] for n in range(150_000)]",
     "b'x' * 60_000_000", "['é' * 30_000_000, bytearray(30_000_000)]",
     "[Holder(a=n, b=[n]) for n in range(80_000)]"],
)
def test_out_of_memory_halfway_through_a_message(big):
    """MemoryError where it happens, and the next message arrives."""
    out = check_python(
        SNEAKY
        + f"""
import resource
soft, hard = resource.getrlimit(resource.RLIMIT_AS)
def limit(more):
    with open("/proc/self/statm") as file:
        now = int(file.read().split()[0]) * 4096
    resource.setrlimit(resource.RLIMIT_AS, (now + more if more else soft, hard))
try: raise MemoryError
except MemoryError: pass
big = {big}
q.put([])  # all that has to be imported is there
q.get()
for direction in ("put", "get"):
    if direction == "get":
        q.put(big)
        q.put("next")
    for more in (1 << 20, 4 << 20, 8 << 20):
        limit(more)
        try:
            if direction == "put":
                q.put(big)
            else:
                got = q.get()
        except MemoryError:
            print(direction, "MemoryError")
        else:
            got = None
            print(direction, "enough")
        limit(0)
        if direction == "put":
            while not q.empty():
                q.get()
        else:
            assert q.get() == "next"
            break
"""
    ).split("\n")
    assert "put MemoryError" in out
    # A large bytes or str may be adopted as it is.
    assert out[-1] == "get MemoryError" or "30_000_000" in big or "60_000_000" in big
