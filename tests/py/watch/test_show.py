"""Which interpreter a tool takes for the program that sees only one: show_to_tools()."""

import _interpreters
import ctypes
import os
import subprocess
import sys
import threading

import atoll
import busy
import pytest
from support import Task, check_python, python_env, until


def first():
    """The first in CPython's list, which such a tool reads."""
    api = ctypes.pythonapi
    api.PyInterpreterState_Head.restype = ctypes.c_void_p
    api.PyInterpreterState_GetID.restype = ctypes.c_int64
    return api.PyInterpreterState_GetID(ctypes.c_void_p(api.PyInterpreterState_Head()))


def is_first(id):
    # While another thread makes an interpreter, a spare one say, that one is.
    until(lambda: first() == id)


@pytest.fixture(autouse=True)
def main_afterwards():
    yield
    atoll.show_to_tools(atoll.get_main())


def test_main_is_first(interp):
    is_first(0)
    with atoll.create(), atoll.create():
        is_first(0)
    is_first(0)


def test_another_one_is_shown(interp):
    with atoll.create() as other:
        atoll.show_to_tools(interp)
        is_first(interp.id)
        with atoll.create():
            is_first(interp.id)
        atoll.show_to_tools(other)
        is_first(other.id)
    is_first(0)


def test_main_is_shown_when_it_has_ended():
    with atoll.create() as one:
        atoll.show_to_tools(one)
        with atoll.create():
            one.close()
            is_first(0)
            with atoll.create():
                is_first(0)


def test_one_of_the_standard_library(interp):
    id = _interpreters.create()
    try:
        atoll.show_to_tools(atoll.Interpreter(id))
        is_first(id)
    finally:
        _interpreters.destroy(id)


def test_from_another_interpreter(interp):
    def show_me():
        atoll.show_to_tools(atoll.get_current())

    interp.call(show_me)
    is_first(interp.id)


def test_one_that_has_ended_cannot_be_shown(interp):
    with atoll.create() as gone:
        pass
    atoll.show_to_tools(interp)
    with pytest.raises(atoll.InterpreterNotFoundError):
        atoll.show_to_tools(gone)
    is_first(interp.id)


def test_the_list_is_in_order_of_creation(interp):
    with atoll.create() as one, atoll.create() as other:
        atoll.show_to_tools(other)
        found = [entry[0] for entry in _interpreters.list_all()]
        assert found == sorted(found) and found[0] == 0
        assert {interp.id, one.id, other.id} <= set(found)
        assert _interpreters.list_all(require_ready=True) == _interpreters.list_all()
        assert interp.call(_interpreters.list_all) == _interpreters.list_all()
    with pytest.raises(TypeError):
        _interpreters.list_all(True)


def test_the_list_while_interpreters_come_and_go():
    over = threading.Event()

    def look():
        while not over.is_set():
            found = [entry[0] for entry in _interpreters.list_all()]
            assert found[0] == 0 and found == sorted(set(found))

    task = Task(look)
    for _ in range(6):
        with atoll.create() as interp:
            atoll.show_to_tools(interp)
            atoll.show_to_tools(atoll.get_main())
    over.set()
    task.result()


def test_fork_with_another_one_shown():
    check_python(
        """
        import atoll, os
        with atoll.create() as interp:
            atoll.show_to_tools(interp)
            child = os.fork()
            if child == 0:
                with atoll.create() as mine:
                    assert [i.id for i in atoll.list_all()] == [0, mine.id]
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
        """,
        options=("-W", "ignore::DeprecationWarning"),
    )


remote = pytest.mark.skipif(
    not hasattr(sys, "remote_exec"), reason="sys.remote_exec is new in Python 3.14"
)


def check_allowed(done):
    if "PermissionError" in done.stderr or "Operation not permitted" in done.stderr:
        pytest.skip("this system does not let one process look into another")


@remote
@pytest.mark.parametrize("name", busy.FUNCTIONS)
def test_pdb_attaches_to_a_worker(name):
    with busy.running(shown=name, env=python_env()) as child:
        done = subprocess.run(
            [sys.executable, "-m", "pdb", "-p", str(child.pid)],
            input="w\nq\n",
            capture_output=True,
            text=True,
            timeout=60,
            env=python_env(),
        )
        check_allowed(done)
        assert f"{name}()" in done.stdout, done
        (other,) = set(busy.FUNCTIONS) - {name}
        assert f"{other}()" not in done.stdout


@remote
def test_remote_exec_goes_to_main_or_who_is_shown(tmp_path, interp):
    script = tmp_path / "script.py"
    script.write_text(
        f"import _interpreters; open({str(tmp_path)!r} + '/' +"
        " str(_interpreters.get_current()[0]), 'w').close()"
    )
    started, over = atoll.Event(), atoll.Event()

    def work():
        started.set()
        while not over.is_set() and not os.path.exists(f"{tmp_path}/{interp.id}"):
            pass

    task = threading.Thread(target=interp.call, args=(work,))
    task.start()
    started.wait()
    sys.remote_exec(os.getpid(), str(script))
    until(lambda: os.path.exists(tmp_path / "0"))
    atoll.show_to_tools(interp)
    sys.remote_exec(os.getpid(), str(script))
    task.join(60)
    over.set()
    assert os.path.exists(tmp_path / str(interp.id))
