"""Closing, in every situation; nothing that was accepted is lost."""

import gc
import threading
import time

import atoll
import pytest
import workers
from atoll import _core
from support import STRESS, Task, parked, until


def start(interp, function, *args):
    ready = atoll.create_queue()
    task = Task(interp.call, function, ready, *args)
    ready.get(timeout=10)
    return task


def closed(interp):
    try:
        interp.is_running()
    except atoll.InterpreterNotFoundError:
        return True
    return False


def test_while_it_runs(interp):
    queue = atoll.create_queue()
    task = start(interp, workers.get_for_ever, queue)
    with pytest.raises(atoll.InterpreterError, match="running"):
        interp.close()
    begin = time.monotonic()
    with pytest.raises(atoll.InterpreterError, match="running"):
        interp.close(timeout=0.1)
    assert 0.1 <= time.monotonic() - begin < 5
    queue.put("went on")
    assert task.result() == "went on"
    interp.exec("x = 1")


def test_with_a_timeout_it_waits_for_what_runs():
    interp = atoll.create()
    queue = atoll.create_queue()
    task = start(interp, workers.get_for_ever, queue)
    closer = parked(interp.close, timeout=30)
    queue.put("the result")
    closer.result()
    assert task.result() == "the result"
    assert closed(interp)


@pytest.mark.parametrize("timeout", [-1, -0.5, float("nan")])
def test_bad_timeout(interp, timeout):
    with pytest.raises(ValueError):
        interp.close(timeout)
    with pytest.raises(TypeError):
        interp.close("1")
    interp.exec("x = 1")


def test_from_within(interp):
    interp.exec(
        "import atoll\n"
        "for timeout in (None, 0, 0.1):\n"
        "    try:\n"
        "        atoll.get_current().close(timeout)\n"
        "    except atoll.InterpreterError as exc:\n"
        "        assert 'within itself' in str(exc), exc\n"
        "    else:\n"
        "        raise AssertionError\n"
    )
    interp.exec(
        "import threading\n"
        "errors = []\n"
        "def close():\n"
        "    try: atoll.get_current().close()\n"
        "    except atoll.InterpreterError as exc: errors.append(str(exc))\n"
        "t = threading.Thread(target=close); t.start(); t.join()\n"
        "assert 'within itself' in errors[0]"
    )


def test_twice():
    interp = atoll.create()
    interp.close()
    for _ in range(3):
        with pytest.raises(atoll.InterpreterNotFoundError):
            interp.close()


def test_from_many_threads_at_once():
    """All return; who comes after the end gets NotFound."""
    for _ in range(10 * STRESS):
        interp = atoll.create()
        barrier = threading.Barrier(6)

        def close(interp=interp, barrier=barrier):
            barrier.wait()
            try:
                interp.close()
                return "closed"
            except atoll.InterpreterNotFoundError:
                return "gone"

        tasks = [Task(close) for _ in range(6)]
        results = [task.result() for task in tasks]
        assert "closed" in results
        assert closed(interp)


def test_from_other_interpreters():
    interps = [atoll.create() for _ in range(3)]
    victim = atoll.create()

    def close(victim):
        try:
            victim.close()
            return "closed"
        except atoll.InterpreterNotFoundError:
            return "gone"

    tasks = [Task(i.call, close, victim) for i in interps]
    results = [task.result() for task in tasks]
    assert "closed" in results
    assert closed(victim)
    for interp in interps:
        interp.close()


def test_with_threads_that_end():
    """Non-daemon threads are waited for, and what they send is not lost."""
    queue = atoll.create_queue()
    interp = atoll.create()
    interp.prepare_main(queue=queue)
    interp.exec(
        "import threading, time\n"
        "def work(n):\n"
        "    time.sleep(0.02 * n)\n"
        "    queue.put(n)\n"
        "for n in range(5): threading.Thread(target=work, args=(n,)).start()"
    )
    interp.close()
    assert sorted(queue.get_nowait() for _ in range(5)) == list(range(5))


def test_with_a_thread_and_a_timeout():
    queue = atoll.create_queue()
    interp = atoll.create()
    interp.prepare_main(queue=queue)
    interp.exec("import threading; threading.Thread(target=queue.get).start()")
    with pytest.raises(atoll.InterpreterError, match="timeout"):
        interp.close(timeout=0.1)
    # It has begun to close: no more work, but close() may wait again.
    for call in (lambda: interp.exec("1"), lambda: interp.prepare_main(x=1)):
        with pytest.raises(atoll.InterpreterError):
            call()
    queue.put(None)
    try:
        interp.close(timeout=10)
    except atoll.InterpreterNotFoundError:
        pass
    assert closed(interp)


def test_with_raw_threads(interp):
    """Those that nobody can join are refused, clearly, while they live."""
    queue = atoll.create_queue()
    interp.prepare_main(queue=queue)
    interp.exec("import _thread; _thread.start_new_thread(queue.get, ())")
    for timeout in (None, 5):
        with pytest.raises(atoll.InterpreterError, match="threading does not know"):
            interp.close(timeout)
    interp.exec("assert queue")
    queue.put(None)
    end = time.monotonic() + 10
    while not closed(interp):
        try:
            interp.close()
        except atoll.InterpreterError:
            assert time.monotonic() < end
            time.sleep(0.005)


@pytest.mark.alone
def test_dropping_one_with_raw_threads_burns_no_cpu():
    queue = atoll.create_queue()
    interp = atoll.create()
    id = interp.id
    interp.prepare_main(queue=queue)
    interp.exec("import _thread; _thread.start_new_thread(queue.get, ())")
    del interp
    gc.collect()
    time.sleep(0.05)
    before = time.process_time()
    time.sleep(0.3)
    used = time.process_time() - before
    queue.put(None)
    # It ends with its last thread.
    end = time.monotonic() + 10
    while _core._find_home(id, True) is not None and time.monotonic() < end:
        time.sleep(0.005)
    assert _core._find_home(id, True) is None
    assert used < 0.1


def test_daemon_threads_are_for_packages():
    """They are allowed where extension modules of all kinds are, and have a second
    to end after the exit handlers; if they do not, nothing is closed."""
    start = "threading.Thread(target=stop.acquire, daemon=True).start()"
    with atoll.create() as interp:
        interp.exec(f"""
import atexit, threading
stop = threading.Lock()
stop.acquire()
{start}
atexit.register(stop.release)
""")
    interp = atoll.create()
    interp.exec(f"import threading; stop = threading.Lock(); stop.acquire(); {start}")
    with pytest.raises(atoll.InterpreterError, match="thread"):
        interp.close()
    interp.exec("stop.release()")
    interp.close()


def test_daemon_threads_are_not_allowed_in_strict_interpreters():
    with atoll.create(extensions="strict") as interp:
        with pytest.raises(atoll.ExecutionFailed, match="daemon"):
            interp.exec(
                "import threading\n"
                "threading.Thread(target=print, daemon=True).start()"
            )


def test_exit_handlers_run_once():
    queue = atoll.create_queue()
    interp = atoll.create()
    interp.prepare_main(queue=queue)
    interp.exec(
        "import atexit, threading\n"
        "atexit.register(queue.put, 'first registered')\n"
        "atexit.register(queue.put, 'last registered')\n"
        "threading._register_atexit(queue.put, 'threading')"
    )
    interp.close()
    got = [queue.get_nowait() for _ in range(queue.qsize())]
    assert got == ["threading", "last registered", "first registered"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_exit_handlers_that_fail(capfd):
    interp = atoll.create()
    interp.exec("import atexit; atexit.register(lambda: 1 / 0)")
    interp.close()
    assert "ZeroDivisionError" in capfd.readouterr().err
    assert closed(interp)


def test_objects_are_finalised():
    queue = atoll.create_queue()
    interp = atoll.create()
    interp.prepare_main(queue=queue)
    interp.exec(
        "class Noisy:\n"
        "    def __init__(self, put): self.put = put\n"
        "    def __del__(self): self.put('gone')\n"
        "noisy = Noisy(queue.put)"
    )
    interp.close()
    assert queue.get_nowait() == "gone"


def test_nothing_accepted_is_lost():
    """Interpreters put and are closed at once; all arrives, in order."""
    queue = atoll.create_queue()
    big = "x" * 5000
    for n in range(10 * STRESS):
        interp = atoll.create()
        interp.prepare_main(queue=queue, n=n, big=big)
        interp.exec("for k in range(50): queue.put((n, k, [big], n * 2**70))")
        interp.close()
    for n in range(10 * STRESS):
        for k in range(50):
            assert queue.get_nowait() == (n, k, [big], n * 2**70)
    assert queue.empty()


def test_queues_outlive_their_maker():
    interp = atoll.create()
    queue, (recv, send) = interp.call(make_both)
    task = parked(queue.get)
    receiver = parked(recv.recv)
    interp.close()
    queue.put("queue")
    send.send("channel")
    assert task.result() == "queue"
    assert receiver.result() == "channel"


def make_both():
    return atoll.create_queue(3), atoll.create_channel()


def test_closed_while_others_wait_on_what_only_it_could_fill():
    """Others go on waiting; a channel whose last sender it was is closed."""
    queue = atoll.create_queue()
    recv, send = atoll.create_channel()
    interp, other = atoll.create(), atoll.create()
    interp.prepare_main(queue=queue, send=send)
    del send
    with other:
        getter = parked(queue.get)
        iterating = Task(other.call, list, recv)
        until(other.is_running)
        interp.exec("send.send('one')")
        interp.close()
        assert iterating.result() == ["one"]
        assert getter.is_alive()
        queue.put("two")
        assert getter.result() == "two"


def test_results_die_with_their_interpreter(interp):
    """A reply that nobody takes is dropped with all that it holds."""
    inner = atoll.create_queue()
    id = inner.id
    ready, go = atoll.create_queue(), atoll.create_queue()

    def job(ready, go, inner):
        ready.put(None)
        go.get()
        return [inner]

    task = Task(interp.call, job, ready, go, inner)
    ready.get(timeout=10)
    del inner
    go.put(None)
    assert [q.id for q in task.result()] == [id]
    interp.exec("x = 1")
    del task
    gc.collect()
    with pytest.raises(atoll.QueueNotFoundError):
        atoll.Queue(id)


@pytest.mark.parametrize("kind", ["thread", "raw"])
def test_exit_handlers_that_start_threads(kind):
    """They are waited for, or the close is refused; never a crash."""
    from support import check_python

    check_python(
        f"""
        import atoll, time
        for _ in range(3):
            interp = atoll.create()
            interp.exec('''if 1:
                import atexit, threading, _thread, time
                def work():
                    time.sleep(0.2)
                    x = [object() for _ in range(1000)]
                def start():
                    if {kind!r} == "raw":
                        _thread.start_new_thread(work, ())
                    else:
                        threading.Thread(target=work).start()
                atexit.register(start)
            ''')
            while True:
                try:
                    interp.close()
                except atoll.InterpreterNotFoundError:
                    break
                except atoll.InterpreterError:
                    time.sleep(0.01)
                else:
                    break
        time.sleep(0.3)  # a thread that was left behind would crash now
        print("fine")
        """
    )
