"""Objects whose own code misbehaves while they are sent or rebuilt: never a crash."""

import gc
import sys

import atoll
import awkward
import pytest
from awkward import Key, Reducing, Trapped
from sendable import Node
from support import check_python

SNEAKY = "import atoll, awkward, gc, sys\nfrom awkward import *\nq = atoll.create_queue()\n"


@pytest.fixture
def trap():
    yield lambda function: setattr(awkward, "trap", function)
    awkward.trap = None



@pytest.mark.parametrize(
    "value",
    [
        "5", "[]", "()", "(int,)", "(int, 5)", "(5, ())", "(int, [], ())", "(None, ())",
        "(int, None)", "('int', ())", "'no.such.name'", "b'name'", "(int, (), None, 5)",
        "(list, (), None, [1])", "(dict, (), None, None, 5)",
        "(dict, (), None, None, iter([1]))", "(dict, (), None, None, iter([(1,)]))",
        "(int, (), None, iter([1]))", "(int, (), None, None, iter([(1, 2)]))",
        "(Node, (1,), {'a': 1}, None, None, 5)", "(int, (), None, None, None, None, None)",
        "(Node, (1,), 5)", "(Node, (1, 2, 3))",
    ],
)
def test_nonsense_from_reduce(queue, value):
    """An error here, or there; and then the next message arrives."""

    class Nonsense:
        def __reduce__(self):
            return eval(value)

    try:
        queue.put([Nonsense()])
    except (atoll.NotShareableError, TypeError, AttributeError, ValueError):
        assert queue.empty()
    else:
        with pytest.raises(Exception) as info:
            queue.get()
        assert not isinstance(info.value, (SystemError, atoll.QueueEmpty))
    queue.put("next")
    assert queue.get_nowait() == "next"


WRAPS = {
    "list": lambda x: [x], "tuple": lambda x: (x, [x]), "object": lambda x: Node(x),
    "dict": lambda x: {"k": x}, "set": lambda x: {x}, "frozenset": lambda x: frozenset([x]),
    "key": lambda x: {x: 1},
}


@pytest.mark.parametrize("make", [Key, Trapped])
@pytest.mark.parametrize("wrap", WRAPS)
def test_an_error_of_the_object_s_own_is_that_error(queue, trap, wrap, make):
    """On arrival too, whatever it is in; and only that message is gone."""
    obj = WRAPS[wrap](make(1))
    queue.put([obj, obj])
    queue.put("next")
    trap(awkward.refuse)
    if make is Trapped or wrap in ("set", "frozenset", "key"):
        with pytest.raises(LookupError, match="not here"):
            queue.get()
    else:
        queue.get()  # nobody asked for the hash
    assert queue.get() == "next"


def test_an_error_while_it_is_reduced_leaves_nothing(queue):
    handle = atoll.create_queue()
    view = bytearray(100)
    before = sys.getrefcount(handle)
    obj = [handle, memoryview(view), Reducing(lambda: 1 / 0)]
    for _ in range(20):
        with pytest.raises(ZeroDivisionError):
            queue.put(obj)
    obj.clear()
    gc.collect()
    assert sys.getrefcount(handle) == before
    view.extend(b"no export is left")
    assert queue.empty()


def test_what_is_walked_may_change_meanwhile():
    """Cleared, shrunk, grown, replaced by what its own parts do when they are sent."""
    out = check_python(
        SNEAKY
        + """
import collections
from sendable import Node, List, Dict, Slotted
ACTIONS = [
    lambda box: box.clear(),
    lambda box: box.popitem() if isinstance(box, dict) else box.pop(),
    lambda box: [grow(box, n) for n in range(1000)],
    lambda box: (box.clear(), gc.collect(), [grow(box, n) for n in range(10)]),
    lambda box: (grow(box, 5), box.clear(), [bytes(n) for n in range(100)]),
]
def grow(box, n):
    if isinstance(box, dict): box[n] = [n]
    elif isinstance(box, set): box.add(("new", n))
    else: box.append([n])
tried = 0
for make in (list, dict, set, collections.deque, collections.OrderedDict, List, Dict):
    for action in ACTIONS:
        for place in (0, 3, 6):
            box = make()
            for n in range(7):
                if n == place:
                    item = Reducing(lambda: action(box))
                    if isinstance(box, dict): box[n] = item
                    elif isinstance(box, set): box.add(item)
                    else: box.append(item)
                grow(box, n)
            for whole in (box, (box, box), {"k": [box]}, Node(box, box)):
                try:
                    q.put(whole)
                except (RuntimeError, KeyError, IndexError):
                    assert q.empty()
                else:
                    repr(q.get())
                    gc.collect()
                tried += 1
q.put("fine")
print(tried, q.get())
"""
    )
    assert out == f"{7 * 5 * 3 * 4} fine"


def test_what_is_walked_may_be_dropped_meanwhile():
    """Tuples and instances that nobody holds any more but the encoder."""
    out = check_python(
        SNEAKY
        + """
from sendable import Node
def drop():
    box.clear()
    kept.clear()
    gc.collect()
    return [Holder(a=n, b=(n, [n]), c=(n,)) for n in range(100)]
def tuples(item): return [(1, item, "x" * 10, [2])]
def instances(item):
    return [Holder(a=n, b="y" * n, c=(n,)) for n in range(2)] + [
        Holder(a=1, b=item, c="x" * 10), Holder(a=1, b=2, c=[item])]
def both(item): return [Holder(a=1, b=2), Holder(a=(item, 1, "x" * 10), b=[3])]
for make in (tuples, instances, both):
    for shared in (False, True):
        for before in range(3):
            box = [0] * before
            kept = []
            box += make(Reducing(drop))
            if shared:
                kept = [box[-1], box[-2] if len(box) > 1 else 0]
            whole = box
            q.put(whole)
            got = q.get()
            assert got[:before] == [0] * before
            item = got[-1] if make is tuples else None
            assert item is None or item == (1, 0, "x" * 10, [2]), item
            gc.collect()
print("fine")
"""
    )
    assert out == "fine"


def test_freed_parts_are_not_taken_for_later_ones():
    """An address that is used again is another object."""
    check_python(
        SNEAKY
        + """
def swap():
    n = len(box)
    del box[0]
    found.append([["first", len(found)]])
    box.insert(0, found[-1])
class Swapping:
    def __reduce__(self):
        swap()
        return (list, (found[-1],))
for round in range(200):
    found = []
    box = [[["original", round]] for _ in range(3)] + [Swapping() for _ in range(10)]
    box = [[["original", round]]] + box
    q.put(box)
    got = q.get()
    for n, item in enumerate(got[4:]):
        assert item == [["first", n]], (n, item)
    assert got[0] == [["original", round]]
"""
    )


def test_attributes_may_change_meanwhile():
    check_python(
        SNEAKY
        + """
from sendable import Node
for action in (
    lambda node: node.__dict__.clear(),
    lambda node: node.__dict__.update({f"a{n}": n for n in range(100)}),
    lambda node: setattr(node, "__dict__", {}),
    lambda node: setattr(node, "__class__", Holder),
):
    for before in range(4):
        node = Node(1)
        for n in range(before):
            setattr(node, f"x{n}", [n])
        node.bad = Reducing(lambda: action(node))
        node.more = [1, 2, 3]
        try:
            q.put([node, node])
        except (RuntimeError, KeyError):
            continue
        vars(q.get()[0])
q.put("fine")
assert q.get() == "fine"
"""
    )


def test_what_is_rebuilt_may_be_seen_and_changed_meanwhile():
    """An object's __setstate__ gets the containers that it is in, half done."""
    out = check_python(
        SNEAKY
        + """
import collections
from sendable import Node, List, Dict
ACTIONS = [
    lambda box: repr(box),
    lambda box: box.clear(),
    lambda box: [grow(box, n) for n in range(1000)],
    lambda box: (box.clear(), [grow(box, n) for n in range(100)]),
    lambda box: (list(box), len(box), gc.collect()),
    lambda box: box.sort(key=id) if isinstance(box, list) else None,
    lambda box: box.__init__() if not isinstance(box, Node) else None,
]
def grow(box, n):
    if isinstance(box, dict): box[n] = [n]
    elif isinstance(box, set): box.add(n)
    else: box.append([n])
tried = 0
for make in (list, dict, set, collections.deque, collections.OrderedDict, List, Dict):
    for action in ACTIONS:
        box = make()
        for n in range(6):
            grow(box, n)
            item = Trapped()
            item.state = box
            if isinstance(box, dict): box[f"t{n}"] = item
            elif isinstance(box, set): box.add(item)
            else: box.append(item)
        for whole in (box, (box, "after"), [box, {"k": box}], Node(box, [box])):
            awkward.trap = None
            q.put(whole)
            awkward.trap = action
            try:
                got = q.get()
            except (RuntimeError, IndexError, KeyError):
                pass
            else:
                repr(got)
                del got
            gc.collect()
            tried += 1
awkward.trap = None
q.put("fine")
print(tried, q.get())
"""
    )
    assert out == f"{7 * 7 * 4} fine"


def test_equality_may_change_what_is_rebuilt():
    """Keys that all have one hash are compared while their dict is filled."""
    check_python(
        SNEAKY
        + """
def meddle(key):
    awkward.trap = None
    for obj in gc.get_objects():
        if type(obj) in (dict, set) and any(type(k) is Key for k in list(obj)[:3]):
            obj.clear()
    awkward.trap = meddle
for make in (set, frozenset, lambda keys: dict.fromkeys(keys, [1])):
    for n in (1, 2, 5, 20):
        keys = make([Key(i) for i in range(n)])
        q.put([keys, keys])
        awkward.trap = meddle
        try:
            a, b = q.get()
            assert a is b
        except RuntimeError:
            pass
        awkward.trap = None
q.put("fine")
assert q.get() == "fine"
"""
    )


def test_finalizers_may_run_at_any_time():
    check_python(
        SNEAKY
        + """
from sendable import Node
other = atoll.create_queue()
gc.set_threshold(1)
for n in range(30):
    loop = Node(Deleted(other)); loop.link = loop
    q.put([Deleted(other), loop, [[n] for n in range(50)], Trapped()])
    del loop
    awkward.trap = refuse
    try:
        q.get()
    except LookupError:
        pass
    else:
        raise SystemExit("no error")
    awkward.trap = None
    q.put([Deleted(other), [[n] for n in range(50)]])
    q.get()
assert other.empty() and q.empty()
"""
    )
