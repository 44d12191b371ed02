"""What the parties of csp.py do, each in an interpreter of its own."""

import time

import atoll

# --------------------------------------------------------- ping-pong by select


def warm_up(count):
    """Rounds before the clock starts: until both are awake, as the rivals do."""
    return count // 10 + 1


def select_echo(there, back, never, count):
    """Takes the ball by a select over `there`, sends it back by one, too."""
    select, n = atoll.select, len(back)
    for i in range(warm_up(count) + count):
        select((back[i % n], select(*there)[1]), never)


def select_ping(there, back, never, count):
    """The other side. ns for each round trip."""
    select, n, warm = atoll.select, len(there), warm_up(count)
    for i in range(warm + count):
        if i == warm:
            start = time.perf_counter_ns()
        select((there[i % n], i), never)
        if select(*back)[1] != i:
            raise RuntimeError("another ball came back")
    return (time.perf_counter_ns() - start) / count


# -------------------------------------------------------------------- commstime


def prefix(recv, send):
    send.send(0)
    take, give = recv.recv, send.send
    try:
        while True:
            give(take())
    except atoll.ChannelClosed:
        send.close()


def delta(recv, send_a, send_b):
    take, give_a, give_b = recv.recv, send_a.send, send_b.send
    try:
        while True:
            value = take()
            give_a(value)
            give_b(value)
    except atoll.ChannelClosed:
        send_a.close()
        send_b.close()


def successor(recv, send):
    take, give = recv.recv, send.send
    try:
        while True:
            give(take() + 1)
    except atoll.ChannelClosed:
        send.close()


def consumer(recv, count, rounds):
    """ns for each number, per round. Then it leaves, and so do all."""
    take, warm, times = recv.recv, count // 10 + 1, []
    for _ in range(warm):
        take()
    expected = warm
    for _ in range(rounds):
        start = time.perf_counter_ns()
        for _ in range(count):
            if take() != expected:
                raise RuntimeError("a number is missing")
            expected += 1
        times.append((time.perf_counter_ns() - start) / count)
    recv.close()
    return times


# ----------------------------------------------------------------- many waiters


def wait_for_close(recv, waiters, ready, out):
    """`waiters` threads that are blocked in recv(). Sends when the last one was told
    that the channel is closed."""
    import threading

    told = []

    def wait():
        try:
            recv.recv()
        except atoll.ChannelClosed:
            told.append(time.monotonic_ns())

    # A small stack: 1,000 threads of 8 MiB each are much address space.
    threading.stack_size(256 * 1024)
    threads = [threading.Thread(target=wait) for _ in range(waiters)]
    for thread in threads:
        thread.start()
    ready.send(None)
    for thread in threads:
        thread.join()
    if len(told) != waiters:
        raise RuntimeError("somebody was not told")
    out.send(max(told))
