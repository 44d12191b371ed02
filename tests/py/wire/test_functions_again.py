"""A function that is sent again: kept where nothing has changed, and only there."""

import math

import atoll
import pytest
import workers
from support import rss_kib

FACTOR = 3
BOX = [1]


def returning(value):
    return lambda: value


def same_twice(interp, function):
    """Whether it arrives as one object when it is sent twice."""
    interp.call(workers.keep, function)
    return interp.call(workers.keep, function)



def test_a_function_that_captures_nothing_mutable_arrives_as_the_same_object(interp):
    n, text = 5, ("a", 1.5, frozenset([1]))
    for function in (lambda x: x + 1, lambda: n, lambda x=2, *, y="b": (x, y, n, text),
                     lambda: FACTOR, lambda: math.pi, lambda: [k for k in range(3)]):
        assert same_twice(interp, function)


def test_one_source_line_makes_different_functions(interp):
    made = [lambda n=n: n for n in range(20)]
    assert [interp.call(f) for f in made * 2] == [*range(20)] * 2
    made = [returning(n) for n in range(20)]
    assert [interp.call(f) for f in made * 2] == [*range(20)] * 2
    # 1, True and 1.0 are equal, and so are 0.0 and -0.0.
    for values in ((1, True, 1.0), (0.0, -0.0), ("1", b"1")):
        made = [returning(v) for v in values]
        assert [repr(interp.call(f)) for f in made] == [repr(v) for v in values]


def test_functions_that_differ_in_their_code_alone(interp):
    made = [eval(f"lambda: {value}") for value in ("1", "True", "1.0", "(1,)", "(True,)",
                                                    "0.0", "-0.0", "'1'", "b'1'", "(1.0,)")]
    assert [repr(interp.call(f)) for f in made] == [repr(f()) for f in made]


def test_a_changed_global_is_seen(interp, monkeypatch):
    f = lambda: (FACTOR, BOX)
    assert interp.call(f) == (3, [1])
    monkeypatch.setitem(globals(), "FACTOR", 4)
    assert interp.call(f) == (4, [1])
    monkeypatch.setitem(globals(), "BOX", [2])
    assert interp.call(f) == (4, [2])
    BOX.append(3)
    assert interp.call(f) == (4, [2, 3])


def test_a_changed_closure_is_seen(interp):
    n, box = 1, [1]
    f = lambda: (n, box)
    assert interp.call(f) == (1, [1])
    n = 2
    assert interp.call(f) == (2, [1])
    box.append(2)
    assert interp.call(f) == (2, [1, 2])
    assert not same_twice(interp, f)


def test_changed_defaults_attributes_and_code_are_seen(interp):
    def f(x=1):
        return x, getattr(f, "note", None)

    assert interp.call(f) == (1, None)
    f.__defaults__ = (2,)
    assert interp.call(f) == (2, None)
    f.note = "noted"
    assert interp.call(f) == (2, "noted")
    g = lambda x=1: ("one", x)
    assert interp.call(g) == ("one", 1)
    g.__code__ = (lambda x: ("other", x)).__code__
    assert interp.call(g) == ("other", 1)


def test_a_changed_helper_is_seen(interp):
    """The function that is sent stays the same; one that it calls does not."""
    namespace = {}
    exec("def helper(): return 1\ndef outer(): return helper()", namespace)
    assert interp.call(namespace["outer"]) == 1
    exec("def helper(): return 2", namespace)
    assert interp.call(namespace["outer"]) == 2
    namespace["helper"] = lambda: 3
    assert interp.call(namespace["outer"]) == 3


def test_what_one_call_leaves_in_a_captured_list_the_next_does_not_see(interp):
    box = []

    def f(default=[]):  # noqa: B006
        box.append(1)
        default.append(2)
        return box, default

    for _ in range(3):
        assert interp.call(f) == ([1], [2])
    assert box == []


def test_what_one_call_assigns_the_next_does_not_see(interp):
    """Otherwise a function that is kept would be shared mutable state."""
    n = 0

    def count():
        nonlocal n
        n += 1
        return n

    def count_global():
        global FACTOR
        FACTOR += 1
        return FACTOR

    assert [interp.call(count) for _ in range(3)] == [1, 1, 1]
    assert [interp.call(count_global) for _ in range(3)] == [4, 4, 4]
    assert (n, FACTOR) == (0, 3)


def test_a_name_that_is_defined_later_is_seen(interp):
    namespace = {}
    exec("def f(): return helper()\ndef g(): return len('abc')", namespace)
    with pytest.raises(atoll.ExecutionFailed, match="NameError"):
        interp.call(namespace["f"])
    assert interp.call(namespace["g"]) == 3
    exec("def helper(): return 1\ndef len(x): return 'mine'", namespace)
    assert interp.call(namespace["f"]) == 1
    assert interp.call(namespace["g"]) == "mine"
    del namespace["len"]
    assert interp.call(namespace["g"]) == 3


def test_an_equal_default_of_another_type_is_seen(interp):
    f, g = lambda x=1: x, lambda *, x=1: x
    for value in (1, True, 1.0, 0.0, -0.0):
        f.__defaults__, g.__kwdefaults__ = (value,), {"x": value}
        assert repr(interp.call(f)) == repr(value)
        assert repr(interp.call(g)) == repr(value)


def test_large_captures_are_not_kept_for_ever(interp):
    def round(n):
        for k in range(20):
            interp.call(returning(bytes([n, k]) * 2_000_000))

    round(0)
    before = rss_kib()
    for n in range(1, 5):
        round(n)
    assert rss_kib() - before < 150_000


def test_ten_thousand_functions_are_not_kept(interp):
    """A cache has a bound."""

    def round(start):
        for n in range(start, start + 3_000):
            interp.call(returning(str(n) * 2_000))

    round(0)
    before = rss_kib()
    round(3_000)
    assert rss_kib() - before < 15_000
