"""A frozen graph is never written: everything is done to one that is read-only.

The memory is mapped read-only after it is frozen (ATOLL_FROZEN_READONLY), so a
write is a crash. The operations run in other processes, from several interpreters
with several threads, that are closed and made again meanwhile.
"""

import pytest
from support import HERE, STRESS, check_python, run_python

PROGRAM = """
    import os, random, sys, threading
    os.environ["ATOLL_FROZEN_READONLY"] = "1"
    sys.path.insert(0, {here!r})
    import atoll, frozenops

    seed, rounds = {seed}, {rounds}
    graph = atoll.freeze(frozenops.sample())
    frozenops.everything(graph.get(), random.Random(seed), 1)

    def one(place):
        for life in range({lives}):
            with atoll.create() as interp:
                interp.call(frozenops.hammer, graph, seed + 100 * place + life, rounds)

    threads = [threading.Thread(target=one, args=(n,)) for n in range(3)]
    [t.start() for t in threads]
    frozenops.hammer(graph, seed - 1, rounds)
    [t.join() for t in threads]
    assert graph.pins == 1, graph.pins
    assert frozenops.same(atoll.thaw(graph), frozenops.sample())
    print("done")
"""


@pytest.mark.parametrize("seed", range(2 * STRESS))
def test_nothing_writes_to_it(seed):
    code = PROGRAM.format(here=HERE, seed=1000 * seed + 7, rounds=20, lives=3)
    assert check_python(code, timeout=120, options=("-W", "ignore")) == "done"


def test_a_write_would_be_seen():
    """The mode works: whoever writes to such a graph crashes."""
    done = run_python(
        """
        import os, ctypes
        os.environ["ATOLL_FROZEN_READONLY"] = "1"
        import atoll
        graph = atoll.freeze([1.5])
        ctypes.memset(id(graph.get()) + 16, 0, 8)
        """
    )
    assert done.returncode == -11
