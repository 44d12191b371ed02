"""exec and call: what can be run, where its code comes from, what it returns."""

import functools
import sys
import textwrap

import atoll
import pytest
import workers
from support import check_python, run_python

CONSTANT = 41


def test_exec_str(interp):
    interp.exec("x = 1\ny = x + 1")
    interp.exec("assert (x, y) == (1, 2)")
    interp.exec("")
    interp.exec("# nothing")


def test_exec_bytes(interp):
    interp.exec("s = 'ä€😀'".encode())
    interp.exec("assert len(s) == 3")
    interp.exec(bytearray(b"x = 1"))


def test_exec_returns_none(interp):
    assert interp.exec("1 + 1") is None


def test_exec_runs_in_main(interp):
    interp.exec("assert __name__ == '__main__'")
    interp.exec("import __main__; __main__.seen = True")
    interp.exec("assert seen")


def test_exec_function(interp):
    def body():
        import sys

        global found
        found = sys.version_info
        helper = [n for n in range(3)]
        assert helper == [0, 1, 2]

    interp.exec(body)
    interp.exec("assert found >= (3, 13)")
    interp.exec(body.__code__)


def test_exec_function_that_cannot(interp):
    free = 1

    def closure():
        return free

    for bad in (
        lambda x: x,
        lambda *args: args,
        lambda **kwargs: kwargs,
        lambda *, x=1: x,
        closure,
        workers.Point.__init__,
    ):
        with pytest.raises(ValueError, match="must not"):
            interp.exec(bad)


@pytest.mark.parametrize("source", [1, None, [], object(), len])
def test_exec_something_else(interp, source):
    with pytest.raises(TypeError):
        interp.exec(source)
    with pytest.raises(TypeError):
        interp.exec()
    with pytest.raises(TypeError):
        interp.exec("1", "2")


def test_exec_of_odd_text(interp):
    with pytest.raises(ValueError, match="null"):
        interp.exec("a\0b")
    with pytest.raises((UnicodeError, atoll.ExecutionFailed)):
        interp.exec("'\ud800'")
    with pytest.raises(UnicodeDecodeError):
        interp.exec(b"'\xff'")
    interp.exec("from __future__ import annotations\nx: undefined = 1")
    interp.exec("y = 1 # no future left over\n")


def test_call_arguments_and_result(interp):
    assert interp.call(workers.give) is None
    assert interp.call(workers.give, 5) == 5
    assert interp.call(workers.give, value=[1, {"x": 2}]) == [1, {"x": 2}]
    assert interp.call(divmod, 7, 2) == (3, 1)
    assert interp.call("{} {x}".format, 1, x=2) == "1 2"
    assert interp.call(functools.partial(pow, 2), 5) == 32
    assert interp.call(workers.Point, 1, y=2) == workers.Point(1, 2)
    assert interp.call(workers.Point(1, 2).__repr__) == "Point(x=1, y=2)"


def test_call_keywords_named_like_ours(interp):
    def show(**kwargs):
        return kwargs

    names = {"callable": 1, "self": 2, "args": 3, "kwargs": 4, "timeout": 5}
    assert interp.call(show, **names) == names


def test_call_copies(interp):
    mine = [1]
    got = interp.call(workers.give, mine)
    assert got == mine
    assert got is not mine


def test_call_runs_there(interp):
    assert interp.call(workers.where) == interp.id
    assert interp.call(lambda: atoll.get_current().id) == interp.id


def test_call_lambdas_and_closures(interp):
    n = 5
    assert interp.call(lambda x: x + n, 1) == 6
    assert interp.call(lambda: CONSTANT + n) == 46

    def outer(count):
        return count + sum(inner(i) for i in range(count))

    def inner(i):
        return i * n

    assert interp.call(outer, 4) == 4 + 30

    class Local:
        def __init__(self, x):
            self.x = x

        def __eq__(self, other):
            return self.x == other.x

        __hash__ = None

    assert interp.call(lambda o: o.x, Local(3)) == 3


def test_call_what_cannot_cross(interp):
    generator = (n for n in ())
    with pytest.raises(atoll.NotShareableError):
        interp.call(workers.give, generator)
    with pytest.raises(atoll.NotShareableError):
        interp.call(workers.give, value=generator)
    with pytest.raises(atoll.NotShareableError, match="result"):
        interp.call(lambda: (n for n in ()))
    assert interp.call(workers.give, 1) == 1


def test_call_something_else(interp):
    with pytest.raises(TypeError):
        interp.call()
    for bad in (5, None, "print", (n for n in ())):
        with pytest.raises(TypeError, match="callable"):
            interp.call(bad)
    with pytest.raises(atoll.ExecutionFailed, match="argument"):
        interp.call(workers.give, 1, 2)


@pytest.mark.skipif(
    sys.version_info < (3, 14),
    reason="only since 3.14 do CPython's eval and dir fall back to __main__",
)
def test_call_what_looks_at_its_frame(interp):
    """Built-ins that look for the caller's globals find those of __main__."""
    interp.exec("x = 5")
    assert interp.call(eval, "x + 1") == 6
    interp.call(exec, "y = x * 2")
    assert interp.call(eval, "y", {"y": 7}) == 7
    assert {"x", "y"} <= set(interp.call(dir))
    assert interp.call(eval, "globals()['y']") == 10


SCRIPT = """
import atoll
from dataclasses import dataclass

K = 10

@dataclass
class Mine:
    x: int

def helper(x):
    return x + K

def work(x):
    return helper(x), Mine(x)

def fail():
    raise LookupError("from the script")

def body():
    import sys
    assert "work" not in globals()
    global ran
    ran = True
"""

USE = """
with atoll.create() as interp:
    got = interp.call(work, 1)
    assert got[0] == 11, got
    assert type(got[1]) is Mine and got[1] == Mine(1), got
    assert interp.call(lambda x: helper(x), 2) == 12
    assert interp.call(lambda m: m.x, Mine(7)) == 7
    interp.exec(body)
    interp.exec("assert ran")
    try:
        interp.call(fail)
    except atoll.ExecutionFailed as exc:
        assert "from the script" in str(exc)
    else:
        raise SystemExit("no error")
    queue = atoll.create_queue()
    queue.put(Mine(3))
    assert type(queue.get()) is Mine
print("done")
"""


@pytest.mark.parametrize("guard", [True, False])
def test_functions_of_a_script(tmp_path, guard):
    """With or without a main guard: the script is not run a second time."""
    use = f"if __name__ == '__main__':\n{textwrap.indent(USE, '    ')}" if guard else USE
    path = tmp_path / "script.py"
    assert check_python(SCRIPT + use, path=path) == "done"


def test_functions_of_dash_c():
    assert check_python(SCRIPT + USE) == "done"


def test_functions_of_dash_m(tmp_path):
    import subprocess

    from support import python_args, python_env

    (tmp_path / "mod.py").write_text(SCRIPT + USE)
    done = subprocess.run(
        python_args("-m", "mod"), cwd=tmp_path, env=python_env(), text=True,
        capture_output=True, timeout=30, check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_functions_of_stdin():
    assert check_python("exec(open(0).read())", input=SCRIPT + USE) == "done"


def test_a_module_beside_the_script(tmp_path):
    """The interpreter has the sys.path of its maker."""
    (tmp_path / "beside.py").write_text("def f(x):\n    return x * 2\n")
    out = check_python(
        """
        import atoll, beside
        with atoll.create() as interp:
            print(interp.call(beside.f, 21))
            interp.exec("import beside, sys; assert beside.f(1) == 2")
        """,
        path=tmp_path / "script.py",
    )
    assert out == "42"


def test_sys_path_is_copied(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path / "ä"))
    with atoll.create() as interp:
        interp.exec(f"import sys; assert sys.path[0] == {str(tmp_path / 'ä')!r}")
        interp.exec("sys.path.append('only there')")
        import sys

        assert "only there" not in sys.path
        assert interp.call(lambda: sys.path)[:-1] == sys.path


def test_output_of_an_interpreter():
    done = run_python(
        """
        import atoll
        with atoll.create() as interp:
            interp.exec("print('out', flush=True)")
            interp.exec("import sys; print('err', file=sys.stderr)")
            interp.exec("print('at the end')")
        """
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "out\nat the end\n", "err\n")


# ----------------------------------------------- what looks at the frame of its caller


def test_what_looks_at_its_callers_frame_finds_main(interp):
    """Called from nowhere they would find none, and raise."""
    import functools
    import sys

    interp.exec("x = 20")
    assert interp.call(eval, "x + 1") == 21
    assert interp.call(functools.partial(eval, "x + 2")) == 22
    interp.call(exec, "y = x * 2")
    assert interp.call(eval, "y") == 40
    assert {"x", "y"} <= set(interp.call(dir))
    assert interp.call(eval, "(lambda: __name__)()") == "__main__"
    assert interp.call(eval, "globals() is locals() is vars()") is True
    names = interp.call(eval, "sorted(k for k in globals() if not k.startswith('__'))")
    assert names == ["x", "y"]
    assert interp.call(sys._getframemodulename) == "__main__"
    with pytest.raises(atoll.ExecutionFailed) as info:
        interp.call(eval, "1 / 0")
    display = info.value.excinfo.errdisplay
    assert "<string>" in display and "<call>" not in display
    for function in eval, exec:
        with pytest.raises(atoll.ExecutionFailed) as info:
            interp.call(function)
        assert info.value.excinfo.type.__name__ == "TypeError"
        assert "<call>" not in info.value.excinfo.errdisplay


def test_the_class_that_type_makes_is_of_main(interp):
    interp.exec("def seen(cls): global module; module = cls.__module__")
    interp.exec("class Meta(type):\n    def __init__(self, *a): seen(self)")
    interp.call(eval, "Meta('C', (), {})")
    assert interp.call(eval, "module") == "__main__"


def test_tasks_find_main_as_well(interp):
    with atoll.InterpreterPoolExecutor(1) as pool:
        pool.submit(exec, "x = 3").result(10)
        assert pool.submit(eval, "x").result(10) == 3
        assert "x" in pool.submit(dir).result(10)
