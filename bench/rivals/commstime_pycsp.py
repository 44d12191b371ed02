"""Commstime with PyCSP's threads, for bench/py/csp.py: as commstime.go.

    python commstime_pycsp.py COUNT

prints the ns of each number. https://pypi.org/project/pycsp
"""

import os
import sys
import time

# It looks for the address of this machine in a way that fails on Python 3.
os.environ.setdefault("PYCSP_HOST", "127.0.0.1")

from pycsp.parallel import Channel, Parallel, poison, process, shutdown


@process
def prefix(first, receive, send):
    send(first)
    while True:
        send(receive())


@process
def delta(receive, send_a, send_b):
    while True:
        value = receive()
        send_a(value)
        send_b(value)


@process
def successor(receive, send):
    while True:
        send(receive() + 1)


@process
def consumer(receive, count):
    warm = count // 10 + 1
    for _ in range(warm):
        receive()
    start = time.perf_counter_ns()
    for n in range(warm, warm + count):
        assert receive() == n
    print((time.perf_counter_ns() - start) / count, flush=True)
    poison(receive)


def main():
    a, b, c, d = (Channel(name) for name in "abcd")
    Parallel(
        prefix(0, b.reader(), a.writer()),
        delta(a.reader(), d.writer(), c.writer()),
        successor(c.reader(), b.writer()),
        consumer(d.reader(), int(sys.argv[1])),
    )
    shutdown()


if __name__ == "__main__":
    main()
