"""Values: what goes in comes out, equal and of the same class."""

import datetime
import decimal
import fractions
import math
import struct
import sys
import uuid
from collections import OrderedDict, deque
from pathlib import PurePosixPath

import atoll
import pytest
import workers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import STRESS, Task, name_of
from workers import Colour, MyInt, MyStr, Point


def same(a, b):
    """Equal, of the same classes, with NaN equal to NaN and 0.0 unlike -0.0."""
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return struct.pack("d", a) == struct.pack("d", b) or (a != a and b != b)
    if isinstance(a, complex):
        return same(a.real, b.real) and same(a.imag, b.imag)
    if isinstance(a, (tuple, list)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return same(list(a.items()), list(b.items()))
    if isinstance(a, Point):
        return same((a.x, a.y), (b.x, b.y))
    return a == b


@pytest.fixture
def trip(queue):
    def trip(obj):
        queue.put(obj)
        return queue.get_nowait()

    return trip


@pytest.fixture(scope="module")
def there():
    """Send to another interpreter and back."""
    a, send = atoll.create_channel()
    recv, b = atoll.create_channel()
    interp = atoll.create()
    task = Task(interp.call, workers.echo, a, b)
    del a, b

    def trip(obj):
        send.send(obj)
        return recv.recv()

    yield trip
    send.close()
    task.result()
    interp.close()


# st.text() leaves out surrogates, on which UTF-8 would fail.
text = st.text(st.characters(codec=None, categories=None))
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.just(...),
    st.integers(),
    st.integers(-(2**300), 2**300),
    st.sampled_from([s * (2**n + d) for n in (7, 8, 15, 31, 32, 63, 64, 127)
                     for d in (-1, 0, 1) for s in (1, -1)]),
    st.floats(),
    st.complex_numbers(),
    text,
    st.binary(),
)
plain = st.recursive(scalars, lambda inner: st.lists(inner).map(tuple))
anything = st.recursive(
    scalars | st.datetimes() | st.decimals(allow_nan=False) | st.uuids(),
    lambda inner: st.one_of(
        st.lists(inner).map(tuple),
        st.lists(inner),
        st.dictionaries(text | st.integers(), inner),
        st.builds(Point, st.integers(), inner),
    ),
    max_leaves=20,
)
quickly = settings(
    max_examples=200 * STRESS,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@quickly
@given(plain)
def test_plain_values(trip, obj):
    assert same(trip(obj), obj)
    assert atoll.is_shareable(obj)


@quickly
@given(anything)
def test_any_values(trip, obj):
    assert same(trip(obj), obj)


@quickly
@given(anything)
def test_there_and_back(there, obj):
    assert same(there(obj), obj)


@pytest.mark.parametrize(
    "obj",
    [
        math.nan,
        -math.nan,
        math.inf,
        -math.inf,
        0.0,
        -0.0,
        5e-324,
        sys.float_info.max,
        complex(-0.0, math.nan),
        complex(math.inf, -0.0),
        (math.nan, -0.0),
    ],
)
def test_floats(trip, obj):
    assert same(trip(obj), obj)


@pytest.mark.parametrize("bits", [*range(130), 1000, 4096, 100_000])
def test_ints(trip, bits):
    for n in (2**bits, 2**bits - 1, 2**bits + 1):
        assert trip(n) == n
        assert trip(-n) == -n
        assert trip((n, -n)) == (n, -n)


@pytest.mark.parametrize(
    "obj",
    [
        "",
        "\0",
        "a\0b\0",
        "\x7f",
        "\x80",
        "\xff",
        "\u0100",
        "\ud800",
        "\udfff",
        "\ud83d\ude00",  # two surrogates are not one character
        "\uffff",
        "\U00010000",
        "\U0010ffff",
        "x" * 39,
        "x" * 40,
        "x" * 41,
        "é" * 5000,
        "€" * 5000,
        "😀" * 5000,
    ],
)
def test_strings(trip, there, obj):
    for got in (trip(obj), there(obj), trip((obj,))[0], there([obj])[0]):
        assert got == obj
        assert len(got) == len(obj)
        assert sys.getsizeof(got) <= sys.getsizeof(obj)
        assert hash(got) == hash(obj)
        assert {obj: 1}[got] == 1


@pytest.mark.parametrize("size", [*range(20, 60), 511, 512, 4095, 4096, 4097, 70_000])
def test_sizes(trip, size):
    for obj in (b"\xa5" * size, "x" * size, tuple(range(size)), [0] * size):
        assert trip(obj) == obj


def test_ten_megabytes(there):
    data = bytes(range(256)) * 40_000
    assert there(data) == data
    text = "0123456789" * 1_000_000
    assert there(text) == text
    assert there([text, data]) == [text, data]


@pytest.mark.parametrize(
    "obj",
    [
        MyStr("kept"),
        MyInt(5),
        Colour.RED,
        Colour.BLUE,
        Point(1, [Point(2)]),
        (MyStr("in a tuple"), MyInt(7)),
        {MyStr("key"): {MyInt(1)}},
        datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.UTC),
        datetime.timedelta(1, 2, 3),
        datetime.date(1, 1, 1),
        decimal.Decimal("1.10"),
        fractions.Fraction(1, 3),
        uuid.UUID(int=7),
        PurePosixPath("/a/b"),
        range(5),
        slice(1, None, 2),
        bytearray(b"x" * 50),
        {1, 2},
        frozenset([1, (2,)]),
        OrderedDict(b=1, a=2),
        deque([1, 2], 3),
        ValueError("an exception", 1),
        NotImplemented,
        len,
        int,
        Point,
        workers.spin,
    ],
    ids=name_of,
)
def test_pickled_values(there, obj):
    got = there(obj)
    assert type(got) is type(obj)
    assert repr(got) == repr(obj)
    assert got == obj or isinstance(obj, Exception)


def test_shared_parts_stay_shared(trip):
    inner = [1]
    got = trip([inner, inner, {"a": inner}])
    assert got[0] is got[1] is got[2]["a"]
    got[0].append(2)
    assert inner == [1]


def test_a_list_that_contains_itself(trip, there):
    loop = [1]
    loop.append(loop)
    for way in (trip, there):
        got = way(loop)
        assert got[0] == 1
        assert got[1] is got
    holder = ([],)
    holder[0].append(holder)
    got = trip(holder)
    assert got[0][0] is got


def test_a_tuple_with_exponential_sharing(there):
    """2**60 leaves, 60 objects."""
    obj = ("leaf",)
    for _ in range(60):
        obj = (obj, obj)
    got = there(obj)
    for _ in range(60):
        assert got[0] is got[1]
        got = got[0]
    assert got == ("leaf",)


def test_moderate_depth(there):
    for wrap in (lambda x: (x,), lambda x: [x], lambda x: {"k": x}):
        obj = None
        for _ in range(100):
            obj = wrap(obj)
        assert there(obj) == obj


def test_is_shareable():
    recv, send = atoll.create_channel()
    for obj in (None, True, 1, 2**99, 1.0, 1j, "", b"", (), ((1,), "x"), ...,
                atoll.create_queue(), recv, send, atoll.get_main(), (recv,)):
        assert atoll.is_shareable(obj) is True
    deep = ()
    for _ in range(100_000):
        deep = (deep,)
    for obj in ([], {}, ([],), MyInt(1), MyStr(""), object(), deep, Point(1), int):
        assert atoll.is_shareable(obj) is False
    while deep:
        (deep,) = deep
    with pytest.raises(TypeError):
        atoll.is_shareable()
