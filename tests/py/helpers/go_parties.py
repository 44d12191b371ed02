"""What the parties of test_go_chan.py and test_go_select.py do.

Each runs as a thread, or in an interpreter of its own. Cheap to import.
"""

import atoll


def until_closed(function):
    """The party ends in peace when a channel that it uses is closed."""

    def party(*args):
        try:
            return function(*args)
        except atoll.ChannelClosed:
            return None

    party.__name__ = party.__qualname__ = function.__name__
    party.__module__ = function.__module__
    return party


# ------------------------------------------------------------------- channels


def receive(recv, answer):
    answer.send(recv.recv())


def send_and_tell(send, value, told):
    send.send(value)
    told.send(True)


def link_of_chain(values, expected, before, after):
    """Wait for its turn, take one value, pass the turn on."""
    before.recv()
    value = values.recv()
    after.send(None)
    return value == expected


def pass_on(right, left):
    left.send(right.recv() + 1)


def send_all(send, values):
    for value in values:
        send.send(value)


def send_and_close(send, values):
    with send:
        send_all(send, values)


def send_and_retire(send, values):
    send_all(send, values)
    send.retire()


def receive_all(recv):
    return list(recv)


@until_closed
def count_from(start, step, send):
    with send:
        while True:
            send.send(start)
            start += step


@until_closed
def drop_multiples(recv, send, prime):
    with recv, send:
        for n in recv:
            if n % prime:
                send.send(n)


def member_of_ring(recv, send):
    """Hand a token on until its hops are used up. Whether it ended here."""
    with recv, send:
        try:
            for hops in recv:
                if hops == 0:
                    return True
                send.send(hops - 1)
        except atoll.ChannelClosed:
            pass
        return False


# --------------------------------------------------------------------- select


def member_of_two_way_ring(stop, from_left, to_left, from_right, to_right, done):
    """Hand tokens on in both directions; what it holds does not keep it from
    taking more. Returns how many it has handed on."""
    leftward, rightward, handed = [], [], 0
    while True:
        try:
            which, hops = atoll.select(
                stop,
                from_right,
                from_left,
                (to_left, leftward[0]) if leftward else None,
                (to_right, rightward[0]) if rightward else None,
            )
        except atoll.ChannelClosed as exc:
            assert exc.case == 0
            return handed
        if which in (1, 2):
            if hops == 0:
                done.send(which)
            else:
                (leftward if which == 1 else rightward).append(hops - 1)
        else:
            (leftward if which == 3 else rightward).pop(0)
            handed += 1


def spread(sends, count, close=True):
    """Each number to one of the channels, whichever takes it."""
    for n in range(count):
        atoll.select(*((send, n) for send in sends))
    for send in sends if close else ():
        send.close()


def forward(recv, send, retire):
    for n in recv:
        send.send(n)
    retire.send(None)


def select_all(recvs, out):
    """Receive from all until each is closed. How many came from each."""
    cases, counts = list(recvs), [0] * len(recvs)
    while any(case is not None for case in cases):
        try:
            which, value = atoll.select(*cases)
        except atoll.ChannelClosed as exc:
            cases[exc.case] = None
            continue
        counts[which] += 1
        if out is not None:
            out.send(value)
    return counts


def receive_or_dummy(recv, dummy, count):
    """Of two channels one is never ready."""
    for _ in range(count):
        assert atoll.select(recv, dummy)[0] == 0


def plain_receive(recv, other):
    return recv.recv()


def lone_receive(recv, other):
    return atoll.select(recv)[1]


def select_receive(recv, other):
    return atoll.select(recv, other)[1]


def plain_send(send, value, other):
    send.send(value)


def lone_send(send, value, other):
    assert atoll.select((send, value)) == (0, None)


def select_send(send, value, other):
    assert atoll.select((send, value), (other, "wrong")) == (0, None)


def wait_for_either(first, second, answer):
    """Stands in line at `first`, is served at `second`, then waits at `first`."""
    assert atoll.select(first, second)[0] == 1
    answer.send(None)
    return first.recv()


def third_of_three(first, second, third, answer):
    which, value = atoll.select(first, second, third)
    assert which == 2
    answer.send(value)


def meet(name, others, count, ends):
    """Send its own name and receive the other's, whichever comes first, through
    the same channels. Nobody ever receives what it has sent itself."""
    met = 0
    (a_recv, a_send), (b_recv, b_send) = ends
    for _ in range(count):
        which, value = atoll.select((a_send, name), a_recv, (b_send, name), b_recv)
        if which in (1, 3):
            assert value in others, value
            met += 1
    return met


def try_until_taken(recv, other):
    """Receive without waiting, again and again; whichever is ready."""
    tries = 0
    while True:
        tries += 1
        which, value = atoll.select(recv, other, default="none")
        if which is not None:
            return which, value, tries


def stress_plain(ends, sending, count):
    if sending:
        send_all(ends, range(count))
    else:
        assert [ends.recv() for _ in range(count)] == list(range(count))


def stress_select(ends, sending, count):
    """All channels in one select, each until it has had its share."""
    left = [count] * len(ends)
    while any(left):
        which, value = atoll.select(
            *(
                None if not n else (end, count - n) if sending else end
                for end, n in zip(ends, left, strict=True)
            )
        )
        assert sending or value == count - left[which]
        left[which] -= 1


def count_chosen(cases, count):
    counts = [0] * len(cases)
    for _ in range(count):
        counts[atoll.select(*cases)[0]] += 1
    return counts


def choose(sends, count):
    """0 or 1 to one of two receivers in turns: how often the first was taken."""
    return sum(atoll.select((sends[0], 0), (sends[0], 1))[0] == 0 for _ in range(count))


# --------------------------------------------- the sieve that merges multiples


@until_closed
def buffer_without_end(recv, send):
    """Hands on what comes, in order, and never keeps its sender waiting."""
    kept = []
    with recv, send:
        while True:
            which, value = atoll.select(recv, (send, kept[0]) if kept else None)
            if which == 0:
                kept.append(value)
            else:
                del kept[0]


@until_closed
def sieve_out(composites, candidates, primes, out):
    """Candidates that are no composites; both come in order."""
    with composites, candidates, primes, out:
        n = candidates.recv()
        for composite in composites:
            while n < composite:
                primes.send(n)
                out.send(n)
                n = candidates.recv()
            if n == composite:
                n = candidates.recv()


@until_closed
def merge_multiples(start, primes, composites):
    """Odd multiples of all primes, in order and each once.

    A prime's multiples begin with its square, and are asked for only once the
    merging has come that far.
    """
    streams = []  # [next multiple, its channel, its task]
    with primes, composites:
        try:
            while True:
                prime = primes.recv()
                recv, send = atoll.create_channel(10)
                task = start(count_from, prime * prime, 2 * prime, send)
                del send
                square = recv.recv()
                while streams and (least := min(streams, key=head))[0] < square:
                    n = least[0]
                    composites.send(n)
                    for stream in streams:
                        if stream[0] == n:
                            stream[0] = stream[1].recv()
                # So that the next primes can be found; nothing below it is left.
                composites.send(square)
                streams.append([recv.recv(), recv, task])
        finally:
            for _, recv, task in streams:
                recv.close()
                task.result(10)


def head(stream):
    return stream[0]
