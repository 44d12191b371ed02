"""Errors of code that runs in an interpreter, as its caller sees them."""

import pickle
import traceback

import atoll
import pytest
import workers


def failure(interp, source):
    with pytest.raises(atoll.ExecutionFailed) as info:
        if callable(source):
            interp.call(source)
        else:
            interp.exec(source)
    return info.value


def test_excinfo(interp):
    exc = failure(interp, "raise ValueError('a message')")
    info = exc.excinfo
    assert info.type.__name__ == "ValueError"
    assert info.type.__qualname__ == "ValueError"
    assert info.type.__module__ == "builtins"
    assert info.msg == "a message"
    assert info.formatted == "ValueError: a message"
    assert info.errdisplay.startswith("Traceback (most recent call last):")
    assert info.errdisplay.endswith("ValueError: a message")
    assert 'File "<script>", line 1' in info.errdisplay
    assert isinstance(exc, atoll.InterpreterError)


def test_str_has_the_remote_traceback(interp):
    interp.exec("def inner():\n    1 / 0\ndef outer():\n    inner()\n")
    exc = failure(interp, "outer()")
    text = str(exc)
    assert text.startswith("ZeroDivisionError: division by zero")
    assert "Uncaught in the interpreter:" in text
    assert "in outer" in text
    assert "in inner" in text
    assert exc.excinfo.errdisplay in "".join(traceback.format_exception(exc))


def test_cause_is_the_exception(interp):
    exc = failure(interp, "raise KeyError('k', 2)")
    assert type(exc.__cause__) is KeyError
    assert exc.__cause__.args == ("k", 2)
    with pytest.raises(atoll.ExecutionFailed) as info:
        interp.call(workers.fail, 7, "own type")
    cause = info.value.__cause__
    assert type(cause) is workers.MyError
    assert (cause.code, cause.args) == (7, (7, "own type"))
    assert info.value.excinfo.type.__module__ == "workers"


def test_cause_of_a_local_class(interp):
    class Local(Exception):
        pass

    def fail():
        raise Local("here")

    exc = failure(interp, fail)
    assert exc.excinfo.type.__name__ == "Local"
    assert type(exc.__cause__).__name__ == "Local"
    assert str(exc.__cause__) == "here"


def test_a_class_that_exists_only_there(interp):
    interp.exec(
        "import sys, types\n"
        "m = sys.modules['only_there'] = types.ModuleType('only_there')\n"
        "exec('class E(Exception): pass', m.__dict__)"
    )
    exc = failure(interp, "raise m.E('x')")
    assert exc.excinfo.type.__module__ == "only_there"
    assert exc.excinfo.formatted == "only_there.E: x"
    # Its module was made by code: it comes with it.
    assert type(exc.__cause__).__module__ == "only_there"
    assert str(exc.__cause__) == "x"


def test_chained_exceptions_are_shown(interp):
    exc = failure(
        interp,
        "try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    raise KeyError('k') from e",
    )
    assert "ZeroDivisionError" in exc.excinfo.errdisplay
    assert "direct cause" in exc.excinfo.errdisplay


def test_exception_groups(interp):
    exc = failure(interp, "raise ExceptionGroup('many', [ValueError(1), TypeError(2)])")
    assert [type(e) for e in exc.__cause__.exceptions] == [ValueError, TypeError]
    assert "TypeError: 2" in exc.excinfo.errdisplay


def test_notes_are_shown(interp):
    exc = failure(interp, "e = ValueError(1)\ne.add_note('a note')\nraise e")
    assert "a note" in exc.excinfo.errdisplay


@pytest.mark.parametrize("source", ["1 +", "def", "x = (", "\tif"])
def test_syntax_errors(interp, source):
    exc = failure(interp, source)
    assert exc.excinfo.type.__name__ in ("SyntaxError", "IndentationError")
    assert isinstance(exc.__cause__, SyntaxError)
    assert "<script>" in exc.excinfo.errdisplay
    interp.exec("ok = 1")


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("raise SystemExit(3)", SystemExit),
        ("import sys; sys.exit('bye')", SystemExit),
        ("raise KeyboardInterrupt", KeyboardInterrupt),
        ("raise GeneratorExit", GeneratorExit),
        ("raise BaseException('b')", BaseException),
        ("raise MemoryError", MemoryError),
        ("def f(): f()\nf()", RecursionError),
        ("raise StopIteration(1)", StopIteration),
    ],
)
def test_every_exception_comes_back(interp, source, kind):
    exc = failure(interp, source)
    assert exc.excinfo.type.__name__ == kind.__name__
    assert type(exc.__cause__) is kind
    interp.exec("ok = 1")


DEFINE = "class E(Exception):\n    {}\nraise E('text')"


@pytest.mark.parametrize(
    "body",
    [
        "def __reduce__(self): raise ZeroDivisionError",
        "def __reduce__(self): raise SystemExit",
        "def __reduce__(self): return 5",
        "def __reduce__(self): return (int, ())",
        "def __reduce__(self): return (eval, ('1/0',))",
        "def __reduce__(self): return (lambda: (_ for _ in ()), ())",
        "def __init__(self, *a): self.g = (n for n in ())",
        "def __init__(self, *a): self.lock = __import__('_thread').allocate_lock()",
    ],
)
def test_exceptions_that_cannot_be_pickled(interp, body):
    exc = failure(interp, DEFINE.format(body))
    assert exc.excinfo.type.__name__ == "E"
    assert "E" in exc.excinfo.errdisplay
    assert type(exc.__cause__) is atoll.RemoteError
    assert exc.excinfo.formatted in str(exc.__cause__)
    interp.exec("ok = 1")


@pytest.mark.parametrize(
    "body",
    [
        "def __str__(self): raise ZeroDivisionError",
        "def __str__(self): raise SystemExit",
        "def __str__(self): raise KeyboardInterrupt",
        "def __str__(self): return 5",
        "def __str__(self): return '\\udc80'",
        "def __str__(self): return type('S', (str,), {})('sub')",
        "__module__ = 5",
        "__module__ = lambda: 0",
        "__qualname__ = 'a.b'",
        "def __getattribute__(self, name): raise SystemExit",
        "__notes__ = property(lambda self: 1 / 0)",
    ],
)
def test_exceptions_that_misbehave(interp, body):
    exc = failure(interp, DEFINE.format(body))
    assert exc.excinfo.type.__name__ == "E"
    assert exc.excinfo.type.__name__ in exc.excinfo.formatted or "a.b" in body
    assert str(exc).startswith(exc.excinfo.formatted)
    interp.exec("ok = 1")


def test_a_metaclass_that_misbehaves(interp):
    exc = failure(
        interp,
        "class M(type):\n"
        "    def __getattribute__(self, name): raise ZeroDivisionError(name)\n"
        "class E(Exception, metaclass=M): pass\n"
        "raise E('text')",
    )
    assert isinstance(exc.excinfo.type.__name__, str)
    assert exc.excinfo.msg == "text"


def test_empty_messages(interp):
    exc = failure(interp, "raise ValueError")
    assert exc.excinfo.msg == ""
    assert exc.excinfo.formatted == "ValueError"
    assert str(exc).startswith("ValueError")


def test_a_huge_message(interp):
    exc = failure(interp, "raise ValueError('x' * 5_000_000)")
    assert len(exc.excinfo.msg) == 5_000_000


def test_execution_failed_pickles(interp):
    exc = failure(interp, "raise ValueError('a')")
    copy = pickle.loads(pickle.dumps(exc))
    assert type(copy) is atoll.ExecutionFailed
    assert copy.excinfo == exc.excinfo
    assert str(copy) == str(exc)


def test_errors_through_two_interpreters(interp):
    with atoll.create() as other:
        interp.prepare_main(other=other)
        exc = failure(interp, "other.exec('raise LookupError(5)')")
    assert exc.excinfo.type.__name__ == "ExecutionFailed"
    assert type(exc.__cause__) is atoll.ExecutionFailed
    assert "LookupError: 5" in str(exc)
    assert exc.__cause__.excinfo.type.__name__ == "LookupError"


def test_references_are_given_back(interp):
    """An error that was handled keeps nothing alive there."""
    interp.exec(
        "import weakref, gc\n"
        "class Big: pass\n"
        "def fail():\n"
        "    global ref\n"
        "    big = Big()\n"
        "    ref = weakref.ref(big)\n"
        "    raise ValueError(big.__class__.__name__)\n"
    )
    failure(interp, "fail()")
    interp.exec("gc.collect(); assert ref() is None")
