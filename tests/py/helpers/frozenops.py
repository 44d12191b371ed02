"""All that Python does to ordinary objects, done to frozen ones. Cheap to import."""

import builtins
import collections
import copy
import gc
import io
import json
import marshal
import math
import operator
import pickle
import re
import struct
import sys
import threading
import types
import warnings

MAPPINGS = (dict, types.MappingProxyType)
if hasattr(builtins, "frozendict"):
    MAPPINGS = (*MAPPINGS, builtins.frozendict)


def sample():
    """One of everything, several times; equal each time."""
    nan = float("nan")
    return {
        "records": [
            {
                "id": n,
                "name": f"name {n}",
                "score": n * 1.5,
                "tags": ["red", "green", f"tag{n % 7}"],
                "at": (n, -n, n << 40),
                "ok": n % 2 == 0,
                "none": None,
            }
            for n in range(60)
        ],
        "numbers": [0, 1, -5, 256, 257, 1024, 1025, 10**9, -(10**9), 2**62, 2**200,
                    -(2**300), 0.0, -0.0, 1e300, math.inf, nan, nan, 2j, complex(1.5, -2)],
        "strings": ["", "a", "é", "ÿ", "word", "two words", "naïve", "€ uro", "𝔘nicode",
                    "\ud800 alone", "x" * 5000, "ü" * 3000, "__len__", "__init__", "name",
                    "identifier_1", "identifier_2", "\x00", "null\x00inside"],
        "bytes": [b"", b"b", b"bytes", bytes(range(256)), b"y" * 4000],
        "tuples": [(), (1,), (1, (2, (3, (4, ()))), "x"), ((), ()), ("a", nan)],
        "ranges": [range(0), range(10), range(5, -5, -2), range(2**70, 2**70 + 5),
                   range(2**70, 2**70 - 9, -3)],
        "slices": [slice(None), slice(1, 2), slice(1, 20, 3), slice("a", (1, 2), None)],
        "empty": [[], {}, ()],
        "keys": {1: "int", "str": 2, 1.5: "float", (1, "t"): "tuple", b"k": "bytes",
                 None: "none", True + 4: "five", range(3): "range", 2j: "complex", "": 0,
                 2**100: "big", nan: "nan", ...: "dots"},
        "wide": {f"key{n}": n for n in range(300)},
        "ints": {n * 7: str(n) for n in range(400)},
        "deep": nested(200),
        "constants": [None, True, False, ...],
    }


def nested(depth):
    value = []
    for n in range(depth):
        value = [value, n] if n % 2 else {"in": value}
    return value


def is_mapping(obj):
    return isinstance(obj, MAPPINGS)


def same(a, b):
    """Are they equal, where lists and tuples, and all mappings, are alike?"""
    if is_mapping(a) and is_mapping(b):
        return len(a) == len(b) and all(
            same(j, k) and same(a[j], b[k]) for j, k in zip(a, b, strict=True)
        )
    if isinstance(a, (tuple, list)) and isinstance(b, (tuple, list)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, slice):
        return isinstance(b, slice) and same(
            (a.start, a.stop, a.step), (b.start, b.stop, b.step)
        )
    return type(a) is type(b) and (a == b or (a != a and b != b)) and repr(a) == repr(b)


def parts(obj, into):
    """All objects of a graph."""
    stack = [obj]
    while stack:
        obj = stack.pop()
        into.append(obj)
        if is_mapping(obj):
            stack.extend(obj)
            stack.extend(obj.values())
        elif isinstance(obj, tuple):
            stack.extend(obj)
    return into


def attempt(function, *args):
    """Its result, or None if it raised something ordinary."""
    try:
        return function(*args)
    except Exception:  # any of them: what counts is that nothing is written
        return None


class Plain:
    pass


class Slots:
    __slots__ = ("name", "other")


def do_hash(x, y, pick):
    attempt(hash, x)
    attempt(lambda: {x: y, y: x}[x])
    attempt(lambda: {x, y, (x, y)})
    attempt(lambda: frozenset([x]) | {y})


def do_compare(x, y, pick):
    for op in (operator.eq, operator.ne, operator.lt, operator.ge):
        attempt(op, x, y)
        attempt(op, x, x)
    attempt(lambda: x in y)
    attempt(lambda: y in x)
    attempt(lambda: x is y)
    attempt(sorted, [x, y, x])
    attempt(max, x, y)


def do_format(x, y, pick):
    for text in (repr, str, ascii, format, bool, len, callable, type, dir, id):
        attempt(text, x)
    attempt(lambda: f"{x!r:>20}{y!s}{x}")
    attempt(lambda: "%s %r".__mod__((x, y)))
    attempt(lambda: "{} {}".format(*(x, y)))


def do_arithmetic(x, y, pick):
    for op in (operator.add, operator.mul, operator.sub, operator.truediv, operator.floordiv,
               operator.mod, operator.and_, operator.or_, operator.xor):
        if isinstance(x, int) and isinstance(y, int) and abs(x) + abs(y) > 2**64:
            y = 3
        if isinstance(y, int) and abs(y) > 50 and isinstance(x, (str, bytes, tuple)):
            y = 3
        if isinstance(x, int) and abs(x) > 50 and isinstance(y, (str, bytes, tuple)):
            x = 2
        attempt(op, x, y)
    for op in (operator.neg, operator.pos, abs, int, float, complex, round, operator.index):
        attempt(op, x)
    attempt(lambda: x + 1)
    attempt(lambda: x * 2)
    attempt(lambda: x.bit_length() + x.bit_count())
    attempt(lambda: (x.real, x.imag, x.conjugate()))
    attempt(lambda: x.as_integer_ratio())
    attempt(lambda: x.to_bytes(50, "big", signed=True))
    attempt(math.floor, x)
    attempt(math.sqrt, x)
    attempt(sum, (x, x, x))


def do_index(x, y, pick):
    for at in (0, -1, slice(None), slice(1, 3), slice(None, None, 2), slice(None, None, -1)):
        attempt(operator.getitem, x, at)
    attempt(operator.getitem, x, y)
    attempt(operator.getitem, [1, 2, 3, 4], x)
    attempt(operator.getitem, "text", x)
    attempt(list, x)
    attempt(tuple, x)
    attempt(lambda: [*x, *y])
    attempt(lambda: list(zip(x, y, strict=False)))
    attempt(lambda: list(reversed(x)))
    attempt(lambda: list(enumerate(x)))
    attempt(lambda: list(map(str, x)))
    attempt(lambda: (x + x, x * 2, x.index(x[0]), x.count(x[0])))
    attempt(lambda: x.indices(10))


def do_text(x, y, pick):
    if isinstance(x, str):
        for how in ("utf-8", "ascii", "latin-1", "utf-16", "utf-32", "idna", "utf-7"):
            attempt(x.encode, how)
        attempt(x.encode, "utf-8", "surrogatepass")
        for method in ("upper", "lower", "casefold", "title", "strip", "split", "splitlines",
                       "isidentifier", "isprintable", "isdecimal", "swapcase"):
            attempt(getattr(x, method))
        attempt(lambda: (x.replace("e", "é"), x.join(["1", "2"]), x + "é", x.find("o"),
                         x.partition("o"), x.zfill(30), x.translate({101: "3"}), x * 3,
                         x.startswith("n"), x.encode().decode(), x.center(30)))
        attempt(int, x)
        attempt(float, x)
        attempt(lambda: re.search(re.escape(x), x + y))
        attempt(lambda: re.sub("[aeiou]", x, "vowels"))
        attempt(lambda: struct.calcsize(x))
        attempt(lambda: compile(x, "<x>", "eval"))
        attempt(lambda: open("/nonexistent/" + x))
        attempt(lambda: io.StringIO(x).read())
        attempt(lambda: sys.getsizeof(x))
    if isinstance(x, bytes):
        attempt(lambda: (x.decode("latin-1"), x.hex(), x.upper(), x + b"z", x * 2,
                         x.split(b"y"),
                         bytearray(x), memoryview(x)[::2].tolist(), x.find(b"t"), x[1:3],
                         io.BytesIO(x).read(), x.replace(b"b", b"cc"), x.startswith(b"b")))
        attempt(lambda: re.search(rb"\w+", x))


def do_copy(x, y, pick):
    attempt(copy.copy, x)
    attempt(copy.deepcopy, x)
    for protocol in (0, 2, 4, 5):
        attempt(lambda: pickle.loads(pickle.dumps(x, protocol)))  # noqa: B023
    attempt(lambda: marshal.loads(marshal.dumps(x)))
    attempt(lambda: marshal.loads(marshal.dumps((x, x, y), 4)))
    attempt(lambda: json.loads(json.dumps(x)))
    attempt(lambda: json.dumps({"k": x, "l": [y]}))
    if isinstance(x, str):
        attempt(lambda: json.dumps({x: x}, indent=x[:3], sort_keys=True))
        attempt(lambda: json.loads(json.dumps({x: 1, "b": x})))


def do_mapping(x, y, pick):
    if not is_mapping(x):
        return
    attempt(lambda: (dict(x), x.copy(), {**x}, list(x.items()), set(x.keys())))
    attempt(lambda: {**x, "more": 1})
    attempt(lambda: x | {"more": 1})
    attempt(lambda: {"more": 1} | x)
    attempt(lambda: x | y)
    attempt(lambda: (lambda **k: k)(**x))
    attempt(lambda: "{name} {id}".format(**x))
    attempt(lambda: "%(name)s".__mod__(x))
    attempt(lambda: "{name}".format_map(x))
    attempt(lambda: collections.OrderedDict(x))
    attempt(lambda: collections.ChainMap({}, x)["name"])
    attempt(lambda: types.SimpleNamespace(**x))
    attempt(lambda: (x.get("name"), x.get(y), "name" in x, x["name"], x.keys() & {"name"}))
    attempt(lambda: dict(x).update(y))
    attempt(lambda: dict.fromkeys(x, y))
    attempt(lambda: type("New", (), {str(k): v for k, v in x.items()}))
    attempt(lambda: Plain().__dict__.update(x))
    copied = dict(x)
    for n in range(10):
        copied[n] = n
        copied[f"new{n}"] = y if isinstance(y, str) else n
    for key in list(copied)[::2]:
        del copied[key]
    copied.clear()
    d = {}
    d.update(x)
    d |= x
    d.popitem() if d else None
    attempt(lambda: reversed(x))
    attempt(lambda: eval("name", {}, x))
    attempt(lambda: eval("name", dict(x)))
    attempt(lambda: eval("name", x))
    attempt(lambda: exec("for _ in range(50): name; id", x))
    often = "(lambda: [(name, id, len) for _ in [0] * 100])()"  # until it is specialised
    attempt(lambda: eval(often, x))
    attempt(lambda: eval(often, {"__builtins__": x}))
    attempt(lambda: eval(often, dict(x)))
    attempt(lambda: types.FunctionType(compile(often, "<f>", "eval"), x)())
    attempt(operator.setitem, x, "k", 1)
    attempt(operator.delitem, x, "name")
    attempt(lambda: operator.ior(x, {"a": 1}))


def do_names(x, y, pick):
    if not isinstance(x, str):
        return
    attempt(sys.intern, x)
    attempt(sys.intern, "".join(list(x)))
    attempt(getattr, y, x)
    attempt(hasattr, pick(), x)
    plain, slots = Plain(), Slots()
    for _ in range(30):
        attempt(setattr, plain, x, y)
        attempt(getattr, plain, x)
    attempt(delattr, plain, x)
    plain.__dict__[x] = y
    attempt(lambda: vars(plain)[x])
    attempt(setattr, slots, x, y)
    made = attempt(lambda: type(x or "T", (), {x: y, "m": lambda self: x}))
    if made is not None:
        attempt(lambda: getattr(made(), x))
        attempt(setattr, made, x, 5)
        attempt(setattr, made, "__doc__", x)
        attempt(setattr, made, "__name__", x)
        attempt(getattr, made, x)
        attempt(delattr, made, x)
    attempt(lambda: type("T", (), {"__slots__": (x,)})())
    attempt(lambda: types.ModuleType(x).__dict__.setdefault(x, y))
    attempt(lambda: collections.namedtuple("N", [x, "zz"])(1, 2))
    attempt(lambda: (lambda **k: k)(**{x: y}))
    attempt(lambda: eval(compile("lambda: 1", x, "eval"))())
    attempt(lambda: threading.Thread(target=len, name=x).name)


def do_dunder(x, y, pick):
    name = next(iter(n for n in [x] if isinstance(n, str) and n == "__len__"), None)
    if name:
        made = type("Sized", (), {})
        setattr(made, name, lambda self: 7)
        assert len(made()) == 7
        assert made().__len__() == 7


def do_match(x, y, pick):
    match x:
        case {"id": int(n), "name": str(s), **rest}:
            return n, s, rest
        case [first, *others]:
            return first, others
        case str() | bytes():
            return 1
        case (1 | 2 | 3):
            return 2
        case None:
            return 3
    return None


def do_gc(x, y, pick):
    gc.is_tracked(x)
    gc.is_finalized(x)
    gc.get_referents(x)
    sys.getrefcount(x)
    holder = [x, (x, y), {"k": x}]
    holder.append(holder)
    tuple(iter([x, y]))
    attempt(lambda: iter(x))
    del holder
    if pick.chance.random() < 0.05:
        gc.collect(pick.chance.randrange(3))
        gc.get_objects()
        gc.freeze()
        gc.unfreeze()


def do_threads(x, y, pick):
    if pick.chance.random() < 0.02:
        thread = threading.Thread(target=do_copy, args=(x, y, pick))
        thread.start()
        thread.join()


OPERATIONS = [value for name, value in sorted(globals().items()) if name.startswith("do_")]


class Pick:
    def __init__(self, objects, chance):
        self.objects, self.chance = objects, chance

    def __call__(self):
        return self.chance.choice(self.objects)


def everything(root, chance, times):
    """Each operation on each object, `times` times, with another at random."""
    warnings.simplefilter("ignore")
    objects = parts(root, [])
    pick = Pick(objects, chance)
    for _ in range(times):
        for x in objects[:300]:
            for operation in OPERATIONS:
                operation(x, pick(), pick)


def at_random(root, chance, count):
    warnings.simplefilter("ignore")
    pick = Pick(parts(root, []), chance)
    for _ in range(count):
        chance.choice(OPERATIONS)(pick(), pick(), pick)


def walk_often(root):
    """Until the bytecode is specialised for what it finds."""
    total = 0
    for _ in range(300):
        for record in root["records"][:5]:
            total += record["id"] + len(record["name"]) + record["at"][0]
            a, b, c = record["at"]
            total += a == b or c > 0
            if record["ok"] and record["none"] is None and "red" in record["tags"]:
                total += 1
    return total


def hammer(graph, seed, rounds):
    """In this interpreter: two threads, `rounds` times 100 operations each."""
    import random

    root = graph.get()
    failures = []

    def work(seed):
        try:
            for n in range(rounds):
                at_random(root, random.Random(seed * 1000 + n), 100)
            expected = walk_often(sample())
            assert walk_often(root) == expected
            assert same(root, sample())
        except BaseException as exc:
            failures.append(exc)
            raise

    other = threading.Thread(target=work, args=(seed + 50,))
    other.start()
    work(seed)
    other.join()
    gc.collect()
    assert not failures


# ------------------------------------------------- the hammer (frozenhammer.py)


def answers(root):
    """What a program finds out from sample(), frozen or not: the same each time."""
    records, found = root["records"], []
    for record in records:
        made = type(record["name"], (), {"name": record["name"], "tags": record["tags"]})
        thing = made()
        for key, value in record.items():
            setattr(thing, key, value)
        assert vars(thing) == dict(record)
        called = (lambda id, name, **rest: (id, name, len(rest)))(**record)
        assert called == (thing.id, made.__name__, 5)
        found.append(called)
        assert sys.intern(record["name"]) == f"name {record['id']}"
        assert json.loads(json.dumps([record["name"], record["at"]])) == [
            record["name"], list(record["at"]),
        ]  # fmt: skip
        copied = {**record}
        copied["id"] = None
        assert record["id"] == called[0]
    for text in root["strings"]:
        # The name of a type is asked for as UTF-8.
        if "\ud800" not in text and "\0" not in text:
            found.append(type(text, (), {}).__name__)
        found.append((hash(text), text.encode("utf-8", "surrogatepass"), text + "é"))
    found.append([hash(number) for number in root["numbers"] if number == number])
    found.append([copy.copy(item) for item in root["bytes"]])
    found.append(hash(root["tuples"][2]))
    found.append(sorted(root["wide"], key=root["wide"].get)[-3:])
    found.append(sum(root["ints"]))
    found.append(repr(root["ranges"][3]) + str(root["slices"][1]))
    return hash(repr(found))


def read_xml(root):
    """The same for an element, frozen or not."""
    texts = [(e.tag, e.text, e.get("k"), len(e)) for e in root.iter()]
    paths = [root.findtext(path) for path in ("b", ".//b[2]", "c/b/..", "nothing")]
    return hash(repr((texts, paths, list(root.itertext()))))


def one_life(graph, tree, seed, rounds):
    """In an interpreter that closes afterwards: what it has found out."""
    import random

    chance = random.Random(seed)
    root = graph.get()
    found = set()
    for _ in range(rounds):
        at_random(root, chance, 60)
        opened = tree.get() if chance.random() < 0.5 else tree.view()
        found.add((answers(root), read_xml(opened)))
        gc.collect()
    return found
