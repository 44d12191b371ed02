"""Power series as processes: the parties of test_go_powser.py. Cheap to import.

A series is a process that gives its coefficients one by one, as they are asked for.
Its other side has the two ends of `Series`.
"""

from fractions import Fraction
from typing import NamedTuple

import atoll


class Series(NamedTuple):
    """What the consumer of a series has."""

    ask: atoll.SendChannel
    answer: atoll.RecvChannel

    def next(self):
        self.ask.send(None)
        return self.answer.recv()

    def close(self):
        self.ask.close()
        self.answer.close()


class Output(NamedTuple):
    """What its process has."""

    asked: atoll.RecvChannel
    give: atoll.SendChannel

    def put(self, value):
        self.asked.recv()
        self.give.send(value)

    def close(self):
        self.asked.close()
        self.give.close()


def connection():
    asked, ask = atoll.create_channel()
    answer, give = atoll.create_channel()
    return Series(ask, answer), Output(asked, give)


def process(body, ends, args):
    """`body` until a neighbour has gone; then it leaves all of its neighbours."""
    try:
        body(*ends, *args)
    except atoll.ChannelClosed:
        pass
    finally:
        for end in ends:
            end.close()


class Network:
    """Starts the processes of series, and ends them all."""

    def __init__(self, start):
        self.start, self.parties = start, []

    def run(self, body, *ends, args=()):
        self.parties.append(self.start(process, body, ends, args))

    def series(self, body, *inputs, args=()):
        """The series that `body(output, *inputs, *args)` gives."""
        series, output = connection()
        self.run(body, output, *inputs, args=args)
        return series

    def end(self, timeout, *series):
        """`series` are asked for no more; nor, thereby, is any other."""
        for one in series:
            one.close()
        for party in self.parties:
            party.result(timeout)
        return len(self.parties)


# -------------------------------------------------------------------- processes


def get_both(first, second):
    """Ask both and take both answers, in whichever order the two are ready."""
    inputs, got = (first, second), [None, None]
    cases = [(first.ask, None), (second.ask, None), None, None]
    for _ in range(4):
        which, value = atoll.select(*cases)
        cases[which] = None
        if which < 2:
            cases[2 + which] = inputs[which].answer
        else:
            got[which - 2] = value
    return got


def repeat(output, value):
    while True:
        output.put(value)


def polynomial(output, *coefficients):
    for value in coefficients:
        output.put(value)
    repeat(output, Fraction(0))


def add(output, first, second):
    while True:
        output.asked.recv()
        output.give.send(sum(get_both(first, second)))


def dot(output, first, second):
    """The inner product of the coefficients so far."""
    total = Fraction(0)
    while True:
        output.asked.recv()
        a, b = get_both(first, second)
        total += a * b
        output.give.send(total)


def scale(output, series, factor):
    while True:
        output.asked.recv()
        output.give.send(factor * series.next())


def shift(output, series, first):
    """first + x * series"""
    output.put(first)
    while True:
        output.asked.recv()
        output.give.send(series.next())


def differentiate(output, series):
    series.next()
    n = 1
    while True:
        output.asked.recv()
        output.give.send(n * series.next())
        n += 1


def integrate(output, series, constant):
    output.put(constant)
    n = 1
    while True:
        output.asked.recv()
        output.give.send(series.next() / n)
        n += 1


def substitute(output, series, factor, power):
    """The series of factor * x**power: zeros in between."""
    scale_by = Fraction(1)
    while True:
        output.asked.recv()
        output.give.send(series.next() * scale_by)
        scale_by *= factor
        for _ in range(power - 1):
            output.put(Fraction(0))


def split(first, second, series):
    """The same series twice. What one side has had, and the other has not, is kept.

    While it waits for a coefficient it serves both sides with those that it has: to
    find this one, `series` may have to ask for them.
    """
    outputs, had, waits, kept = (first, second), [0, 0], [False, False], []
    asked = False
    while True:
        lacks = any(w and n == len(kept) for w, n in zip(waits, had, strict=True))
        which, value = atoll.select(
            None if waits[0] else first.asked,
            None if waits[1] else second.asked,
            (series.ask, None) if lacks and not asked else None,
            series.answer if asked else None,
        )
        if which < 2:
            waits[which] = True
        else:
            asked = which == 2
        if which == 3:
            kept.append(value)
        for side in range(2):
            if waits[side] and had[side] < len(kept):
                outputs[side].give.send(kept[had[side]])
                had[side] += 1
                waits[side] = False


def multiply(output, first, second):
    """Each coefficient needs all that have come before."""
    a, b = [], []
    while True:
        output.asked.recv()
        for got, value in zip((a, b), get_both(first, second), strict=True):
            got.append(value)
        output.give.send(sum(x * y for x, y in zip(a, reversed(b), strict=True)))
