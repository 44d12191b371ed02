"""Exceptions: as values, and as the cause of what exec() and call() raise."""

import gc
import re
import sys
import traceback
import weakref

import atoll
import failures
import pytest
import workers
from failures import Detailed, NoArgs, Slotted, Wrapped
from support import run_python


def named_later(exc):
    exc.filename = "there"
    return exc


def raised(function, *args):
    """The exception that a function raises, with its traceback."""
    try:
        function(*args)
    except BaseException as exc:
        return exc
    raise AssertionError("nothing was raised")


def failure(interp, function, *args):
    with pytest.raises(atoll.ExecutionFailed) as info:
        if isinstance(function, str):
            interp.exec(function)
        else:
            interp.call(function, *args)
    return info.value


def linked(exc):
    """All exceptions that hang together with one, each once."""
    found, todo = [], [exc]
    while todo:
        exc = todo.pop()
        if exc is None or any(exc is other for other in found):
            continue
        found.append(exc)
        todo += [exc.__cause__, exc.__context__, *getattr(exc, "exceptions", ())]
    return found


def remote_text(exc):
    """The text of the one RemoteTraceback that the chain ends with."""
    (found,) = [e for e in linked(exc) if isinstance(e, atoll.RemoteTraceback)]
    return str(found)


# ---------------------------------------------------------------------- as values


@pytest.mark.parametrize(
    "exc",
    [
        ValueError(), ValueError("text"), ValueError(1, [2], {"three": 3}), KeyError("k"),
        BaseException("b"), KeyboardInterrupt(), SystemExit(3), GeneratorExit(),
        StopIteration(5), MemoryError(), RecursionError("deep"), AssertionError((1, 2)),
        Detailed(1, "two"), NoArgs.make(), Wrapped(ValueError("inner")),
        workers.MyError(1, "two"), atoll.QueueEmpty("empty"), Warning("w"),
        ZeroDivisionError("z"), type("Local", (Exception,), {})("local"),
    ],
    ids=repr,
)
def test_type_and_arguments(way, exc):
    got = way([exc])[0]
    assert type(got) is type(exc)
    assert repr(got.args) == repr(exc.args)
    assert str(got) == str(exc)
    assert (got.__cause__, got.__context__, got.__traceback__) == (None, None, None)
    assert got is not exc


@pytest.mark.parametrize(
    ("exc", "names"),
    [
        (OSError(2, "No such file", "a", None, "b"), "errno strerror filename filename2"),
        (FileNotFoundError(2, "gone", "name"), "errno strerror filename"),
        (BlockingIOError(11, "again", 5), "errno characters_written"),
        (raised(open, "/no/such/file"), "errno strerror filename"),
        (UnicodeDecodeError("utf8", b"\xff", 0, 1, "bad"), "encoding object start end reason"),
        (raised("é".encode, "ascii"), "encoding object start end reason"),
        (UnicodeTranslateError("x", 0, 1, "bad"), "object start end reason"),
        (raised(compile, "1 +", "name", "exec"), "msg filename lineno offset text end_lineno"),
        (raised(compile, "\tx\n  y", "f", "exec"), "msg filename lineno offset text"),
        (SyntaxError("m", ("f", 1, 2, "t", 3, 4)), "msg lineno text end_lineno end_offset"),
        (ImportError("m", name="n", path="p"), "msg name path"),
        (raised(__import__, "no_such_module"), "msg name"),
        (AttributeError("m", name="n", obj=[1]), "name"),
        (NameError("m", name="n"), "name"),
        (raised(eval, "nothing"), "name"),
        (UnboundLocalError("m", name="n"), "name"),
        (named_later(OSError("m")), "filename"),  # as urllib's HTTPError is
        (StopIteration(5), "value"),
        (SystemExit(7), "code"),
        (Detailed(1, "two"), "code text computed"),
        (Slotted("a"), "slot"),
    ],
    ids=repr,
)
def test_attributes_of_known_types(way, exc, names):
    got = way(exc)
    assert type(got) is type(exc)
    assert str(got) == str(exc)
    for name in names.split():
        assert getattr(got, name) == getattr(exc, name), name


def test_attributes_and_notes(way):
    exc = ValueError("v")
    exc.extra = [1, {"k": exc}]
    exc.add_note("first")
    exc.add_note("ä second")
    got = way(exc)
    assert got.extra[1]["k"] is got
    assert got.__notes__ == ["first", "ä second"]
    assert list(vars(got)) == list(vars(exc))


def test_the_object_of_an_attribute_error_need_not_be_sendable(interp):
    exc = failure(interp, lambda: (n for n in ()).no_such_attribute)
    assert type(exc.__cause__) is AttributeError
    assert exc.__cause__.name == "no_such_attribute"


def test_init_does_not_run_again(way):
    exc = Detailed(1, "two")
    exc.computed = "changed"
    before = failures.made
    got = way(exc)
    assert failures.made == before
    assert (got.code, got.text, got.computed, got.args) == (1, "two", "changed", exc.args)
    got = way(NoArgs.make())
    assert got.args == ("made",)


def test_arguments_that_init_has_replaced(way):
    """The classic that pickle cannot do: other arguments than __init__ takes."""
    exc = Wrapped(KeyError("k"))
    got = way(exc)
    assert got.args == ("wrapped: KeyError('k')",)
    assert type(got.inner) is KeyError
    exc.args = ("other", 1)
    assert way(exc).args == ("other", 1)


def test_cause_and_context(way):
    try:
        try:
            try:
                raise LookupError("first")
            except LookupError:
                raise KeyError("second") from OSError(5, "a cause of its own")
        except KeyError as exc:
            raise Detailed(1, "third") from exc
    except Detailed as exc:
        got, original = way(exc), exc
    second = got.__cause__
    assert (type(got), type(second)) == (Detailed, KeyError)
    assert got.__context__ is second
    assert got.__suppress_context__ is True
    assert (type(second.__cause__), second.__cause__.errno) == (OSError, 5)
    assert (type(second.__context__), second.__context__.args) == (LookupError, ("first",))
    assert second.__suppress_context__ is True
    assert original.__cause__.__context__.__traceback__ is not None


def test_from_none_stays_suppressed(way):
    def fail():
        try:
            raise LookupError("hidden")
        except LookupError:
            raise ValueError("shown") from None

    got = way(raised(fail))
    assert got.__suppress_context__ is True
    assert type(got.__context__) is LookupError
    assert not isinstance(got.__cause__, LookupError)
    shown = "".join(traceback.format_exception(got))
    assert "shown" in shown
    assert "hidden" not in shown.replace(remote_text(got), "")

    def fail_in_handler():
        try:
            raise LookupError("before")
        except LookupError:
            raise ValueError("after")  # noqa: B904

    got = way(raised(fail_in_handler))
    assert got.__suppress_context__ is False
    assert type(got.__context__) is LookupError
    assert got.__cause__ is None


def test_chains_that_are_circles_or_shared(way):
    a, b = ValueError("a"), ValueError("b")
    a.__context__, b.__context__ = b, a
    got = way(a)
    assert got.__context__.__context__ is got
    a, b = ValueError("a"), ValueError("b")
    a.__cause__ = a.__context__ = b
    one, other, again = way((a, b, a))
    assert one is again
    assert one.__cause__ is one.__context__ is other


def test_groups(way):
    inner = ExceptionGroup("inner", [TypeError(2), Detailed(3, "x")])
    group = BaseExceptionGroup("outer", [ValueError(1), inner, KeyboardInterrupt()])
    group.add_note("note")
    got = way(group)
    assert type(got) is BaseExceptionGroup
    assert (got.message, got.__notes__) == ("outer", ["note"])
    assert [type(e) for e in got.exceptions] == [ValueError, ExceptionGroup, KeyboardInterrupt]
    assert type(got.exceptions[1]) is ExceptionGroup
    assert got.exceptions[1].exceptions[1].code == 3
    matched, rest = got.split(ValueError)
    assert len(matched.exceptions) == 1
    assert len(rest.exceptions) == 2


def test_a_group_of_one_s_own(way):
    group = failures.Group("many", [ValueError(1), ValueError(2)], code=5)
    got = way(group)
    assert type(got) is failures.Group
    assert (got.code, got.message) == (5, "many")
    matched, _ = got.split(lambda e: e.args == (1,))
    assert (type(matched), matched.code) == (failures.Group, 5)


def test_a_group_with_chains_and_tracebacks(way):
    def fail():
        try:
            failures.deep(2)
        except ValueError as exc:
            raise ExceptionGroup("all", [exc, raised(failures.deep, 1)]) from exc

    got = way(raised(fail))
    assert got.__cause__ is got.exceptions[0]
    assert type(got.exceptions[1]) is ValueError
    assert any(isinstance(e, atoll.RemoteTraceback) for e in linked(got))


def test_one_exception_in_two_places_stays_one(way):
    exc = raised(failures.deep, 1)
    got = way([exc, {"k": exc}, ExceptionGroup("g", [exc])])
    assert got[0] is got[1]["k"] is got[2].exceptions[0]


# ------------------------------------------------------------ the traceback as text


def test_the_end_of_the_chain_is_the_traceback(way):
    exc = raised(failures.deep, 3)
    got = way(exc)
    assert type(got.__cause__) is atoll.RemoteTraceback
    text = str(got.__cause__)
    assert text.lstrip().startswith("Traceback (most recent call last):")
    assert text.count("in deep") == 3 or "deep(" in text
    assert "failures.py" in text
    assert exc.__cause__ is None
    shown = "".join(traceback.format_exception(got))
    assert "in deep" in shown
    assert shown.rstrip().endswith("ValueError: at the bottom")


def test_the_traceback_comes_after_the_chain(way):
    def fail():
        try:
            failures.deep(1)
        except ValueError as exc:
            raise KeyError("k") from exc

    got = way(raised(fail))
    assert (type(got), type(got.__cause__)) == (KeyError, ValueError)
    text = remote_text(got)
    assert "in fail" in text
    assert "in deep" in text


def test_no_traceback_no_text(way):
    assert way(ValueError("never raised")).__cause__ is None
    got = way(Wrapped(ValueError("neither")))
    assert not any(isinstance(e, atoll.RemoteTraceback) for e in linked(got))


def test_a_remote_traceback_is_kept_on_the_next_hop(way):
    got = way(way(raised(failures.deep, 2)))
    assert type(got) is ValueError
    assert "in deep" in remote_text(got)


def test_raised_again_elsewhere_both_tracebacks_are_there(interp):
    def again(exc):
        raise exc

    exc = failure(interp, again, raised(failures.deep, 1)).__cause__
    assert type(exc) is ValueError
    text = "\n".join(str(e) for e in linked(exc) if isinstance(e, atoll.RemoteTraceback))
    assert "in deep" in text
    assert "in again" in text


def test_a_traceback_keeps_no_frame_alive(queue):
    class Big:
        pass

    def fail():
        big = Big()
        refs.append(weakref.ref(big))
        raise ValueError(type(big).__name__)

    refs = []
    queue.put(raised(fail))
    gc.collect()
    assert refs[0]() is None
    assert "in fail" in remote_text(queue.get())


# ------------------------------------------------------------------ exec and call


def test_the_cause_of_a_failed_call(interp):
    exc = failure(interp, failures.chain)
    cause = exc.__cause__
    assert type(cause) is Detailed
    assert (cause.code, cause.computed, cause.__notes__) == (1, "1 two", ["a note"])
    assert type(cause.__cause__) is KeyError
    assert type(cause.__cause__.__context__) is ValueError
    text = remote_text(cause)
    for word in ("in chain", "in deep", "Detailed", "KeyError"):
        assert word in text
    assert "in deep" in str(exc)


def test_the_cause_of_a_failed_exec(interp):
    exc = failure(interp, "def f():\n    1 / 0\nf()")
    assert type(exc.__cause__) is ZeroDivisionError
    text = remote_text(exc.__cause__)
    assert '"<script>", line 3, in <module>' in text
    assert '"<script>", line 2, in f' in text


def test_syntax_errors(interp):
    for call in (lambda: failure(interp, "x = 1\ny = (\n"),
                 lambda: failure(interp, failures.compile_bad)):
        cause = call().__cause__
        assert type(cause) is SyntaxError
        assert cause.lineno == 2
        assert cause.text.startswith("y = (")
        assert "was never closed" in cause.msg
    cause = failure(interp, "if 1:\nx").__cause__
    assert type(cause) is IndentationError
    assert "".join(traceback.format_exception_only(cause)).count("^") == 1


def test_a_group_from_another_interpreter(interp):
    cause = failure(interp, failures.group).__cause__
    assert [type(e) for e in cause.exceptions] == [ValueError, Detailed]
    assert cause.exceptions[1].code == 7
    try:
        raise cause
    except* Detailed as caught:
        assert len(caught.exceptions) == 1
    except* ValueError:
        pass


def test_the_cause_can_be_handled_like_any_other(interp):
    """Raised, matched, chained, and let go."""
    exc = failure(interp, failures.chain)
    with pytest.raises(Detailed) as info:
        raise exc.__cause__
    assert info.value.code == 1
    ref = weakref.ref(info.value)
    del exc, info
    gc.collect()
    assert ref() is None


def test_the_class_of_a_module_made_by_code_comes_with_it(interp):
    cause = failure(interp, failures.raising(failures.of_a_module_that_is_only_there)).__cause__
    assert (type(cause).__module__, type(cause).__name__) == ("only_there", "Awkward")
    assert cause.args == ("the message",)


@pytest.mark.parametrize("kind", sorted(failures.CANNOT))
def test_what_cannot_be_sent_or_rebuilt_is_a_remote_error(interp, kind):
    exc = failure(interp, failures.CANNOT[kind])
    cause = exc.__cause__
    assert type(cause) is atoll.RemoteError
    assert isinstance(cause, atoll.AtollError)
    text = str(cause)
    assert re.search("cannot|could not", text)
    assert "Awkward" in text
    assert "the message" in text
    assert "the message" in exc.excinfo.msg
    shown = "".join(traceback.format_exception(exc))
    assert "in raise_it" in shown
    assert "in raise_it" in text or "in raise_it" in remote_text(cause)
    assert interp.call(workers.give, 5) == 5


def test_a_remote_error_crosses_as_well(interp, way):
    cause = failure(interp, failures.CANNOT["a lock"]).__cause__
    got = way(cause)
    assert type(got) is atoll.RemoteError
    assert str(got) == str(cause)


def test_a_bad_exception_inside_a_chain_spoils_only_itself(interp):
    """The outer one still has its own type."""
    def fail():
        try:
            failures.CANNOT["a lock"]()
        except Exception as exc:
            raise KeyError("outer") from exc

    exc = failure(interp, fail)
    assert type(exc.__cause__) in (KeyError, atoll.RemoteError)
    assert "outer" in str(exc.__cause__)
    shown = "".join(traceback.format_exception(exc))
    assert "the message" in shown
    assert "outer" in shown


def test_an_exception_that_cannot_be_sent_as_a_value(queue):
    """A value is another matter: what arrived would be something else."""
    exc = raised(failures.CANNOT["a lock"])
    with pytest.raises(atoll.NotShareableError):
        queue.put([exc])
    assert queue.empty()


def test_execution_failed_crosses_with_its_cause(interp, way):
    exc = failure(interp, failures.chain)
    got = way(exc)
    assert type(got) is atoll.ExecutionFailed
    assert got.excinfo == exc.excinfo
    assert str(got) == str(exc)
    assert type(got.__cause__) is Detailed
    assert got.__cause__.code == 1


def test_through_two_interpreters_the_innermost_cause_is_there(interp):
    with atoll.create() as other:
        exc = failure(interp, failures.through, other)
    assert type(exc.__cause__) is atoll.ExecutionFailed
    assert type(exc.__cause__.__cause__) is Detailed
    assert "in through" in "".join(traceback.format_exception(exc))


def test_an_uncaught_failure_shows_the_remote_traceback():
    done = run_python(
        """
        import atoll, failures
        with atoll.create() as interp:
            interp.call(failures.chain)
        """
    )
    assert done.returncode == 1
    assert "in chain" in done.stderr
    assert "in deep" in done.stderr
    assert "Detailed" in done.stderr.splitlines()[-1] or "Detailed" in done.stderr
    assert done.stderr.count("failures.Detailed: 1 two") <= 4


def test_deep_recursion_there_is_a_recursion_error_here(interp):
    exc = failure(interp, failures.endless)
    assert type(exc.__cause__) is RecursionError
    assert "repeated" in remote_text(exc.__cause__)
    assert len(str(exc)) < 100_000


def test_a_very_long_chain(way):
    first = exc = ValueError(0)
    for n in range(1, 300):
        exc.__cause__ = ValueError(n)
        exc = exc.__cause__
    got = way(first)
    for n in range(300):
        assert got.args == (n,)
        got = got.__cause__
    assert got is None


def test_the_error_of_a_broken_message_is_not_lost(interp):
    """What raises on arrival raises there, and comes back as any error."""
    bad = failures.RaisesOnArrival()
    cause = failure(interp, workers.give, bad).__cause__
    assert type(cause) is LookupError
    assert cause.args == ("on arrival",)
    assert "failures" in sys.modules


@pytest.mark.parametrize(
    "cls",
    [atoll.InterpreterError, atoll.InterpreterNotFoundError, atoll.NotShareableError],
    ids=lambda cls: cls.__name__,
)
def test_the_errors_of_interpreters_arrive_as_themselves(interp, cls):
    """3.13 says that they come from a module that cannot be imported there."""
    with pytest.raises(atoll.ExecutionFailed) as caught:
        interp.call(failures.raise_this, cls, "text")
    cause = caught.value.__cause__
    assert type(cause) is cls
    assert cause.args == ("text",)
    queue = atoll.create_queue()
    queue.put(cls)
    assert queue.get() is cls


def test_what_it_comes_from_cannot_be_sent():
    """The exception arrives all the same, and the text of its traceback has them all."""

    def fail():
        import threading

        try:
            raise LookupError(threading.Lock())
        except LookupError as exc:
            try:
                raise ValueError("second")
            except ValueError:
                raise KeyError("third") from exc

    with atoll.create() as interp, pytest.raises(KeyError, match="third") as caught:
        interp.submit(fail).result()
    text = "".join(traceback.format_exception(caught.value))
    assert "LookupError" in text and "The above exception was the direct cause" in text
