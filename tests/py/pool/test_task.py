"""Task, spawn, TaskGroup, Interpreter.submit."""

import threading
import time
import warnings

import atoll
import pytest
import tasks
from support import SLACK, count_threads, open_interpreters, parked, run_python, until


def test_spawn():
    task = atoll.spawn(tasks.add, 1, b=2)
    assert isinstance(task, atoll.Task) and isinstance(task, atoll.Future)
    assert task.result(SLACK) == 3
    task.join(SLACK)
    assert not task.is_alive() and task.done()
    with pytest.raises(ValueError, match="no"):
        atoll.spawn(tasks.fail).result(SLACK)
    ids = {atoll.spawn(tasks.who).result(SLACK) for _ in range(3)}
    assert len(ids) == 3


def test_the_names_of_threads():
    ready, go = atoll.create_queue(), atoll.create_queue()
    task = atoll.Task(tasks.wait_for, (go,), {"ready": ready}, name="Bob", preload=["colorsys"])
    assert (task.name, task.is_alive(), task.done()) == ("Bob", False, False)
    with pytest.raises(RuntimeError, match="not been started"):
        task.join()
    assert task.start() is task
    with pytest.raises(RuntimeError, match="once only"):
        task.start()
    ready.get(timeout=SLACK)
    assert task.is_alive() and task.running()
    assert "Bob" in [i.name for i in atoll.list_all()]
    task.join(0.01)
    assert task.is_alive()
    go.put([1])
    task.join()
    assert not task.is_alive()
    assert task.result() == [1]
    assert repr(task).startswith("<Task 'Bob' at ")
    assert atoll.spawn(tasks.who).name.startswith("Task-")


def test_bad_arguments():
    with pytest.raises(TypeError):
        atoll.spawn(5)
    with pytest.raises(TypeError):
        atoll.Task(tasks.square, name=3)
    with pytest.raises(ValueError):
        atoll.Task(tasks.square, extensions="x")
    task = atoll.Task(tasks.add, ((i for i in ()),))
    with pytest.raises(atoll.NotShareableError):
        task.start()
    del task
    assert not open_interpreters()


def test_cancelling():
    ready = atoll.create_queue()
    task = atoll.spawn(tasks.spin, ready)
    ready.get(timeout=SLACK)
    assert task.cancel() and task.cancelled()
    task.join(SLACK)
    assert not task.is_alive()
    # Before its interpreter is there.
    for _ in range(5):
        task = atoll.spawn(tasks.spin)
        assert task.cancel()
        task.join(SLACK)
        assert not task.is_alive()
    late = atoll.Task(tasks.spin, timeout=0.1).start()
    assert isinstance(late.exception(SLACK), TimeoutError)


def test_dropped_tasks_go_on():
    out = atoll.create_queue()
    for n in range(5):
        atoll.spawn(tasks.append, out, n)
    assert sorted(out.get(timeout=SLACK) for _ in range(5)) == list(range(5))


def test_an_interpreter_that_cannot_be_made_says_so():
    task = atoll.Task(tasks.square, (1,), preload=["no_such_module"]).start()
    with pytest.raises(atoll.BrokenInterpreterPool, match="no_such_module"):
        task.result(SLACK)


def test_a_network_of_tasks():
    """CSP: a pipeline of three processes over channels."""

    def double(source, sink):
        with sink:
            for item in source:
                sink.send(2 * item)

    first, into = atoll.create_channel()
    last, out = atoll.create_channel()
    one = atoll.spawn(double, first, out)
    del first, out
    sender = parked(lambda: [into.send(n) for n in range(100)] and into.close())
    assert list(last) == [2 * n for n in range(100)]
    sender.result()
    one.result(SLACK)


# ---------------------------------------------------------- Interpreter.submit


def test_submit_to_an_interpreter(interp):
    queued = [interp.submit(tasks.square, n) for n in range(50)]
    assert [t.result(SLACK) for t in queued] == [n * n for n in range(50)]
    assert interp.submit(tasks.who).result() == interp.id
    assert interp.call(tasks.square, 3) == 9
    named = atoll.create("Ann")
    assert named.submit(tasks.square, 1).name == "Ann"
    named.close(SLACK)


def test_submitted_tasks_wait_their_turn(interp):
    ready, go = atoll.create_queue(), atoll.create_queue()
    other = parked(interp.call, tasks.wait_for, go, ready)
    ready.get(timeout=SLACK)
    task = interp.submit(tasks.square, 3)
    assert not task.done() and not task.running()
    go.put(None)
    other.result()
    assert task.result(SLACK) == 9
    first = interp.submit(tasks.spin, ready)
    second = interp.submit(tasks.square, 4)
    ready.get(timeout=SLACK)
    with pytest.raises(atoll.InterpreterError, match="running"):
        interp.call(tasks.square, 1)
    with pytest.raises(atoll.InterpreterError):
        interp.close()
    first.cancel()
    assert second.result(SLACK) == 16


def test_tasks_of_an_interpreter_that_closes():
    for _ in range(30):
        interp = atoll.create()
        queued = [interp.submit(tasks.square, n) for n in range(10)]
        interp.close(SLACK)
        ended = [t.exception(SLACK) for t in queued]
        assert all(e is None or isinstance(e, atoll.InterpreterNotFoundError) for e in ended)
        with pytest.raises(atoll.InterpreterNotFoundError):
            interp.submit(tasks.square, 1)


def test_an_interpreter_with_tasks_lives_until_they_are_done():
    out = atoll.create_queue()
    atoll.create().submit(tasks.append, out, 5)
    assert out.get(timeout=SLACK) == 5
    until(lambda: not open_interpreters())


# ------------------------------------------------------------------ TaskGroup


def test_a_group_waits():
    out = atoll.create_queue()
    with atoll.TaskGroup() as group:
        made = [group.spawn(tasks.append, out, n) for n in range(4)]
    assert all(t.done() and not t.is_alive() for t in made)
    assert out.qsize() == 4
    assert not open_interpreters()


def test_the_first_failure_cancels_the_rest():
    ready = atoll.create_queue()
    with pytest.raises(ExceptionGroup) as info:
        with atoll.TaskGroup() as group:
            busy = [group.spawn(tasks.spin, ready) for _ in range(2)]
            for _ in busy:
                ready.get(timeout=SLACK)
            group.spawn(tasks.fail, "one")
    assert [str(e) for e in info.value.exceptions] == ["one"]
    assert all(t.cancelled() for t in busy)
    assert not open_interpreters()


def test_all_errors_are_in_the_group():
    go, ready = atoll.create_queue(), atoll.create_queue()

    def fail_together(text):
        ready.put(None)
        try:
            go.get()
        finally:
            raise KeyError(text)

    with pytest.raises(ExceptionGroup) as info:
        with atoll.TaskGroup() as group:
            group.spawn(fail_together, "a")
            ready.get(timeout=SLACK)
            group.spawn(tasks.square, 2)
            raise OSError("of the block")
    assert {type(e) for e in info.value.exceptions} <= {OSError, KeyError}
    assert "of the block" in str(info.value.exceptions[0])


def test_an_interrupt_in_the_block_comes_out_as_it_is():
    ready = atoll.create_queue()
    with pytest.raises(KeyboardInterrupt):
        with atoll.TaskGroup() as group:
            task = group.spawn(tasks.spin, ready)
            ready.get(timeout=SLACK)
            raise KeyboardInterrupt
    assert task.cancelled() and not task.is_alive()


def test_a_group_leaves_what_does_not_stop():
    ready, stop = atoll.create_queue(), atoll.create_queue()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        begin = time.monotonic()
        with pytest.raises(ExceptionGroup):
            with atoll.TaskGroup() as group:
                task = group.start(atoll.Task(tasks.stubborn, (ready, stop), grace=0.2))
                ready.get(timeout=SLACK)
                raise ValueError
        assert time.monotonic() - begin < 5
    assert "did not stop within 0.2 s" in str(caught[0].message)
    assert task.is_alive()
    stop.put(None)
    until(lambda: not open_interpreters())


def test_a_group_is_used_once_and_open():
    group = atoll.TaskGroup()
    with pytest.raises(RuntimeError, match="not open"):
        group.spawn(tasks.square, 1)
    with group:
        pass
    with pytest.raises(RuntimeError, match="not open"):
        group.spawn(tasks.square, 1)
    with pytest.raises(RuntimeError, match="once"):
        with group:
            pass
    with pytest.raises(ExceptionGroup):
        with atoll.TaskGroup() as other:
            failing = other.spawn(tasks.fail)
            failing.exception(SLACK)
            until(lambda: other._aborting)
            with pytest.raises(RuntimeError, match="being cancelled"):
                other.spawn(tasks.square, 1)


# ----------------------------------------------------------- end of the program


def test_spawned_tasks_are_waited_for_at_exit():
    done = run_python("""
        import atoll, tasks, time
        atoll.spawn(print, "done")
        t = atoll.spawn(time.sleep, 0.5)
    """)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_threads_go_back_to_the_start():
    threads = count_threads()
    for _ in range(5):
        with atoll.TaskGroup() as group:
            for n in range(3):
                group.spawn(tasks.square, n)
    until(lambda: count_threads() <= threads)
    assert threading.active_count() <= threads
