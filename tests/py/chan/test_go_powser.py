"""Power series as networks of processes, after Go's test/chan/powser1.go.

https://github.com/golang/go (BSD licence); the idea is Doug McIlroy's, "Squinting at
Power Series" (1990). A process for each operation, which is asked for each coefficient;
an operation on two series asks both by select.
"""

from fractions import Fraction as F
from math import factorial

import powser
import pytest
from support import SLACK, Task


@pytest.fixture
def net(start):
    return powser.Network(start)


def take(series, n):
    return [series.next() for _ in range(n)]


def ones(net):
    return net.series(powser.repeat, args=(F(1),))


def test_sum_derivative_integral(net):
    """powser1.go: 1/(1-x) twice, added; its derivative; its integral, the logarithm."""
    two = net.series(powser.add, ones(net), ones(net))
    derivative = net.series(powser.differentiate, ones(net))
    log = net.series(powser.integrate, ones(net), args=(F(0),))
    assert take(two, 10) == [2] * 10
    assert take(derivative, 10) == list(range(1, 11))
    assert take(log, 10) == [0, *(F(1, n) for n in range(1, 10))]
    assert net.end(SLACK, two, derivative, log) == 7


def test_arc_tangent(net):
    """powser1.go: the integral of 1/(1+x*x)."""
    inner = net.series(powser.substitute, ones(net), args=(F(-1), 2))
    arctan = net.series(powser.integrate, inner, args=(F(0),))
    expected = [F(0) if n % 2 == 0 else F((-1) ** (n // 2), n) for n in range(12)]
    assert take(arctan, 12) == expected
    assert net.end(SLACK, arctan) == 3


def test_dot_product(net):
    """Of 1, 2, 3, ... and 1, 1/2, 1/4, ...: the sums come to 4."""
    counting = net.series(powser.differentiate, ones(net))
    halves = net.series(powser.substitute, ones(net), args=(F(1, 2), 1))
    dot = net.series(powser.dot, counting, halves)
    assert take(dot, 20)[-1] == sum(F(n + 1, 2**n) for n in range(20))
    assert net.end(SLACK, dot) == 5


def test_product(net):
    """powser1.go: 1/(1-x) squared; and with a polynomial, which it turns into 1."""
    square = net.series(powser.multiply, ones(net), ones(net))
    inverse = net.series(powser.polynomial, args=(F(1), F(-1)))
    one = net.series(powser.multiply, ones(net), inverse)
    assert take(square, 10) == list(range(1, 11))
    assert take(one, 10) == [1] + [0] * 9
    assert net.end(SLACK, square, one) == 6


def test_exponential(net):
    """powser1.go: Z = exp(U) is the integral of Z times the derivative of U: a process
    that is asked for what it has given itself, through a split."""
    coefficients = tuple(F(n == 1) for n in range(3))
    u = net.series(powser.polynomial, args=coefficients)
    mine, to_me = powser.connection()
    again, to_product = powser.connection()
    product = net.series(powser.multiply, again, net.series(powser.differentiate, u))
    z = net.series(powser.integrate, product, args=(F(1),))
    net.run(powser.split, to_me, to_product, z)
    assert take(mine, 12) == [F(1, factorial(n)) for n in range(12)]
    assert net.end(SLACK, mine) == 5


@pytest.mark.parametrize("start", ["threads"], indirect=True)
def test_many_processes(net):
    """powser1.go: hundreds of processes, each of which waits for the next."""
    series = ones(net)
    for _ in range(100):
        series = net.series(powser.add, series, ones(net))
    assert take(series, 20) == [101] * 20
    assert net.end(SLACK, series) == 201
    assert net.start is Task
