"""Exceptions of many kinds, and functions that raise them."""

import threading

#: How many of Detailed have been made in this interpreter.
made = 0


class Detailed(Exception):
    """Takes other arguments than it passes on."""

    def __init__(self, code, text, /):
        global made
        made += 1
        super().__init__(f"{code} {text}")
        self.code = code
        self.text = text
        self.computed = f"{code} {text}"


class NoArgs(Exception):
    def __init__(self):
        raise AssertionError("__init__ must not run")

    @classmethod
    def make(cls):
        return cls.__new__(cls, "made")


class Wrapped(Exception):
    def __init__(self, inner):
        super().__init__(f"wrapped: {inner!r}")
        self.inner = inner


class Slotted(Exception):
    __slots__ = ("slot",)

    def __init__(self, slot):
        super().__init__("slotted")
        self.slot = slot


class Group(ExceptionGroup):
    def __new__(cls, message, exceptions, code):
        self = super().__new__(cls, message, exceptions)
        self.code = code
        return self

    def __init__(self, message, exceptions, code):
        super().__init__(message, exceptions)

    def derive(self, exceptions):
        return Group(self.message, exceptions, self.code)


class RaisesOnArrival:
    def __reduce__(self):
        return arrive, ()


def arrive():
    raise LookupError("on arrival")


def deep(n):
    if n > 1:
        deep(n - 1)
    raise ValueError("at the bottom")


def chain():
    try:
        try:
            deep(2)
        except ValueError:
            raise KeyError("k")  # noqa: B904
    except KeyError as exc:
        error = Detailed(1, "two")
        error.add_note("a note")
        raise error from exc


def group():
    raise ExceptionGroup("many", [ValueError(1), Detailed(7, "x")])


def compile_bad():
    compile("x = 1\ny = (\n", "<text>", "exec")


def endless():
    endless()


def through(other):
    other.call(chain)


# ------------------------------------------------------------ what cannot be sent


def with_lock():
    class Awkward(Exception):
        pass

    error = Awkward("the message")
    error.lock = threading.Lock()
    return error


def with_generator_argument():
    class Awkward(Exception):
        def __str__(self):
            return "the message"

    return Awkward(n for n in ())


def with_reduce_that_raises():
    class Awkward(Exception):
        def __reduce__(self):
            raise ZeroDivisionError("in reduce")

    return Awkward("the message")


def of_a_module_whose_file_is_gone():
    import importlib.util
    import sys
    import tempfile

    with tempfile.NamedTemporaryFile("w", suffix=".py") as file:
        file.write("class Awkward(Exception): pass")
        file.flush()
        spec = importlib.util.spec_from_file_location("only_there", file.name)
        module = sys.modules["only_there"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return module.Awkward("the message")


def of_a_module_that_is_only_there():
    import sys
    import types

    module = types.ModuleType("only_there")
    sys.modules["only_there"] = module
    exec("class Awkward(Exception): pass", module.__dict__)
    return module.Awkward("the message")


def that_cannot_be_rebuilt():
    class Awkward(Exception):
        def __setstate__(self, state):
            raise LookupError("on arrival")

    error = Awkward("the message")
    error.attribute = 1
    return error


def raising(make):
    def raise_it():
        raise make()

    return raise_it


CANNOT = {
    "a lock": raising(with_lock),
    "a generator": raising(with_generator_argument),
    "reduce": raising(with_reduce_that_raises),
    "a module": raising(of_a_module_whose_file_is_gone),
    "setstate": raising(that_cannot_be_rebuilt),
}


def raise_this(cls, *args):
    raise cls(*args)
