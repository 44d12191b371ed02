"""dump(): what everybody does."""

import io
import os
import re
import signal
import threading
import time

import atoll
import deadlocks
import pytest
import tasks
from support import SLACK, STRESS, Task, check_python, parked, until


def section(text, start):
    """The lines of an interpreter."""
    part = text.split(f"\n\n{start}", 1)[1]
    return part.split("\n\n", 1)[0]


def test_a_task_that_waits():
    recv, send = atoll.create_channel()
    task = atoll.Task(deadlocks.receive, (recv,), name="waiter").start()
    text = until(lambda: t if "waits for recv" in (t := atoll.dump()) else None)
    assert text.startswith(f"atoll: process {os.getpid()}: ")
    there = re.search(r"interpreter (\d+) 'waiter': running a task of pool 'waiter'", text)
    assert there, text
    lines = section(text, there[0])
    assert f"waits for recv on channel {recv.id}, since " in lines and "for ever" in lines
    assert "deadlocks.py" in lines and "in receive" in lines
    assert re.search(rf"channel {recv.id}: 0 of 0, 1 waiting to receive; "
                     rf"senders: interpreters 0; receivers: interpreters 0, {there[1]}",
                     text), text
    send.send(1)
    assert task.result(SLACK) == 1


def test_threads_of_main(queue):
    waiter = parked(queue.get, timeout=SLACK)
    text = atoll.dump()
    main = section(text, "interpreter 0 (main)")
    assert re.search(rf"waits for get from queue {queue.id}, since .*for \d+\.\d s more", main)
    assert "(this dump)" in main and "in test_threads_of_main" in main
    assert waiter.name in main
    queue.put(1)
    waiter.result()


def test_a_pool_and_what_is_queued():
    ready = atoll.create_queue()
    with atoll.InterpreterPoolExecutor(1) as pool:
        pool.submit(tasks.wait_for, ready).add_done_callback(print)
        pool.submit(tasks.square, 2)
        text = until(
            lambda: t if "get from queue" in (t := atoll.dump()) else None
        )
        assert re.search(r"pool '.*': 1 queued, 1 running, 1 place\n", text), text
        assert re.search(r"interpreter \d+: runs a task for \d", text)
        ready.put(1)


def test_one_that_computes():
    ready = atoll.create_queue()
    task = atoll.spawn(tasks.spin, ready)
    id = ready.get(timeout=SLACK)
    assert "in spin" in section(atoll.dump(), f"interpreter {id} ")
    task.cancel()
    task.join()


def test_one_that_keeps_its_gil():
    ready, stop = atoll.create_queue(), atoll.create_queue()
    task = atoll.spawn(compute_in_c, ready)
    id = ready.get(timeout=SLACK)
    begin = time.monotonic()
    text = until(lambda: t if "holds its GIL" in (t := atoll.dump()) else None)
    assert time.monotonic() - begin < SLACK
    assert "holds its GIL: no stack" in section(text, f"interpreter {id} ")
    assert task.result(60) == 1
    del stop


def compute_in_c(ready):
    ready.put(atoll.get_current().id)
    pow(3, 9_000_000)
    return 1


def test_without_stacks():
    text = atoll.dump(stacks=False)
    assert "File" not in text and "interpreter 0 (main)" in text


def test_into_a_file():
    file = io.StringIO()
    assert atoll.dump(file) is None
    assert file.getvalue().startswith("atoll: process ")


def test_from_inside(interp):
    text = interp.call(atoll.dump)
    here = section(text, f"interpreter {interp.id}: running")
    assert "(this dump)" in here
    assert "waits for what interpreter" in section(text, "interpreter 0 (main)")


def test_an_interpreter_of_the_standard_library():
    _interpreters = pytest.importorskip("_interpreters")
    id = _interpreters.create("isolated", reqrefs=False)
    try:
        assert f"interpreter {id}: it has not imported atoll" in atoll.dump()
        _interpreters.exec(id, "import atoll")
        text = atoll.dump()
        assert f"\ninterpreter {id}" in text and "has not imported atoll" not in text
    finally:
        _interpreters.destroy(id)


def test_while_interpreters_come_and_go():
    stop = threading.Event()

    def churn():
        while not stop.is_set():
            with atoll.create() as interp:
                interp.call(tasks.square, 2)
            atoll.spawn(tasks.square, 3).result(SLACK)

    churners = [Task(churn) for _ in range(3)]
    try:
        for _ in range(40 * STRESS):
            assert "interpreter 0 (main)" in atoll.dump()
    finally:
        stop.set()
        for churner in churners:
            churner.result(60)


def test_from_many_threads_at_once():
    with atoll.create() as one, atoll.create() as two:
        dumps = [Task(atoll.dump) for _ in range(4)]
        dumps += [Task(interp.call, atoll.dump) for interp in (one, two)]
        for each in dumps:
            assert "interpreter 0 (main)" in each.result(60)


def test_in_a_forked_child():
    out = check_python("""
        import atoll, os
        with atoll.create() as interp:
            queue = atoll.create_queue()
            child = os.fork()
            if child == 0:
                text = atoll.dump()
                os._exit(0 if text.count("interpreter ") == 1 and "in <module>" in text
                         else 1)
            print(os.waitpid(child, 0)[1])
    """, options=["-W", "ignore"])
    assert out == "0"


def test_at_exit():
    """An interpreter that has been looked into closes; so does one that keeps its GIL."""
    out = check_python("""
        import atoll, atexit
        task = atoll.spawn(pow, 3, 3_000_000)
        interp = atoll.create()
        atexit.register(lambda: print("interpreter 0 (main)" in atoll.dump()))
        print("interpreter 0 (main)" in atoll.dump())
    """, timeout=60)
    assert out == "True\nTrue"


def test_on_a_signal():
    out = check_python("""
        import atoll, os, signal, threading
        recv, send = atoll.create_channel()
        read, write = os.pipe()
        atoll.dump_on_signal(signal.SIGUSR2, open(write, "w"))
        def ask():
            while "waits for recv" not in atoll.dump():
                pass
            os.kill(os.getpid(), signal.SIGUSR2)
            text = b""
            while b"senders:" not in text:
                text += os.read(read, 65536)
            send.send(text)
        thread = threading.Thread(target=ask)
        thread.start()
        text = recv.recv()
        thread.join()
        print(b"interpreter 0 (main)" in text, b"waits for recv" in text)
    """)
    assert out == "True True"


def test_on_sigusr1_to_stderr():
    code = """
        import atoll, os, signal
        atoll.dump_on_signal()
        os.kill(os.getpid(), signal.SIGUSR1)
    """
    from support import run_python

    done = run_python(code)
    assert done.returncode == 0 and done.stderr.startswith("atoll: process "), done


def test_on_a_signal_elsewhere(interp):
    with pytest.raises(atoll.ExecutionFailed, match="main interpreter"):
        interp.call(atoll.dump_on_signal, int(signal.SIGUSR1))
