"""Any graph of sendable objects arrives as a graph of the same shape.

A graph is drawn as a list of nodes that refer to each other by number, so that
sharing and cycles are as likely as trees. See isomorphic.py for what "the same
shape" means. ATOLL_NIGHTLY=1 makes it 100,000 graphs, other ones each time.
"""

import builtins
import datetime
import decimal
import math
import os
from collections import Counter, OrderedDict, defaultdict, deque
from pathlib import PurePosixPath

import atoll
import pytest
import sendable as s
import workers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from isomorphic import Different, check, order
from support import name_of

NIGHTLY = os.environ.get("ATOLL_NIGHTLY") == "1"


def examples(usual, nightly):
    return settings(
        max_examples=nightly if NIGHTLY else usual,
        deadline=None,
        derandomize=not NIGHTLY,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


# ------------------------------------------------------------------- the leaves

text = st.text(st.characters(codec=None, categories=None), max_size=50)
numbers = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([sign * 2**bits + d for bits in (8, 15, 30, 31, 32, 60, 63, 64, 300)
                     for d in (-1, 0, 1) for sign in (1, -1)]),
    st.floats(),
    st.complex_numbers(),
    st.sampled_from([..., NotImplemented]),
)
# Whole minutes: the pure-Python time of 3.13 cannot hash others.
zones = st.one_of(
    st.none(),
    st.integers(-1439, 1439).map(lambda n: datetime.timezone(datetime.timedelta(minutes=n))),
    st.just(datetime.UTC),
)
small = st.integers(-(2**70), 2**70)
values = st.one_of(
    st.builds(range, small, small, small.filter(bool)),
    st.dates(),
    st.builds(datetime.datetime.combine, st.dates(), st.times(timezones=zones)),
    st.builds(lambda t, fold: t.replace(fold=fold), st.times(timezones=zones),
              st.integers(0, 1)),
    st.timedeltas(),
    zones,
    st.decimals(),
    st.decimals(allow_nan=False, allow_infinity=False),
    st.just(decimal.Decimal("-NaN123")),
    st.fractions(),
    st.uuids(),
    text.map(lambda t: PurePosixPath(t.replace("\0", ""))),
    st.sampled_from([*s.Colour, *s.Rank, *s.Word, *s.Rights, s.Rights.BOTH, s.Rights(0)]),
    st.sampled_from([int, dict, s.Node, s.Outer.Inner, len, math.sin, workers.give]),
    st.builds(s.Str, text),
    st.builds(s.Bytes, st.binary()),
    st.builds(s.Int, small),
    st.builds(s.Float, st.floats()),
)
leaves = st.one_of(numbers, text, st.binary(max_size=100), values)

# ------------------------------------------------------------------- the graphs

#: What is made empty and filled later, with references to any node.
FILLED = {
    "list": list, "dict": dict, "set": set, "bytearray": bytearray,
    "deque": deque, "OrderedDict": OrderedDict, "Counter": Counter,
    "List": s.List, "Dict": s.Dict, "Ordered": s.Ordered, "Deque": s.Deque,
    "Bytearray": s.Bytearray,
    "defaultdict": lambda: defaultdict(list),
    "bounded deque": lambda: deque(maxlen=3),
    "Node": lambda: s.Node(None), "Plain": lambda: s.Plain(None),
    "Slotted": lambda: s.Slotted(None), "Weak": lambda: s.Weak(x=None),
}
#: What is made of nodes that are there already.
BUILT = {
    "tuple": tuple, "frozenset": frozenset, "slice": None,
    "Tuple": s.Tuple, "Frozenset": s.Frozenset, "Set": s.Set,
    "Pair": lambda items: s.Pair(*(*items, None, None)[:2]),
    "Frozen": lambda items: s.Frozen(*(*items, None, None)[:2]),
    "FrozenSlotted": lambda items: s.FrozenSlotted(*(*items, None, None)[:2]),
    "Reduced": lambda items: s.Reduced(*items),
    "with attributes": lambda items: with_attributes(items),
}
if hasattr(builtins, "frozendict"):
    BUILT["frozendict"] = lambda items: builtins.frozendict(
        (n if n % 2 else f"key {n}", item) for n, item in enumerate(items))

def with_attributes(items):
    made = s.Tuple(items)
    made.attribute = items[0] if items else None
    return made


def members(items):
    """Those that may go into a set or be keys: no two that are hard to tell apart."""
    found = {}
    for item in items:
        try:
            hash(item)
        except TypeError:
            continue
        if unstable(item):
            continue
        found.setdefault(order(item), item)
    return list(found.values())


FROZENDICT = (builtins.frozendict,) if hasattr(builtins, "frozendict") else ()


def unstable(item, inside=False):
    """Hashed by what it contains, which a cycle may not have filled yet."""
    if isinstance(item, (*FROZENDICT, slice)):
        return True
    if isinstance(item, (s.Frozen, s.FrozenSlotted)):
        return unstable(item.x, True) or unstable(item.y, True)
    if isinstance(item, (tuple, frozenset)):
        return any(unstable(part, inside) for part in item)
    return inside and isinstance(item, s.Node)


def fill(node, label, nodes):
    if isinstance(node, (bytearray,)):
        node.extend(bytes([label]) * (label * 7))
    elif isinstance(node, Counter):
        node.update(members(nodes))
    elif isinstance(node, dict):
        for key, value in zip(members(nodes), reversed(nodes), strict=False):
            node[key] = value
    elif isinstance(node, set):
        node.update(members(nodes))
    elif isinstance(node, (list, deque)):
        node.extend(nodes)
    elif isinstance(node, s.Node):
        node.label = label
        node.link = nodes[0] if nodes else None
        if len(nodes) > 1:
            node.more = nodes[1:]
    else:
        node.x = nodes[0] if nodes else None
        if hasattr(node, "y"):
            node.y = nodes[-1] if nodes else None


@st.composite
def graphs(draw):
    kinds = st.sampled_from([*FILLED, *BUILT])
    nodes = draw(st.lists(leaves, min_size=1, max_size=6))
    numbers = st.lists(st.integers(0, 30), max_size=5)
    later = []
    for label, (kind, refs) in enumerate(draw(st.lists(st.tuples(kinds, numbers),
                                                       min_size=1, max_size=12))):
        if kind in FILLED:
            nodes.append(FILLED[kind]())
            if isinstance(nodes[-1], s.Node):
                nodes[-1].label = label
            later.append((nodes[-1], label, refs))
            continue
        parts = [nodes[n % len(nodes)] for n in refs]
        if kind == "slice":
            nodes.append(slice(*[p if type(p) is int else None for p in (*parts, 0, 1)][:3]))
        elif kind in ("frozenset", "Frozenset", "Set"):
            nodes.append(BUILT[kind](members(parts)))
        else:
            nodes.append(BUILT[kind](parts))
    for node, label, refs in later:
        fill(node, label, [nodes[n % len(nodes)] for n in refs])
    whole = draw(st.integers(0, 3))
    return nodes[-1] if whole else nodes


class Trip:
    """Hypothesis prints it, and not the addresses of fixtures."""

    def __init__(self, function):
        self.function = function

    def __call__(self, obj):
        return self.function(obj)

    def __repr__(self):
        return "trip"


@pytest.fixture(scope="module")
def trip():
    queue = atoll.create_queue()

    def trip(obj):
        queue.put(obj)
        return queue.get_nowait()

    return Trip(trip)


@pytest.fixture(scope="module")
def there():
    with atoll.create() as interp:
        yield Trip(lambda obj: interp.call(workers.give, obj))


@examples(2_000, 100_000)
@given(graphs())
def test_a_graph_arrives_in_its_shape(trip, graph):
    check(graph, trip(graph))


@examples(200, 20_000)
@given(graphs())
def test_a_graph_survives_another_interpreter(there, graph):
    check(graph, there(graph))


@examples(500, 20_000)
@given(st.recursive(leaves, lambda inner: st.one_of(
    st.lists(inner, max_size=4), st.lists(inner, max_size=4).map(tuple),
    st.dictionaries(text, inner, max_size=4), st.builds(s.Pair, inner, inner),
    st.builds(s.Slotted, inner, inner))))
def test_a_tree_arrives(trip, tree):
    check(tree, trip(tree))


@examples(100, 2_000)
@given(graphs())
def test_sending_changes_nothing(trip, graph):
    first = trip(graph)
    check(first, trip(graph))
    check(graph, trip(first))


@examples(100, 2_000)
@given(st.lists(graphs(), max_size=4))
def test_messages_do_not_mix(there, several):
    """A memo is of one message: nothing is shared between two."""
    queue = atoll.create_queue()
    for graph in several:
        queue.put(graph)
    got = there(queue)
    for graph in several:
        check(graph, got.get_nowait())


# ------------------------------------------------------- the judge must see these


SHARED = [1]
TEXT = "".join(["a", "text"])
LOOP = []
LOOP.append(LOOP)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, True), (1, 1.0), (0.0, -0.0), ("a", b"a"), ([1], (1,)), ([1], [2]),
        ([1], [1, 1]), ({1: 2}, {1: 3}), ({1: 2, 3: 4}, {3: 4, 1: 2}), ({1}, {2}),
        ({1}, frozenset([1])), (s.List([1]), [1]), (s.Node(1, 2), s.Node(1, 3)),
        ([SHARED, SHARED], [[1], [1]]), ([[1], [1]], [SHARED, SHARED]),
        ([TEXT, TEXT], [TEXT, "".join(["a", "text"])]), (LOOP, [[1]]),
        (deque([1]), deque([1], 5)), (s.Slotted(1), s.Slotted(2)),
        (decimal.Decimal("1.0"), decimal.Decimal("1.00")),
        (datetime.time(1, fold=0), datetime.time(1, fold=1)), (math.nan, 1.0),
        (s.Slots(1, 2), s.Slots(1, 3)), (s.Colour.RED, s.Colour.GREEN),
        (bytearray(b"a"), bytearray(b"b")), (range(0), range(1, 1)),
    ],
    ids=name_of,
)
def test_the_check_sees_a_difference(one, other):
    with pytest.raises(Different):
        check([one], [other])
    check([one], [one], copied=False)


def test_the_check_sees_what_was_not_copied():
    with pytest.raises(Different, match="not copied"):
        check([SHARED], [SHARED])
