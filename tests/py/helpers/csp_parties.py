"""What the parties of test_csp_classics.py do. Cheap to import."""

import atoll

# ------------------------------------------------------------ dining philosophers


def butler(sit, leave, seats):
    """Lets no more than `seats` sit down at once: the guard on `sit` is whether there
    is a free one. Ends when `sit` is closed. The most that sat at once."""
    seated = most = 0
    while True:
        try:
            which, _ = atoll.select(leave, sit if seated < seats else None)
        except atoll.ChannelClosed as exc:
            assert exc.case == 1 and seated == 0
            return most
        seated += 1 if which == 1 else -1
        most = max(most, seated)


def fork(take, put):
    """One of two philosophers takes it, and then the same one puts it down. Ends when
    both have left. How often it was taken."""
    cases, taken = list(take), 0
    while any(case is not None for case in cases):
        try:
            which, _ = atoll.select(*cases)
        except atoll.ChannelClosed as exc:
            cases[exc.case] = None
            continue
        put[which].recv()
        taken += 1
    return taken


def philosopher(name, meals, sit, leave, left, right, table):
    """`left`, `right`: the channels to take a fork and to put it down."""
    for _ in range(meals):
        sit.send(name)
        left[0].send(name)
        right[0].send(name)
        table.send((name, "eats"))
        table.send((name, "has eaten"))
        left[1].send(name)
        right[1].send(name)
        leave.send(name)
    for hand in (left, right):
        hand[0].close()


# ---------------------------------------------------------- sieve of Eratosthenes


def numbers(send):
    try:
        n = 2
        while True:
            send.send(n)
            n += 1
    except atoll.ChannelClosed:
        return n


def prime(recv, send):
    """The first number that comes is its prime; of the others it hands on those that
    are no multiples. Ends when either neighbour does. Its prime."""
    with recv:
        mine = recv.recv()
        if send is None:  # the last of the chain
            return mine
        with send:
            try:
                for n in recv:
                    if n % mine:
                        send.send(n)
            except atoll.ChannelClosed:
                pass
    return mine


# --------------------------------------------------------------------- commstime


def prefix(first, recv, send):
    """`first`, and then what comes."""
    with recv, send:
        try:
            send.send(first)
            for value in recv:
                send.send(value)
        except atoll.ChannelClosed:
            pass


def delta(recv, send_a, send_b):
    """What comes to both, one after the other."""
    with recv, send_a, send_b:
        try:
            for value in recv:
                send_a.send(value)
                send_b.send(value)
        except atoll.ChannelClosed:
            pass


def parallel_delta(recv, send_a, send_b):
    """What comes to both, to whoever takes it first."""
    with recv, send_a, send_b:
        try:
            for value in recv:
                cases = [(send_a, value), (send_b, value)]
                which, _ = atoll.select(*cases)
                cases[which] = None
                atoll.select(*cases)
        except atoll.ChannelClosed:
            pass


def successor(recv, send):
    with recv, send:
        try:
            for value in recv:
                send.send(value + 1)
        except atoll.ChannelClosed:
            pass


def consumer(recv, count):
    with recv:
        return [recv.recv() for _ in range(count)]


# ------------------------------------------------------------------ end by poison


class Enough(Exception):
    """Raised by who has had enough. Crosses by name."""


def poisoned(party, *args):
    """`party`, whose end by an error is passed on to all channels that it uses."""
    with atoll.poison_on_exit(*(arg for arg in args if hasattr(arg, "capacity"))):
        party(*args)


def copy(first, recv, send):
    """A prefix that ends by errors only."""
    send.send(first)
    while True:
        send.send(recv.recv())


def split(recv, send_a, send_b):
    while True:
        value = recv.recv()
        send_a.send(value)
        send_b.send(value)


def count_up(recv, send):
    while True:
        send.send(recv.recv() + 1)


def have_enough(recv, count):
    for _ in range(count):
        recv.recv()
    raise Enough(count)
