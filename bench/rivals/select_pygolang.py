"""Selects of pygolang's, for bench/py/csp.py: as select.go, with threads.

    python select_pygolang.py ready|pingpong N COUNT

prints the ns of each. https://pypi.org/project/pygolang
"""

import sys
import time

from golang import chan, go, select


def ready(n, count):
    chans = [chan(1) for _ in range(n)]
    receives = tuple(c.recv for c in chans)
    for i in range(count):
        chans[i % n].send(i)
        assert select(*receives)[1] == i


def pingpong(n, count):
    there, back = ([chan() for _ in range(n)] for _ in range(2))
    never = chan()
    of_there, of_back = (tuple(c.recv for c in side) for side in (there, back))

    def other():
        for i in range(count):
            select((back[i % n].send, select(*of_there)[1]), never.recv)

    go(other)
    for i in range(count):
        select((there[i % n].send, i), never.recv)
        assert select(*of_back)[1] == i


if __name__ == "__main__":
    play = {"ready": ready, "pingpong": pingpong}[sys.argv[1]]
    n, count = int(sys.argv[2]), int(sys.argv[3])
    play(n, count // 10 + 1)
    start = time.perf_counter_ns()
    play(n, count)
    print((time.perf_counter_ns() - start) / count)
