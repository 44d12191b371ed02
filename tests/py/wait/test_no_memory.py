"""Each allocation of atoll's own fails once: MemoryError, and nothing is lost.

Python's own allocator is not touched (its failures look the same to a caller), and
limits of the process hit whatever comes first. So a small library is preloaded that
fails the N-th call from the extension module, for N = 1, 2, ... until none is left."""

import shutil
import subprocess

import pytest
from support import HERE, UNDER_ASAN, run_python

pytestmark = [
    pytest.mark.skipif(UNDER_ASAN, reason="has malloc"),
    pytest.mark.skipif(shutil.which("gcc") is None, reason="needs a compiler"),
]

# What is done, what must be unchanged when it has failed.
CODE = """
import ctypes, datetime, decimal, gc
import atoll
import frozenkinds
lib = ctypes.CDLL(None)
lib.fail_at.argtypes = [ctypes.c_long]

def each(what, operation, state, least=1):
    operation()  # imports, caches
    before = state()
    for n in range(1, 100_000):
        lib.fail_at(n)
        try:
            result = operation()
        except MemoryError:
            result = None
        fired = lib.fail_fired()
        lib.fail_at(0)
        del result
        now = state()
        assert now == before, (what, n, before, now)
        if not fired:
            break
    assert n > least, (what, n)
    print(what, n)

def frozen():
    gc.collect()
    return atoll.frozen_stats()

"""

CASES = {
    "freeze": """
words = [f"word {n}" for n in range(300)]
data = {
    "words": words, "numbers": [n * 1.5 for n in range(3000)], "text": "é" * 100,
    "deep": [[[[[[1]]]]]], "set": {1, "a", (2, 3)}, "when": datetime.datetime(2026, 1, 1),
    "sum": decimal.Decimal("1.5"), "shared": [words, words], 5: slice(1, 2),
    "buffer": bytearray(100_000), "point": frozenkinds.Point(1, 2),
}
each("freeze", lambda: atoll.freeze(data), frozen, 5)
""",
    "open": """
data = {"set": {1, "a", (2, 3)}, "when": datetime.datetime(2026, 1, 1), "rows": [[1, 2]] * 9}
def fresh():
    graph = atoll.freeze(data)
    return graph.view()["rows"][0], atoll.thaw(graph)
each("view and thaw", fresh, frozen, 3)
""",
    "queue": """
queue = atoll.create_queue()
obj = [{"a": 1}, "text" * 1000, bytearray(100_000), 2**100, {1, 2}, ValueError("x")]
def through():
    queue.put(obj)
    try:
        return queue.get_nowait()
    except MemoryError:
        # What could not be decoded is still there.
        return queue.get_nowait()
each("queue", through, lambda: queue.qsize(), 3)
""",
    "channel": """
def channel():
    recv, send = atoll.create_channel(3)
    for n in range(3):
        send.send([n, "x" * 5000])
    return [recv.recv() for _ in range(3)]
each("channel", channel, lambda: 0, 3)
""",
    "select": """
queues = [atoll.create_queue() for _ in range(20)]
def choose():
    which, item = atoll.select((queues[3], [1, 2, "x" * 100_000]), default=None)
    assert which == 0
    return atoll.select(*queues)
def left():
    sizes = sum(queue.qsize() for queue in queues)
    while queues[3].qsize():
        queues[3].get()
    return 0
each("select", choose, left, 0)
""",
}


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    path = tmp_path_factory.mktemp("fail") / "fail_malloc.so"
    command = ["gcc", "-shared", "-fPIC", "-O1", "-o", path, f"{HERE}/fail_malloc.c", "-ldl"]
    subprocess.run(command, check=True)
    return path


@pytest.mark.alone
@pytest.mark.parametrize("name", CASES)
def test_each_allocation_fails_once(name, library, monkeypatch):
    monkeypatch.setenv("LD_PRELOAD", str(library))
    done = run_python(CODE + CASES[name], timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
