"""Interpreter: making, looking at, closing (PEP 734)."""

import _interpreters
import gc

import atoll
import pytest
import workers
from support import Task, open_interpreters, until


def test_create_and_close():
    interp = atoll.create()
    assert isinstance(interp, atoll.Interpreter)
    assert interp.id > 0
    assert interp.whence == "atoll"
    assert interp.name == ""
    assert not interp.is_running()
    assert interp in atoll.list_all()
    interp.close()
    assert interp not in atoll.list_all()
    assert interp.id not in open_interpreters()


def test_name():
    with atoll.create("worker é") as interp:
        assert interp.name == "worker é"
        assert repr(interp) == f"Interpreter({interp.id}, name='worker é')"
        interp.exec("import atoll; assert atoll.get_current().name == 'worker é'")
    with atoll.create() as interp:
        assert repr(interp) == f"Interpreter({interp.id})"
    with atoll.create(name="") as interp:
        assert interp.name == ""


@pytest.mark.parametrize("name", [1, b"x", ("a",)])
def test_name_must_be_a_str(name):
    with pytest.raises(TypeError, match="name"):
        atoll.create(name)


def test_name_with_a_nul_or_a_surrogate_is_refused():
    before = open_interpreters()
    for name in ("a\0b", "\ud800"):
        with pytest.raises((ValueError, UnicodeError)):
            atoll.create(name)
    assert open_interpreters() == before


def test_the_main_interpreter():
    main = atoll.get_main()
    assert main is atoll.get_current()
    assert main.id == 0
    assert main.whence == "runtime init"
    assert main.name == ""
    assert main.is_running()
    assert repr(main) == "Interpreter(0)"
    for call in (
        main.close,
        main.interrupt,
        lambda: main.exec("1"),
        lambda: main.call(print),
        lambda: main.prepare_main(x=1),
    ):
        with pytest.raises(atoll.InterpreterError, match="main interpreter"):
            call()


def test_list_all_is_in_order_of_creation():
    before = atoll.list_all()
    assert before[0] is atoll.get_main()
    made = [atoll.create() for _ in range(5)]
    assert atoll.list_all() == before + made
    made.pop(2).close()
    assert atoll.list_all() == before + made
    assert [i.id for i in made] == sorted(i.id for i in made)
    for interp in made:
        interp.close()
    assert atoll.list_all() == before


def test_list_all_elsewhere(interp):
    ids = interp.call(lambda: [i.id for i in atoll.list_all()])
    assert ids == [i.id for i in atoll.list_all()]
    whences = interp.call(lambda: [i.whence for i in atoll.list_all()])
    assert whences[0] == "runtime init"
    assert set(whences[1:]) == {"atoll"}


def test_identity_hash_eq(interp):
    assert atoll.Interpreter(interp.id) is interp
    assert hash(interp) == hash(interp.id)
    with atoll.create() as other:
        assert other != interp
        assert {interp: 1, other: 2}[atoll.Interpreter(other.id)] == 2
    assert interp != interp.id


def test_attributes_are_read_only(interp):
    for name in ("id", "name", "whence"):
        with pytest.raises(AttributeError):
            setattr(interp, name, 1)
    with pytest.raises(AttributeError):
        interp.other = 1


@pytest.mark.parametrize("id", ["1", 1.0, None, b"1"])
def test_id_must_be_an_int(id):
    with pytest.raises(TypeError):
        atoll.Interpreter(id)


def test_ids_that_do_not_exist():
    for id in (10**6, 2**62):
        with pytest.raises(atoll.InterpreterNotFoundError):
            atoll.Interpreter(id)
    with pytest.raises(ValueError):
        atoll.Interpreter(-1)
    with pytest.raises((OverflowError, atoll.InterpreterNotFoundError)):
        atoll.Interpreter(2**70)


def test_a_closed_interpreter():
    interp = atoll.create("gone")
    id = interp.id
    interp.close()
    for call in (
        interp.close,
        lambda: interp.close(timeout=1),
        interp.interrupt,
        interp.is_running,
        lambda: interp.exec("1"),
        lambda: interp.call(print),
        lambda: interp.prepare_main(x=1),
    ):
        with pytest.raises(atoll.InterpreterNotFoundError, match=str(id)):
            call()
    assert interp.id == id
    assert "gone" in repr(interp)
    assert hash(interp) == hash(id)
    assert issubclass(atoll.InterpreterNotFoundError, atoll.InterpreterError)


def test_looking_up_a_closed_interpreter():
    """Also while the old object is still there."""
    interp = atoll.create()
    id = interp.id
    interp.close()
    with pytest.raises(atoll.InterpreterNotFoundError):
        atoll.Interpreter(id)
    del interp
    with pytest.raises(atoll.InterpreterNotFoundError):
        atoll.Interpreter(id)


def test_context_manager():
    with atoll.create() as interp:
        interp.exec("x = 1")
    with pytest.raises(atoll.InterpreterNotFoundError):
        interp.is_running()
    with pytest.raises(ZeroDivisionError), atoll.create() as interp:
        1 / 0
    with pytest.raises(atoll.InterpreterNotFoundError):
        interp.is_running()
    with atoll.create() as interp:
        interp.close()  # closing it in the block is fine


def test_is_running(queue, interp):
    ready = atoll.create_queue()
    assert interp.is_running() is False
    task = Task(interp.call, workers.get_for_ever, ready, queue)
    ready.get()
    assert interp.is_running() is True
    queue.put("done")
    assert task.result() == "done"
    assert interp.is_running() is False
    assert interp.call(lambda: atoll.get_current().is_running()) is True


def test_one_thing_at_a_time(queue, interp):
    ready = atoll.create_queue()
    task = Task(interp.call, workers.get_for_ever, ready, queue)
    ready.get()
    for call in (
        lambda: interp.exec("1"),
        lambda: interp.call(workers.give),
        lambda: interp.prepare_main(x=1),
        interp.close,
        lambda: interp.close(timeout=0),
    ):
        with pytest.raises(atoll.InterpreterError, match="running"):
            call()
    queue.put(None)
    task.result()
    interp.exec("1")


def test_dropping_the_last_handle_closes():
    interp = atoll.create()
    id = interp.id
    interp.exec("x = 1")
    del interp
    gc.collect()
    until(lambda: id not in open_interpreters())
    with pytest.raises(atoll.InterpreterNotFoundError):
        atoll.Interpreter(id)


def test_a_handle_elsewhere_keeps_it(interp):
    inner = atoll.create()
    id = inner.id
    interp.prepare_main(inner=inner)
    del inner
    gc.collect()
    atoll.Interpreter(id).exec("assert True")
    interp.exec("inner.exec('x = 1')")
    interp.exec("del inner")
    gc.collect()
    until(lambda: id not in open_interpreters())


def test_dropping_the_handle_of_a_running_one(queue):
    """It ends its work first."""
    interp = atoll.create()
    id = interp.id
    ready, out = atoll.create_queue(), atoll.create_queue()
    interp.prepare_main(ready=ready, queue=queue, out=out)
    # The job's own thread keeps the handle: drop that as well, by a timeout.
    interp.exec(
        "import threading\n"
        "def work():\n"
        "    ready.put(None)\n"
        "    out.put(queue.get())\n"
        "threading.Thread(target=work).start()"
    )
    ready.get()
    del interp
    gc.collect()
    assert id in open_interpreters()
    queue.put("finished")
    assert out.get() == "finished"
    until(lambda: id not in open_interpreters())


def test_prepare_main(interp):
    interp.prepare_main({"a": 1, "b": [2]})
    interp.prepare_main(c="three", a=4)
    interp.prepare_main({"d": 5}, e=6)
    interp.prepare_main([("f", 7)])
    interp.exec("assert (a, b, c, d, e, f) == (4, [2], 'three', 5, 6, 7)")


def test_prepare_main_errors(interp):
    interp.prepare_main(old=1)
    for args, kwargs, error in (
        ((), {}, ValueError),
        (({},), {}, ValueError),
        (({1: 2},), {}, TypeError),
        ((5,), {}, TypeError),
        (({"x": 1, "bad": (n for n in ())},), {}, atoll.NotShareableError),
    ):
        with pytest.raises(error):
            interp.prepare_main(*args, **kwargs)
    interp.exec("assert old == 1 and 'x' not in globals()")


def test_call_in_thread(queue, interp):
    interp.prepare_main(x=1)
    thread = interp.call_in_thread(workers.produce, queue, "name", count=3)
    thread.join()
    assert [queue.get() for _ in range(3)] == [("name", n) for n in range(3)]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_call_in_thread_that_fails(interp):
    import threading

    caught = []
    hook, threading.excepthook = threading.excepthook, caught.append
    try:
        interp.call_in_thread(workers.fail, 3, "text").join()
    finally:
        threading.excepthook = hook
    assert caught[0].exc_type is atoll.ExecutionFailed
    caught.clear()


def test_calls_in_a_circle(interp):
    """Errors, and no deadlock."""
    with atoll.create() as other:
        for who in (interp, other):
            who.prepare_main(a=interp, b=other, main=atoll.get_main())
            who.exec("import atoll")
        with pytest.raises(atoll.ExecutionFailed, match="running"):
            interp.exec("a.exec('1')")  # itself
        with pytest.raises(atoll.ExecutionFailed, match="running"):
            interp.exec("b.exec('a.exec(\"1\")')")  # A, B, A
        with pytest.raises(atoll.ExecutionFailed, match="main interpreter"):
            interp.exec("main.exec('1')")
        with pytest.raises(atoll.ExecutionFailed, match="running"):
            interp.exec("b.exec('a.close()')")
        with pytest.raises(atoll.ExecutionFailed, match="running at the timeout"):
            interp.exec("b.exec('a.close(timeout=0.05)')")
        interp.exec(
            "try: b.call(a.exec, '1')\n"
            "except atoll.ExecutionFailed as exc:\n"
            "    assert exc.excinfo.type.__name__ == 'InterpreterError', exc\n"
            "else: raise AssertionError"
        )
        interp.exec("assert b.call(lambda: 5) == 5")


# ----------------------------------------------------------- not made by atoll


def test_a_foreign_interpreter():
    id = _interpreters.create()
    try:
        interp = atoll.Interpreter(id)
        assert interp.whence == "_interpreters module"
        assert interp in atoll.list_all()
        assert not interp.is_running()
        for call in (
            interp.close,
            interp.interrupt,
            lambda: interp.exec("1"),
            lambda: interp.call(print),
            lambda: interp.prepare_main(x=1),
        ):
            with pytest.raises(atoll.InterpreterError, match="atoll did not make it"):
                call()
    finally:
        _interpreters.destroy(id)
    with pytest.raises(atoll.InterpreterNotFoundError):
        interp.exec("1")
    with pytest.raises(atoll.InterpreterNotFoundError):
        interp.is_running()


def test_the_standard_library_can_use_ours(interp):
    _interpreters.exec(interp.id, "seen = True")
    interp.exec("assert seen")
