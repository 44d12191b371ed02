"""Interpreter.interrupt(): what it stops, and what it must not."""

import random
import time

import atoll
import pytest
import workers
from support import STRESS, Task, until


def start(interp, function, *args):
    """Run workers.<function>(ready, *args) there; return when it runs."""
    ready = atoll.create_queue()
    task = Task(interp.call, function, ready, *args)
    ready.get(timeout=10)
    return task


def assert_interrupted(task):
    with pytest.raises(atoll.ExecutionFailed) as info:
        task.result()
    assert info.value.excinfo.type.__name__ == "KeyboardInterrupt"
    assert isinstance(info.value.__cause__, KeyboardInterrupt)


def test_idle(interp):
    assert interp.interrupt() is False
    interp.exec("x = 1")
    assert interp.interrupt() is False
    interp.exec("assert x == 1")


def test_a_loop(interp):
    task = start(interp, workers.loop_for_ever)
    begin = time.monotonic()
    assert interp.interrupt() is True
    assert_interrupted(task)
    assert time.monotonic() - begin < 5
    assert not interp.is_running()
    assert interp.interrupt() is False
    interp.exec("x = 1")


def test_a_loop_with_another_thread_in_there(interp):
    interp.exec(
        "import threading, time\n"
        "stop = False\n"
        "end = time.monotonic() + 30\n"
        "def spin():\n"
        "    while not stop and time.monotonic() < end: pass\n"
        "thread = threading.Thread(target=spin)\n"
        "thread.start()"
    )
    for _ in range(5):
        task = start(interp, workers.loop_for_ever)
        interp.interrupt()
        assert_interrupted(task)
    interp.exec("assert thread.is_alive(); stop = True; thread.join()")


def blocked_in(kind):
    queue = atoll.create_queue(1)
    recv, send = atoll.create_channel()
    keep = (queue, recv, send)
    return {
        "get": lambda: queue.get(),
        "get with a timeout": lambda: queue.get(timeout=60),
        "put": lambda: (queue.put(1), queue.put(2)),
        "recv": lambda: recv.recv(),
        "iteration": lambda: list(recv),
        "send": lambda: send.send(1),
        "exec": lambda: atoll.create().exec("while True: pass"),
        "a call that waits": lambda: atoll.create().call(queue.get),
    }[kind], keep


def ready_and(ready, wait):
    ready.put(None)
    wait()


@pytest.mark.parametrize(
    "kind",
    ["get", "get with a timeout", "put", "recv", "iteration", "send", "exec",
     "a call that waits"],
)  # fmt: skip
def test_blocked_in(interp, kind):
    wait, keep = blocked_in(kind)
    ready = atoll.create_queue()
    parks = atoll.stats()["parks"]
    task = Task(interp.call, ready_and, ready, wait)
    # Both the caller and the called are asleep.
    until(lambda: not ready.empty() and atoll.stats()["parks"] >= parks + 2)
    begin = time.monotonic()
    assert interp.interrupt()
    assert_interrupted(task)
    assert time.monotonic() - begin < 5
    interp.exec("x = 1")
    # Its place in the line is given up: nobody takes what comes now.
    queue, recv, send = keep
    if kind.startswith("get"):
        queue.put(1)
        assert queue.qsize() == 1
    if kind == "put":
        assert queue.get() == 1
        assert queue.empty()
    if kind == "send":
        assert recv.recv_nowait(None) is None


def test_it_can_be_caught(interp):
    ready = atoll.create_queue()

    def stubborn(ready):
        caught = 0
        while caught < 3:
            try:
                ready.put(None)
                while True:
                    pass
            except KeyboardInterrupt:
                caught += 1
        return caught

    task = Task(interp.call, stubborn, ready)
    for _ in range(3):
        ready.get(timeout=10)
        assert interp.interrupt()
    assert task.result() == 3


def test_from_within(interp):
    interp.exec(
        "import atoll\n"
        "try:\n"
        "    atoll.get_current().interrupt()\n"
        "    while True: pass\n"
        "except KeyboardInterrupt:\n"
        "    caught = True"
    )
    interp.exec("assert caught")


@pytest.mark.parametrize("where", ["enter", "exit", "asyncio", "importlib", "del", "no module",
                                   "finalize"])  # fmt: skip
def test_not_where_it_would_break_more_than_the_job(interp, where, capfd):
    """In __enter__, __exit__, the code of asyncio and of the importer, and in what the
    end of an object calls, it waits until that is over."""
    interp.exec(f"""if True:
        import weakref
        import atoll
        interrupt = atoll.get_current()._own().interrupt  # no code in between
        passed = []

        class Door:
            pass

        names = dict(asyncio="asyncio.somewhere", importlib="importlib._bootstrap")
        inside = dict(globals(), __name__=names.get({where!r}, "mine"))
        exec('''def through(*args):
            interrupt()
            for _ in range(50):
                pass
            passed.append(1)
        ''', inside)

        def __enter__(self):
            if {where!r} == "enter":
                interrupt()
                for _ in range(50):
                    pass
                passed.append(1)

        def __exit__(self, *args):
            if {where!r} == "exit":
                interrupt()
                for _ in range(50):
                    pass
            passed.append(2)

        def __del__(self):
            inside["through"]()

        nameless = dict(interrupt=interrupt, passed=passed)
        exec('''def __del__(self):
            interrupt()
            for _ in range(50):
                pass
            passed.append(1)
        ''', nameless)

        Door.__enter__, Door.__exit__ = __enter__, __exit__
        if {where!r} in ("del", "no module"):
            Door.__del__ = __del__ if {where!r} == "del" else nameless["__del__"]
        caught = 0
        try:
            if {where!r} in names:
                inside["through"]()
            elif {where!r} in ("del", "no module"):
                Door()
            elif {where!r} == "finalize":
                weakref.finalize(Door(), inside["through"])
            else:
                with Door():
                    passed.append(0)
                    for _ in range(1000):
                        pass
                    passed.append("body")
            while True:
                pass
        except KeyboardInterrupt:
            caught = 1
    """)
    seen = interp.call(lambda: (__import__("__main__").caught, __import__("__main__").passed))
    assert seen[0] == 1
    if where == "enter":  # it came in the body, and __exit__ has run
        assert seen[1][0] == 1 and seen[1][-1] == 2 and "body" not in seen[1]
    elif where == "exit":
        assert seen[1] == [0, "body", 2]
    else:
        assert seen[1] == [1]
    assert capfd.readouterr().err == ""


def test_from_several_threads_at_once(interp):
    for _ in range(20 * STRESS):
        task = start(interp, workers.loop_for_ever)
        others = [Task(interp.interrupt) for _ in range(4)]
        assert_interrupted(task)
        for other in others:
            other.result()
        interp.exec("x = 1")


def test_from_another_interpreter(interp):
    with atoll.create() as other:
        task = start(interp, workers.loop_for_ever)
        assert other.call(atoll.Interpreter.interrupt, interp) is True
        assert_interrupted(task)


@pytest.mark.alone
def test_sleep_is_not_interrupted(interp):
    """interrupt() returns at once; the interpreter goes on running."""
    asleep = atoll.create_queue()
    interp.prepare_main(asleep=asleep)
    task = Task(interp.exec, "import time; asleep.put(1); time.sleep(0.5)")
    asleep.get()
    time.sleep(0.02)  # the few bytecodes between its put and its sleep
    begin = time.monotonic()
    assert interp.interrupt()
    with pytest.raises(atoll.InterpreterError, match="running"):
        interp.close(timeout=0.02)
    assert time.monotonic() - begin < 0.3
    assert interp.is_running()
    assert_interrupted(task)
    interp.exec("x = 1")


def test_after_close():
    for _ in range(20 * STRESS):
        interp = atoll.create()
        others = [Task(try_interrupt, interp) for _ in range(2)]
        interp.close()
        for other in others:
            other.result()
        with pytest.raises(atoll.InterpreterNotFoundError):
            interp.interrupt()


def try_interrupt(interp):
    try:
        while True:
            interp.interrupt()
    except atoll.InterpreterNotFoundError:
        pass


def test_a_late_one_never_hits_the_next_job(interp):
    """Aimed at one job, while that ends, thousands of times."""
    go, done = atoll.create_queue(), atoll.create_queue()
    rng = random.Random(1)

    def interrupter():
        while (delay := go.get()) is not None:
            end = time.perf_counter() + delay
            while time.perf_counter() < end:
                pass
            done.put(interp.interrupt())

    task = Task(interrupter)
    interp.exec("import atoll; kept = 0")
    hits = 0
    for _ in range(2000 * STRESS):
        go.put(rng.random() * 0.0002)
        try:
            interp.exec("x = sum(range(50))")
        except atoll.ExecutionFailed as exc:
            assert exc.excinfo.type.__name__ == "KeyboardInterrupt"
            hits += 1
        done.get()
        # By now no interrupt is under way: whatever comes here is a late one.
        interp.exec("y = sum(range(50))\nkept += 1")
    go.put(None)
    task.result()
    interp.exec(f"assert kept == {2000 * STRESS}")


def test_one_that_comes_while_the_reply_is_made(interp):
    """The job is over, its error is being described: it is too late."""
    interp.exec(
        "import time\n"
        "class Slow(Exception):\n"
        "    def __str__(self):\n"
        "        ready.put(None)\n"
        "        end = time.monotonic() + 0.1\n"
        "        while time.monotonic() < end: pass\n"
        "        return 'slow'\n"
    )
    ready = atoll.create_queue()
    interp.prepare_main(ready=ready)
    task = Task(interp.exec, "raise Slow")
    ready.get(timeout=10)
    interp.interrupt()
    with pytest.raises(atoll.ExecutionFailed) as info:
        task.result()
    assert info.value.excinfo.type.__name__ == "Slow"
    interp.exec("after = 1")
    interp.exec("assert after == 1")


def test_one_that_comes_while_the_result_dies(interp):
    """So is one that comes while the job's objects are destroyed."""
    ready = atoll.create_queue()
    interp.prepare_main(ready=ready)
    interp.exec(
        "import time\n"
        "class Slow(list):\n"
        "    def __reduce__(self): return (int, ())\n"
        "    def __del__(self):\n"
        "        ready.put(None)\n"
        "        end = time.monotonic() + 0.1\n"
        "        while time.monotonic() < end: pass\n"
    )
    task = Task(interp.call, lambda: __import__("__main__").Slow())
    ready.get(timeout=10)
    interp.interrupt()
    try:
        assert task.result() == 0
    except atoll.ExecutionFailed as exc:
        assert exc.excinfo.type.__name__ == "KeyboardInterrupt"
    interp.exec("after = 1")


@pytest.mark.alone
def test_a_wait_while_the_reply_is_made(interp):
    """An interrupt at that time neither ends that wait nor makes it spin."""
    ready, go = atoll.create_queue(), atoll.create_queue()
    interp.prepare_main(ready=ready, go=go)
    interp.exec(
        "class Waiting(Exception):\n"
        "    def __str__(self):\n"
        "        ready.put(None)\n"
        "        return go.get()\n"
    )
    task = Task(interp.exec, "raise Waiting")
    ready.get(timeout=10)
    time.sleep(0.05)
    interp.interrupt()
    cpu = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - cpu < 0.1
    for _ in range(10):  # it is asked for its text more than once
        go.put("text")
    with pytest.raises(atoll.ExecutionFailed, match="text"):
        task.result()
    interp.exec("after = 1")


def test_interrupts_racing_with_messages(interp):
    """With a second thread there that may take the request: none is lost."""
    interp.exec(
        "import threading, time\n"
        "stop = False\n"
        "end = time.monotonic() + 30\n"
        "def spin():\n"
        "    while not stop and time.monotonic() < end: pass\n"
        "thread = threading.Thread(target=spin)\n"
        "thread.start()"
    )
    queue = atoll.create_queue()

    def get_and_loop(ready, queue):
        ready.put(None)
        queue.get()
        while True:
            pass

    for _ in range(30 * STRESS):
        task = start(interp, get_and_loop, queue)
        putter = Task(queue.put, None)
        assert interp.interrupt()
        putter.result()
        assert_interrupted(task)
        while not queue.empty():
            queue.get()
    interp.exec("stop = True; thread.join()")


def test_prepare_main_and_imports_can_be_interrupted(interp):
    task = start(interp, workers.loop_for_ever)
    interp.interrupt()
    assert_interrupted(task)
    interp.prepare_main(x=1)
    interp.exec("assert x == 1")


def import_for_ever(ready):
    import importlib
    import sys

    names = ["colorsys", "this_is_no_module", "stringprep", "sndhdr", "quopri", "fileinput"]
    ready.put(None)
    while True:
        for name in names:
            sys.modules.pop(name, None)
            try:
                importlib.import_module(name)
            except ModuleNotFoundError:
                pass


def test_imports_are_interrupted_between_their_own_steps(interp, capfd):
    """None is lost in the importer's callbacks, which print it."""
    ready = atoll.create_queue()
    chance = random.Random(5)
    for _ in range(200 * STRESS):
        task = Task(interp.call, import_for_ever, ready)
        ready.get(timeout=10)
        time.sleep(chance.random() / 1000)
        interp.interrupt()
        assert_interrupted(task)
    assert capfd.readouterr().err == ""
