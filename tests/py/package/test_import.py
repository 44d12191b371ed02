"""The package itself: what it offers, what importing it costs."""

import inspect
import re
import sys

import atoll
import pytest
from support import check_python

PUBLIC = sorted(atoll.__all__)


def test_import_loads_nothing_large():
    out = check_python(
        """
        import sys
        before = set(sys.modules)
        import atoll
        print(*sorted(set(sys.modules) - before))
        """
    )
    loaded = set(out.split())
    assert "atoll._core" in loaded
    assert not loaded & {
        "threading", "queue", "pickle", "_pickle", "collections", "weakref", "re",
        "typing", "types", "functools", "enum", "dataclasses", "traceback",
        "cloudpickle", "concurrent", "asyncio", "logging", "signal", "copyreg",
    }  # fmt: skip


@pytest.mark.alone
def test_import_is_quick():
    """A budget with much room for a slow machine: the best of ten."""
    out = check_python(
        """
        import subprocess, sys
        code = ("import time; t = time.perf_counter(); import atoll;"
                "print(time.perf_counter() - t)")
        print(min(float(subprocess.check_output([sys.executable, "-c", code]))
                  for _ in range(10)))
        """
    )
    assert float(out) < 0.06


def test_use_of_queues_loads_no_threading():
    check_python(
        """
        import sys
        before = "threading" in sys.modules
        import atoll
        queue = atoll.create_queue()
        queue.put((1, "x"))
        assert queue.get(timeout=1) == (1, "x")
        try:
            queue.get(timeout=0.001)
        except atoll.QueueEmpty:
            pass
        with atoll.create() as interp:
            interp.exec("1")
        assert ("threading" in sys.modules) == before
        """
    )


def test_all_is_complete():
    assert len(set(PUBLIC)) == len(PUBLIC)
    for name in PUBLIC:
        getattr(atoll, name)
    public = {
        name
        for name, value in vars(atoll).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    } - {"annotations", "TYPE_CHECKING"}
    assert public == set(PUBLIC)
    assert set(PUBLIC) <= set(dir(atoll))
    namespace = {}
    exec("from atoll import *", namespace)
    assert set(PUBLIC) <= set(namespace)


def test_unknown_names():
    with pytest.raises(AttributeError, match="no_such_name"):
        atoll.no_such_name
    with pytest.raises(AttributeError, match="no_such_name"):
        atoll.errors.no_such_name
    assert not hasattr(atoll, "__path_not__")


def test_lazy_names_are_the_same_object():
    from atoll import QueueFull, errors

    assert atoll.QueueFull is QueueFull is errors.QueueFull
    assert set(errors.__all__) <= set(PUBLIC)
    for name in errors.__all__:
        assert getattr(errors, name) is getattr(atoll, name)


def documented():
    for name in PUBLIC:
        value = getattr(atoll, name)
        if not isinstance(value, (type(atoll.KEEP), str)):
            yield name, value
        if inspect.isclass(value) and not issubclass(value, BaseException):
            for attribute, member in vars(value).items():
                if not attribute.startswith("_"):
                    yield f"{name}.{attribute}", member


def test_every_public_name_has_a_docstring():
    missing = [name for name, value in documented() if not inspect.getdoc(value)]
    assert not missing


def from_elsewhere():
    """(class, name, base) for what public classes, no exceptions, have in common with
    classes that are not atoll's."""
    for name in PUBLIC:
        cls = getattr(atoll, name)
        if not inspect.isclass(cls) or issubclass(cls, BaseException):
            continue
        for base in cls.__mro__[1:-1]:
            if base.__module__.partition(".")[0] != "atoll":
                for attribute, member in vars(base).items():
                    if not attribute.startswith("_") and not inspect.isclass(member):
                        yield cls, attribute, base


def test_what_is_like_the_standard_library_has_docstrings_of_its_own():
    """What is inherited, or overridden without a word, is described as something else."""
    # For those who derive a pool from 3.14's ThreadPoolExecutor; nothing documents it.
    seen = {(atoll.InterpreterPoolExecutor, "prepare_context")}
    wrong = []
    for cls, name, base in from_elsewhere():
        if (cls, name) in seen:
            continue
        seen.add((cls, name))
        owner = next(one for one in cls.__mro__ if name in vars(one))
        doc = vars(owner)[name].__doc__
        ours = owner.__module__.partition(".")[0] == "atoll"
        if not ours or not doc or doc == vars(base)[name].__doc__:
            wrong.append(f"{cls.__name__}.{name}")
    assert not wrong
    assert len([one for one, _ in seen if one is atoll.Future]) >= 8
    assert {"submit", "map", "shutdown"} <= {name for _, name in seen}


def test_signatures_can_be_read():
    for name, value in documented():
        if callable(value) and not inspect.isclass(value):
            assert inspect.signature(value) is not None, name
    queue = atoll.create_queue()
    assert str(inspect.signature(queue.get)) == "(block=True, timeout=None)"


def test_exceptions_live_where_they_can_be_pickled():
    import pickle

    for name in PUBLIC:
        cls = getattr(atoll, name)
        if not (inspect.isclass(cls) and issubclass(cls, Exception)):
            continue
        if cls is atoll.ExecutionFailed:
            continue  # see test_errors.py
        if cls.__module__ == "interpreters":
            assert sys.version_info < (3, 14)
            continue  # CPython 3.13 gives them a module that does not exist
        exc = pickle.loads(pickle.dumps(cls("text")))
        assert type(exc) is cls
        assert exc.args == ("text",)


def test_errors_arrive_as_themselves(interp):
    """An exception of atoll's that crosses is caught by the same name."""
    interp.exec("import atoll")
    for name in ("QueueFull", "QueueShutDown", "ChannelEmpty", "ChannelClosed"):
        with pytest.raises(atoll.ExecutionFailed) as info:
            interp.exec(f"raise atoll.{name}('x')")
        assert type(info.value.__cause__) is getattr(atoll, name)


def test_version():
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", atoll.__version__)


@pytest.mark.skipif(sys.version_info < (3, 14), reason="PEP 734's module came in 3.14")
def test_drop_in_for_concurrent_interpreters():
    from concurrent import interpreters

    import atoll as ours

    for name in interpreters.__all__:
        assert hasattr(ours, name), name
    for kind in ("Interpreter", "Queue"):
        theirs = getattr(interpreters, kind)
        for name in vars(theirs):
            if not name.startswith("_"):
                assert hasattr(getattr(ours, kind), name), f"{kind}.{name}"
    for name in (
        "InterpreterError",
        "InterpreterNotFoundError",
        "NotShareableError",
    ):
        assert getattr(ours, name) is getattr(interpreters, name)
    assert issubclass(ours.ExecutionFailed, interpreters.InterpreterError)


def test_stats():
    stats = atoll.stats()
    assert set(stats) >= {"parks", "wakes", "channels"}
    assert all(isinstance(value, int) for value in stats.values())
    queue = atoll.create_queue()
    assert atoll.stats()["channels"] == stats["channels"] + 1
    del queue
    assert atoll.stats()["channels"] == stats["channels"]


def test_reimport_is_refused_or_works():
    """A second copy of the package in one interpreter does no harm."""
    out = check_python(
        """
        import sys, atoll
        queue = atoll.create_queue()
        for name in [n for n in sys.modules if n.partition(".")[0] == "atoll"]:
            del sys.modules[name]
        import atoll as again
        queue.put(1)
        assert again.Queue(queue.id).get() == 1
        with again.create() as interp:
            interp.exec("x = 1")
        print("fine")
        """
    )
    assert out == "fine"
