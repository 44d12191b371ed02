"""Code of scripts, by value: each kind of it does there what it does here."""

import asyncio
import contextvars
import functools
import importlib.util
import linecache
import sys
import traceback
import types

import atoll
import kinds
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import check_python


@pytest.fixture(scope="module")
def module_interp():
    interp = atoll.create()
    yield interp
    interp.close()


@pytest.mark.parametrize("kind", kinds.KINDS)
def test_a_kind_of_code(interp, kind):
    space = kinds.module_of(*kinds.KINDS[kind])
    assert interp.call(space["probe"]) == space["probe"]()


def test_all_kinds_of_one_script():
    # Each is asked before the next one takes its names.
    parts = "\n".join(
        f"{source}\ndef probe(): return repr(({expression}))\n"
        "there = pool.submit(probe).result()\n"
        "assert there == probe(), (there, probe())"
        for source, expression in kinds.KINDS.values()
    )
    check_python(
        f"import atoll\n{kinds.IMPORTS}pool = atoll.InterpreterPoolExecutor(1)\n{parts}\n"
        "pool.shutdown()"
    )


@given(
    head=st.sampled_from(sorted(kinds.HEADS)),
    members=st.lists(st.sampled_from(sorted(kinds.MEMBERS)), unique=True, max_size=8),
    refers=st.booleans(),
)
@settings(max_examples=300, deadline=None)
def test_a_class_made_at_random(module_interp, head, members, refers):
    """It behaves there as here, or is refused with a place."""
    source, expression = kinds.source_of(head, members, refers)
    space = kinds.module_of(source, expression)
    try:
        there = module_interp.call(space["probe"])
        back = module_interp.call(returned, space["o"])
    except atoll.NotShareableError as exc:
        assert "at [" in str(exc)
        return
    assert there == space["probe"]()
    assert type(back) is space["New"]


def returned(value):
    return value


@pytest.mark.parametrize(
    "name", ["TypeVar", "ParamSpec", "TypeVarTuple", "NewType", "alias", "generic alias",
             "ContextVar", "Generic[T]"]
)  # fmt: skip
def test_what_has_an_identity_comes_back_as_itself(interp, name):
    space = kinds.module_of(*kinds.KINDS[name])
    names = ("T", "P", "Ts", "N", "A", "Pair", "var", "Sub")
    wanted = [space[name] for name in names if name in space]
    assert wanted
    for value in wanted:
        assert interp.call(returned, value) is value


def test_what_cannot_be_computed_before_3_14_is_refused_with_its_place(interp):
    space = kinds.module_of("type A = Nowhere", "A.__name__")
    if sys.version_info >= (3, 14):
        assert interp.call(space["probe"]) == space["probe"]()
        return
    with pytest.raises(atoll.NotShareableError, match=r"__globals__\['A'\].*Nowhere.*3\.14"):
        interp.call(space["probe"])


def test_a_type_of_c_code_without_a_name_is_refused(interp):
    with pytest.raises(atoll.NotShareableError, match=r"sys\.flags"):
        interp.call(returned, sys.flags)


# ---------------------------------------------------- modules that no path leads to

PLUGIN = """\
K = 5
class Thing:
    def __init__(self, v): self.v = v
def helper(x): return x + K
def work(x): return helper(x)
def thing(x): return Thing(x)
"""


@pytest.fixture
def forget_modules():
    yield
    for name in list(sys.modules):
        if name.startswith(("by_path", "made_by_code")):
            del sys.modules[name]


def load(name, path, **how):
    spec = importlib.util.spec_from_file_location(name, path, **how)
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_module_loaded_from_its_file(interp, tmp_path, forget_modules):
    (tmp_path / "plug.py").write_text(PLUGIN)
    plug = load("by_path", tmp_path / "plug.py")
    assert interp.call(plug.work, 1) == 6
    thing = interp.call(plug.thing, 2)
    assert type(thing) is plug.Thing
    assert thing.v == 2
    assert interp.call(lambda: plug.work(2)) == 7
    # It is loaded there once, under its name.
    interp.call(setattr, plug.thing, "mark", 1)
    assert interp.call(lambda: sys.modules["by_path"].thing.mark) == 1


def test_a_package_loaded_from_its_file(interp, tmp_path, forget_modules):
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "__init__.py").write_text("from .sub import f\n")
    (tmp_path / "p" / "sub.py").write_text("def f(n): return n + 1\n")
    package = load("by_path_p", tmp_path / "p" / "__init__.py",
                   submodule_search_locations=[str(tmp_path / "p")])  # fmt: skip
    assert interp.call(package.f, 1) == 2


def test_a_file_that_is_gone_is_said(interp, tmp_path, forget_modules):
    (tmp_path / "plug.py").write_text(PLUGIN)
    plug = load("by_path_gone", tmp_path / "plug.py")
    (tmp_path / "plug.py").unlink()
    with pytest.raises(atoll.ExecutionFailed, match=r"FileNotFoundError.*plug\.py"):
        interp.call(plug.work, 1)


def test_another_module_has_its_name_there(interp, tmp_path, forget_modules):
    for name, k in (("one", 1), ("two", 2)):
        (tmp_path / f"{name}.py").write_text(f"def f(): return {k}\n")
    assert interp.call(load("by_path_twin", tmp_path / "one.py").f) == 1
    assert interp.call(load("by_path_twin", tmp_path / "two.py").f) == 2


def test_a_module_made_by_code(interp, forget_modules):
    made = types.ModuleType("made_by_code")
    exec("Z = 4\ndef h(x): return x + Z\nclass C:\n    def m(self): return h(1)", made.__dict__)
    for entered in (False, True):
        if entered:
            sys.modules["made_by_code"] = made
        assert interp.call(made.h, 1) == 5
        assert interp.call(made.C().m) == 5
        assert interp.call(lambda: made.h(2) + made.Z) == 10


class Constant:
    def __reduce__(self):
        return self.name


Constant.__module__ = None  # as ufuncs have none


def test_what_does_not_say_in_which_module_it_is_is_found(interp, monkeypatch):
    import kinds_of_modules

    held = Constant()
    held.name = "held"
    monkeypatch.setattr(kinds_of_modules, "held", held, raising=False)
    queue = atoll.create_queue()
    queue.put([held])
    assert queue.get()[0] is held
    held.name = "elsewhere"
    with pytest.raises(atoll.NotShareableError, match="elsewhere"):
        queue.put(held)


def test_a_namespace_is_no_value(interp):
    for function in (globals, locals, vars):
        with pytest.raises(atoll.NotShareableError, match="builtins"):
            interp.call(function)
    with pytest.raises(atoll.NotShareableError, match="builtins"):
        interp.call(returned, vars(sys.modules["__main__"]))


def test_modules_of_c_code_that_no_finder_knows_go_by_name(interp):
    """Some extensions put them into sys.modules themselves."""
    import xml.parsers.expat

    assert getattr(xml.parsers.expat.errors, "__spec__", None) is None
    assert interp.call(lambda: xml.parsers.expat.errors.XML_ERROR_SYNTAX)


# ------------------------------------------------------------------------- contexts


def test_a_context(interp):
    here = contextvars.ContextVar("here")
    context = contextvars.Context()
    context.run(here.set, ["value"])
    there = interp.call(lambda c: c.run(here.get), context)
    assert there == ["value"]
    assert interp.call(context.run, here.get) == ["value"]


def test_what_cannot_cross_is_not_in_the_context_there(interp):
    lock, text = contextvars.ContextVar("lock"), contextvars.ContextVar("text")
    context = contextvars.Context()
    context.run(lock.set, sys._getframe())
    context.run(text.set, "text")
    assert interp.call(lambda c: [v.name for v in c], context) == ["text"]


def test_a_variable_of_a_module_is_that_of_the_module(interp):
    from kinds_of_modules import request

    context = contextvars.Context()
    context.run(request.set, 7)
    assert interp.call(context.run, interp_request) == 7


def interp_request():
    import kinds_of_modules

    return kinds_of_modules.request.get()


def test_the_pool_as_executor_of_a_loop():
    async def main(pool):
        loop = asyncio.get_running_loop()
        loop.set_default_executor(pool)
        context = contextvars.copy_context()
        return [
            await asyncio.to_thread(abs, -1),
            await loop.run_in_executor(pool, context.run, abs, -2),
            await loop.run_in_executor(None, functools.partial(context.run, abs), -3),
        ]

    with atoll.InterpreterPoolExecutor(1) as pool:
        assert asyncio.run(main(pool)) == [1, 2, 3]


# ----------------------------------------------------------------------- tracebacks


def text_of(interp, function):
    with pytest.raises(atoll.ExecutionFailed) as info:
        interp.call(function)
    return "".join(traceback.format_exception(info.value))


@pytest.mark.parametrize("constant", [True, False])
def test_a_traceback_shows_the_lines_of_a_cell(interp, constant):
    """A notebook's cells are in no file, but in linecache."""
    name = f"<cell {constant}>"
    source = "def fail(n=0):\n    return BOX and 1 / n  # of the cell\n"
    linecache.cache[name] = (len(source), None, source.splitlines(True), name)
    space = {"__name__": "__main__", "BOX": 1 if constant else [1]}
    exec(compile(source, name, "exec"), space)
    text = text_of(interp, space["fail"])
    assert f'File "{name}", line 2, in fail' in text
    assert "return BOX and 1 / n  # of the cell" in text


def test_a_traceback_shows_the_lines_of_a_script(interp):
    box = [1]

    def fail():
        return box and 1 / 0  # in this file

    text = text_of(interp, fail)
    assert __file__ in text
    assert "return box and 1 / 0  # in this file" in text


def test_a_traceback_shows_the_lines_of_minus_c():
    check_python(
        "import atoll, traceback\n"
        "def fail(): return 1 / 0  # of the line\n"
        "try: atoll.create().call(fail)\n"
        "except atoll.ExecutionFailed: text = traceback.format_exc()\n"
        "assert '# of the line' in text, text"
    )
