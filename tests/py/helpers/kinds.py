"""Code of every kind that can stand in a script: what defines it, and what it then does.

KINDS has, by name, source and an expression whose text tells how it behaves. `source_of`
makes classes at random over the same things.
"""

import sys
import textwrap

NEW = sys.version_info >= (3, 14)  # annotations are lazy
NOWHERE = "Nowhere" if NEW else "'Nowhere'"

IMPORTS = """\
import abc, asyncio, contextvars, dataclasses, enum, functools, types, typing
from typing import *
"""

KINDS = {
    # type variables and aliases
    "TypeVar": ("T = TypeVar('T', bound='Base')", "T.__name__, T.__bound__.__forward_arg__"),
    "TypeVar with variance and default": (
        "T = TypeVar('T', covariant=True, default=int)", "T.__covariant__, T.__default__"),
    "TypeVar with constraints": ("T = TypeVar('T', int, str)", "T.__constraints__"),
    "ParamSpec": ("P = ParamSpec('P')", "P.args.__origin__ is P, P.kwargs.__origin__ is P"),
    "TypeVarTuple": ("Ts = TypeVarTuple('Ts')", "Ts.__name__, Ts.has_default()"),
    "NewType": ("N = NewType('N', int)", "N(3), N.__supertype__, N.__name__, N.__module__"),
    "alias": ("type A = int | str", "A.__value__, A.__name__, A.__module__"),
    "alias with the name of a part of its source": (
        "type value = list[int]\ntype bound0[T: int] = list[T]",
        "str(value.__value__), str(bound0.__value__), bound0.__type_params__[0].__bound__"),
    "TypeVar with a name that is none": (
        "T = TypeVar('no name', infer_variance=True)", "T.__name__, T.__infer_variance__"),
    "recursive alias": (
        "type Json = dict[str, Json] | list[Json] | int",
        "str(Json.__value__), Json.__value__.__args__[0].__args__[1] is Json"),
    "generic alias": (
        "type Pair[A, B: int = bool, *Ts = *tuple[int], **P = [int]] = tuple[A, B]",
        "str(Pair[int, bool].__value__), Pair.__type_params__[1].__bound__,"
        " Pair.__type_params__[0] is Pair.__value__.__args__[0],"
        " [p.has_default() for p in Pair.__type_params__]"),
    # generic classes and functions
    "Generic[T]": (
        "T = TypeVar('T')\nclass Base(Generic[T]):\n def get(self, v: T) -> T: return v\n"
        "class Sub(Base[int]): pass",
        "Base().get(1), Base[int].__args__, Base.__parameters__[0] is T,"
        " Sub.__orig_bases__[0].__origin__ is Base, Base.get.__annotations__['v'] is T"),
    "class X[T]": (
        "class X[U: (int, str), V = int]:\n x: V\n def m(self, v: V) -> U: return v",
        "X().m(3), X.__type_params__[0].__constraints__, X.__type_params__[1].__default__,"
        " str(X[int]), X.__annotations__['x'] is X.__type_params__[1],"
        " X.m.__annotations__['return'] is X.__type_params__[0]"),
    "class X[*Ts, **P]": ("class X[*Ts, **P]: pass", "str(X[int, str, [int]])"),
    "Generic[*Ts]": (
        "Ts = TypeVarTuple('Ts')\nclass Var(Generic[*Ts]): pass", "str(Var[int, str])"),
    "Generic[P, T]": (
        "T = TypeVar('T'); P = ParamSpec('P')\n"
        "class Call(Generic[P, T]):\n"
        " def __call__(self, f, *a: P.args, **k: P.kwargs) -> T: return f(*a, **k)",
        "Call()(max, 1, 2), Call.__call__.__annotations__['a'].__origin__ is P"),
    "def f[T]": (
        "def gen[X: int](x: X) -> X: return x",
        "gen(3), gen.__type_params__[0].__bound__,"
        " gen.__annotations__['x'] is gen.__type_params__[0]"),
    "Protocol": (
        "T = TypeVar('T')\nclass Proto(Protocol[T]):\n attr: int\n def meth(self) -> T: ...",
        "sorted(Proto.__protocol_attrs__), str(Proto[int]), Proto._is_protocol"),
    "runtime Protocol": (
        "@runtime_checkable\nclass Run(Protocol):\n def go(self): ...\n"
        "class Impl:\n def go(self): pass",
        "isinstance(Impl(), Run), isinstance(3, Run)"),
    # annotations that cannot be evaluated
    "annotations": (
        f"def f(a: {NOWHERE} = 3, *, k: {NOWHERE} = 4) -> {NOWHERE}: return a + k",
        "f(), f(1)"),
    "annotations of a class": (
        f"class C:\n x: {NOWHERE}\n def m(self, n: {NOWHERE}) -> {NOWHERE}: return n * 2",
        "C().m(2), C.m.__name__"),
    "annotations of a method that are the class's": (
        "class C:\n B = int\n def m(self, n: B, o: 'C' = None) -> list[B]: return n",
        "C().m(2), str(C.m.__annotations__)"),
    "a coroutine": (f"async def co(x: {NOWHERE}): return x", "asyncio.run(co(3))"),
    # what functools wraps
    "cache": (
        "@functools.cache\ndef fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)",
        "fib(30), fib.cache_parameters(), fib.__wrapped__.__name__"),
    "lru_cache": ("@functools.lru_cache(2, typed=True)\ndef f(n): return n",
                  "f(3), f.cache_parameters()"),
    "singledispatch": (
        "@functools.singledispatch\ndef sd(x): return 'object'\n@sd.register\n"
        "def _(x: int): return 'int'\n@sd.register(list)\ndef _(x): return [sd(i) for i in x]\n"
        "sd.mark = 1",
        "sd([1, 'a']), sd(2), sd.mark, sd.__name__, len(sd.registry)"),
    "methods that functools wraps": (
        "class SM:\n"
        " @functools.singledispatchmethod\n def f(self, x): return 'o'\n"
        " @f.register\n def _(self, x: int): return 'i'\n"
        " @functools.singledispatchmethod\n @classmethod\n def g(cls, x): return cls.__name__\n"
        " @functools.lru_cache(2)\n def c(self): return 7\n"
        " @functools.cached_property\n def cp(self): return 8\n"
        " pm = functools.partialmethod(lambda s, a, b=0: (a, b), 1, b=2)\n"
        "m = SM(); m.cp",
        "SM().f(1), SM().f('a'), SM.g(1), SM().c(), SM().pm(), SM().cp, m.__dict__"),
    "wraps": (
        "def inner(n): return n\n@functools.wraps(inner)\ndef outer(n): return inner(n) + 1",
        "outer(1), outer.__wrapped__(1), outer.__name__"),
    # classes
    "a class that refers to its own methods": (
        "class H:\n @classmethod\n def up(cls): return cls.__name__\n"
        " def m(self): return 1\nH.table = {'up': H.up, 'm': H().m}",
        "H.table['up'](), H.table['m']()"),
    "nested classes": (
        "class O:\n class I:\n  def x(self) -> 'O.I': return self\n"
        " def o(self, i: I): return i",
        "type(O.I().x()).__qualname__, O().o(3), O.I.__module__"),
    "a class in a function": (
        "FACTOR = 3\ndef make():\n class A:\n  x = FACTOR\n  def f(self): return self.x\n"
        " class B(A):\n  def f(self): return super().f(), __class__.__name__\n"
        " return B\nB = make()",
        "B().f(), make()().f()"),
    "a metaclass": (
        "class Meta(type):\n"
        " def __new__(m, n, b, d, **k): c = super().__new__(m, n, b, d); c.k = k; return c\n"
        "class W(metaclass=Meta): pass", "W.k, type(W).__name__, type(W) is Meta"),
    "__init_subclass__": (
        "class I:\n def __init_subclass__(cls, tag=0, **k): cls.tag = tag\n"
        "class J(I, tag=4): pass", "J.tag, J.__mro__[1] is I"),
    "__set_name__": (
        "class D:\n def __set_name__(self, o, n): self.n = n\n"
        " def __get__(self, i, o): return self.n\nclass H: d = D()", "H.d, H().d"),
    "__slots__": (
        "class S:\n __slots__ = ('a', '__weakref__')\n def __init__(self): self.a = 1\n"
        "class R(S):\n __slots__ = 'b'", "S().a, R().a, hasattr(R(), '__dict__')"),
    "ABC": (
        "class A(abc.ABC):\n @abc.abstractmethod\n def f(self): ...\n"
        " @property\n @abc.abstractmethod\n def p(self): ...\n"
        "class C(A):\n def f(self): return 2\n p = property(lambda s: 3)\nA.register(int)",
        "C().f(), C().p, sorted(A.__abstractmethods__), isinstance(3, A)"),
    "enum": (
        "class E(enum.Enum):\n RED = 1\n def hi(self): return self.name\n"
        "class F(enum.Flag):\n A = enum.auto(); B = enum.auto()",
        "E.RED.hi(), E(1) is E.RED, str(F.A | F.B)"),
    "dataclass": (
        "@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)\nclass D:\n a: int\n"
        " b: list[int] = dataclasses.field(default_factory=list)",
        "D(a=1), D(a=1) == D(a=1), dataclasses.fields(D)[1].name, hasattr(D(a=1), '__dict__')"),
    "generic dataclass": (
        "@dataclasses.dataclass\nclass D[U]:\n u: U\n w: 'Undefined' = None",
        "D(1), dataclasses.asdict(D(2)), dataclasses.replace(D(1), u=2)"),
    "TypedDict": (
        "class TD(TypedDict, total=False):\n a: Required[int]\n b: 'str'",
        "TD(a=1), sorted(TD.__required_keys__), TD.__total__, sorted(TD.__annotations__)"),
    "NamedTuple": (
        "class NT(NamedTuple):\n a: int\n b: str = 'x'\nclass G[Q](NamedTuple):\n q: Q",
        "NT(1), NT(1)._asdict(), G[int](1), NT._field_defaults"),
    "an exception": (
        "class Err(Exception):\n def __init__(self, a, b): super().__init__(a); self.b = b",
        "Err(1, 2).b, str(Err(1, 2)), Err.__mro__[1]"),
    "__class_getitem__": (
        "class C:\n def __class_getitem__(cls, i): return types.GenericAlias(cls, i)",
        "str(C[int])"),
    "ContextVar": (
        "var = contextvars.ContextVar('var', default=5)\ndef use(): return var.get()",
        "use(), var.name"),
}  # fmt: skip


def module_of(source, expression):
    """The namespace of a script with this, whose probe() tells how it behaves."""
    space = {"__name__": "__main__"}
    exec(f"{IMPORTS}{source}\ndef probe(): return repr(({expression}))", space)
    return space


# ---------------------------------------------------------------------- at random

# What a class can have: source, and what to ask of an instance `o`.
MEMBERS = {
    "plain": ("def plain(self, n=2): return n + 1", "o.plain()"),
    "keywords": ("def kw(self, a, /, b=1, *c, d=2, **e): return a, b, c, d, e", "o.kw(1, z=3)"),
    "classmethod": ("@classmethod\ndef cm(cls): return cls.__name__", "o.cm()"),
    "staticmethod": ("@staticmethod\ndef st(n=1): return n", "o.st()"),
    "property": ("@property\ndef prop(self): return type(self).__qualname__", "o.prop"),
    "cached": ("@functools.cached_property\ndef cached(self): return 5", "o.cached"),
    "lru": ("@functools.lru_cache\ndef lru(self): return 6", "type(o).lru.cache_parameters()"),
    "partial": ("pm = functools.partialmethod(lambda self, *a, **k: (a, k), 1, k=2)",
                "o.pm(3)"),
    "dispatch": (
        "@functools.singledispatchmethod\ndef sd(self, x): return 'any'\n"
        "@sd.register\ndef _sd(self, x: int): return 'int'", "o.sd(1), o.sd('')"),
    "super": ("def __str__(self): return 'mine ' + str(len(super().__repr__()) > 0)", "str(o)"),
    "class cell": ("def cell(self): return __class__.__name__", "o.cell()"),
    "closure": ("def make(n):\n    return lambda self: n\nclosure = make(4); del make",
                "o.closure()"),
    "nested": ("class Inner:\n    deep = 3\n    def me(self) -> 'Inner': return self.deep",
               "o.Inner().me(), o.Inner.__qualname__"),
    "annotated": (f"hint: {NOWHERE} = 1\n"
                  f"def hinted(self, n: {NOWHERE} = 1) -> {NOWHERE}: return n",
                  "o.hinted()"),
    "own annotation": ("Kind = int\ndef own(self, n: Kind = 1) -> 'list[Kind]': return n",
                       "o.own(), str(type(o).own.__annotations__)"),
    "generic method": ("def gen[W](self, w: W) -> W: return w",
                       "o.gen(1), o.gen.__type_params__[0].__name__"),
    "coroutine": ("async def co(self): return 7", "asyncio.run(o.co())"),
    "generator": ("def it(self):\n    yield from range(3)", "list(o.it())"),
    "mutable": ("shared = [1, {'a': (2,)}]", "o.shared"),
    "global": ("def glob(self): return FACTOR, helper(2)", "o.glob()"),
    "dunder": ("def __len__(self): return 3\ndef __contains__(self, x): return x == 1",
               "len(o), 1 in o"),
}  # fmt: skip

# How a class begins: its decorator, what follows its name, how to make an instance.
HEADS = {
    "plain": ("", "", "{}()"),
    "Generic[T]": ("", "(Generic[T])", "{}()"),
    "[U]": ("", "[U: int = bool]", "{}()"),
    "dataclass": ("@dataclasses.dataclass", "", "{}()"),
    "slots": ("@dataclasses.dataclass(slots=True)", "", "{}()"),
    "ABC": ("", "(abc.ABC)", "{}()"),
    "exception": ("", "(ValueError)", "{}('why')"),
    "dict": ("", "(dict)", "{}(a=1)"),
    "int": ("", "(int)", "{}(5)"),
    "meta": ("", "(metaclass=Meta)", "{}()"),
    "tagged": ("", "(Tagged, tag=3)", "{}()"),
    "protocol": ("", "(Proto)", "{}()"),
    "base": ("", "(Before)", "{}()"),
}  # fmt: skip

COMMON = """\
FACTOR = 3
T = TypeVar('T')
def helper(n): return n * FACTOR
class Meta(type): pass
class Tagged:
    def __init_subclass__(cls, tag=0, **k): cls.tag = tag
class Proto(Protocol):
    def plain(self): ...
class Before(Generic[T]):
    def __init__(self): self.made = 'before'
    def __repr__(self): return 'Before'
"""
#: A class with slots has no place for a cached value; and it is made a second time, so that
#: its annotations look names up in the first, which CPython clears when it collects it.
CANNOT = {("slots", "cached"), ("slots", "own annotation"), ("slots", "super"),
          ("int", "dunder"), ("exception", "super")}  # fmt: skip


def source_of(head, members, refers):
    """A script with a class of this kind; `refers`: it holds a method of its own."""
    members = [name for name in members if (head, name) not in CANNOT]
    decorator, bases, make = HEADS[head]
    body = "\n".join(MEMBERS[name][0] for name in members) or "pass"
    source = f"{COMMON}{decorator}\nclass New{bases}:\n{textwrap.indent(body, '    ')}\n"
    asked = ["New.__module__", "New.__mro__[1:]", *(MEMBERS[name][1] for name in members)]
    if refers and "classmethod" in members:
        source += "New.table = {'cm': New.cm}\n"
        asked.append("New.table['cm']()")
    source += f"def new(): return {make.format('New')}\no = new()\n"
    return source, ", ".join(asked)
