"""DeadlockError: when nobody is left who could end a wait, and at no other time."""

import re
import textwrap
import time

import atoll
import deadlocks
import pytest
from support import SLACK, STRESS, Task, check_python, parked

#: Longer than the watch waits before it looks, and than its next look.
MOMENT = 0.3


@pytest.fixture
def pair():
    return atoll.create_channel()


def told(task):
    """The DeadlockError of a task, as text."""
    with pytest.raises(atoll.DeadlockError) as caught:
        task.result(SLACK)
    return str(caught.value)


def script(code, **options):
    """Alone in a process, where no handler of a signal is set."""
    head = """
        import atoll, deadlocks, os, signal, threading, time
        atoll.detect_deadlocks()
        recv, send = atoll.create_channel()
        def outcome(function, *args):
            try:
                return function(*args)
            except atoll.DeadlockError as exc:
                return "deadlock: " + str(exc)
    """
    return check_python(textwrap.dedent(head) + textwrap.dedent(code), **options)


# ------------------------------------------------------------------- deadlocks


def test_two_tasks_that_receive_from_each_other():
    (r1, s1), (r2, s2) = atoll.create_channel(), atoll.create_channel()
    one = atoll.spawn(deadlocks.answer, r1, s2)
    two = atoll.spawn(deadlocks.answer, r2, s1)
    del r1, s1, r2, s2  # this interpreter is awake
    text = told(one)
    assert "Task-" in text and "recv on channel" in text
    assert "deadlocks.py:" in text and "in answer" in text
    assert text.count("\n") >= 2 and text.count("(here)") == 1
    with pytest.raises((atoll.DeadlockError, atoll.ChannelClosed)):
        two.result(SLACK)


def test_a_ring_of_five():
    ends = [atoll.create_channel() for _ in range(5)]
    tasks = [
        atoll.spawn(deadlocks.answer, ends[i][0], ends[(i + 1) % 5][1]) for i in range(5)
    ]
    ends.clear()
    errors = [task.exception(SLACK) for task in tasks]
    assert any(isinstance(error, atoll.DeadlockError) for error in errors)
    for error in errors:
        assert isinstance(error, (atoll.DeadlockError, atoll.ChannelClosed))
    text = max((str(e) for e in errors if isinstance(e, atoll.DeadlockError)), key=len)
    assert text.count("waits for recv on channel") == 5


def test_philosophers():
    forks = [atoll.create_channel(1) for _ in range(5)]
    ready, go = atoll.create_queue(), atoll.create_queue()
    for _, send in forks:
        send.send("fork")
    tasks = [
        atoll.spawn(deadlocks.philosopher, forks[i], forks[(i + 1) % 5], ready, go)
        for i in range(5)
    ]
    forks.clear()
    del send
    for _ in tasks:
        ready.get(timeout=SLACK)
    for _ in tasks:
        go.put(None)
    errors = [task.exception(SLACK) for task in tasks]
    assert any(isinstance(error, atoll.DeadlockError) for error in errors)


def test_a_task_that_waits_for_the_one_behind_it():
    with atoll.create() as interp:
        text = told(interp.submit(deadlocks.nested, -1))
        assert "the result of a task of interpreter" in text and "(here)" in text
        assert interp.submit(abs, -2).result(SLACK) == 2


def test_main_alone():
    out = script("""
        print(outcome(recv.recv))
    """)
    assert out.startswith("deadlock: ") and "interpreter 0 (main)" in out
    assert "(here) waits for recv on channel" in out and ":7 in outcome" in out


def test_main_and_what_it_calls():
    out = script("""
        with atoll.create() as interp:
            print(interp.call(deadlocks.outcome, recv)[0])
    """)
    assert out == "DeadlockError"


def test_a_queue_of_main_alone():
    out = script("""
        queue = atoll.create_queue(1)
        print(outcome(queue.get))
        queue.put(1)
        print(outcome(queue.put, 2))
        print(queue.get())
    """)
    assert out.count("deadlock: ") == 2 and "get from queue" in out
    assert "put into queue" in out and out.endswith("1")


def test_select():
    out = script("""
        queue = atoll.create_queue()
        print(outcome(atoll.select, recv, (send, 1), queue))
        queue.put(1)
        print(atoll.select(recv, queue), outcome(atoll.select)[:8])
    """)
    assert out.startswith("deadlock: ") and out.endswith("(1, 1) deadlock")
    assert re.search(
        r"waits for recv on channel \d+ or send on channel \d+ or get from queue \d+ at",
        out,
    )


def test_select_of_what_may_come():
    out = script("""
        other = atoll.create_channel()
        task = atoll.spawn(deadlocks.hold_and_sleep, other[1], 0.4)
        print(atoll.select(recv, other[0]), outcome(atoll.select, recv, task)[0])
        task = atoll.spawn(deadlocks.receive, recv)
        print(type(atoll.select(other[0], task)[1].exception()).__name__)
    """)
    assert out == "(1, 'awake') 1\nDeadlockError"


@pytest.mark.parametrize("kind", ["Lock", "RLock"])
def test_philosophers_with_locks(kind):
    forks = [getattr(atoll, kind)() for _ in range(5)]
    barrier = atoll.Barrier(5)
    tasks = [
        atoll.spawn(deadlocks.grab_both, forks[i], forks[(i + 1) % 5], barrier)
        for i in range(5)
    ]
    forks.clear()
    errors = [task.exception(SLACK) for task in tasks]
    told = [error for error in errors if isinstance(error, atoll.DeadlockError)]
    assert told
    assert f"waits for {kind} " in str(told[0]) and "which interpreter" in str(told[0])
    assert "in grab_both" in str(told[0])


def test_what_is_like_locks():
    out = script("""
        lock, event, barrier = atoll.Lock(), atoll.Event(), atoll.Barrier(2)
        semaphore, condition = atoll.Semaphore(0), atoll.Condition()
        for wait in (event.wait, barrier.wait, semaphore.acquire):
            print(outcome(wait).rsplit("waits for ", 1)[1][:9])
        with condition:
            print(outcome(condition.wait).rsplit("waits for ", 1)[1][:9])
        with lock:
            print(outcome(atoll.select, lock, event)[:8])
            print(outcome(recv.recv)[:8])
    """)
    assert out.startswith("Event") and out.count("deadlock") == 2
    assert "Barrier" in out and "a permit" in out and "Condition" in out


def test_a_lock_that_is_released_in_time():
    lock, ready = atoll.RLock(), atoll.create_queue()
    owner = atoll.spawn(deadlocks.keep_for, lock, ready, MOMENT)
    ready.get(timeout=SLACK)
    taker = atoll.spawn(deadlocks.take, lock)
    assert taker.result(SLACK) == "taken"
    owner.result(SLACK)


def test_timers_are_awake():
    out = script("""
        tick = atoll.ticker(0.3)
        print(type(outcome(atoll.after(0.4).recv)).__name__)
        print(outcome(atoll.select, recv, tick)[0])
    """)
    assert out.split("\n") == ["float", "1"]


def test_an_end_that_was_retired():
    """It is no way to send any more, and the object that is left of it no secret."""
    (r1, s1), (r2, s2) = atoll.create_channel(), atoll.create_channel()
    one = atoll.spawn(deadlocks.answer, r1, s2)
    two = atoll.spawn(deadlocks.answer, r2, s1)
    del r1, r2
    s1.retire()
    s2.retire()
    errors = [one.exception(SLACK), two.exception(SLACK)]
    assert any(isinstance(error, atoll.DeadlockError) for error in errors)


def test_threads_of_one_interpreter():
    out = script("""
        back, forth = atoll.create_channel()
        def other():
            forth.send(recv.recv())
        thread = threading.Thread(target=lambda: print(outcome(other)[:8]), name="other")
        thread.start()
        text = outcome(back.recv)
        print("thread other" in text, "in other" in text, text[:8])
        thread.join()
    """)
    assert sorted(out.split("\n")) == ["True True deadlock", "deadlock"]


def test_a_group_with_its_dispatcher():
    out = script("""
        atoll.detect_deadlocks(False)  # tasks are looked after anyway
        (r1, s1), (r2, s2) = atoll.create_channel(), atoll.create_channel()
        try:
            with atoll.TaskGroup() as group:
                group.spawn(deadlocks.answer, r1, s2)
                group.spawn(deadlocks.answer, r2, s1)
        except* atoll.DeadlockError as errors:
            print("deadlock")
    """)
    assert out == "deadlock"


def test_those_who_go_on_are_left_in_peace():
    """Part of a program is stuck, the rest is not."""
    (r1, s1), (r2, s2) = atoll.create_channel(), atoll.create_channel()
    recv, send = atoll.create_channel()
    fine = atoll.spawn(deadlocks.receive, recv)
    stuck = atoll.spawn(deadlocks.answer, r1, s2), atoll.spawn(deadlocks.answer, r2, s1)
    del r1, s1, r2, s2
    errors = [task.exception(SLACK) for task in stuck]
    assert any(isinstance(error, atoll.DeadlockError) for error in errors)
    assert not fine.done()
    send.send("fine")
    assert fine.result(SLACK) == "fine"


def test_off_is_the_default():
    out = script("""
        print(atoll.detect_deadlocks(False))
        print(atoll.detect_deadlocks(None))
        threading.Timer(0.4, send.send, ["late"]).start()
        print(recv.recv())
        signal.signal(signal.SIGALRM, lambda *_: 1 / 0)
        signal.setitimer(signal.ITIMER_REAL, 0.4)
        try:
            recv.recv()
        except ZeroDivisionError:
            print("not told")
    """)
    assert out.split("\n") == ["True", "False", "late", "not told"]


def test_by_the_environment(monkeypatch):
    for value, expected in [("1", "True"), ("0", "False"), ("", "False")]:
        code = f"""
            import os
            os.environ["ATOLL_DETECT_DEADLOCKS"] = {value!r}
            import atoll
            print(atoll.detect_deadlocks(None))
        """
        assert check_python(code) == expected


# ---------------------------------------------------------------- no deadlocks


@pytest.mark.parametrize(
    ("holder", "args", "answer"),
    [
        (deadlocks.hold_and_sleep, (), "awake"),
        (deadlocks.hold_in_lock, (), "unlocked"),
        (deadlocks.hold_in_loop, (), "from a loop"),
    ],
)
def test_a_holder_that_is_outside(pair, holder, args, answer):
    recv, send = pair
    waiter = atoll.spawn(deadlocks.receive, recv)
    other = atoll.spawn(holder, send, *args, MOMENT)
    del recv, send
    assert waiter.result(SLACK) == answer
    other.result(SLACK)


def test_a_thread_that_is_outside(pair):
    recv, send = pair
    mine, feed = atoll.create_channel()
    waiter = atoll.spawn(deadlocks.receive, recv)
    other = atoll.spawn(deadlocks.hold_in_thread, send, mine, MOMENT)
    assert waiter.result(SLACK) == "from a thread"
    feed.send("done")
    assert other.result(SLACK) == "done"


def test_a_deadline(pair):
    recv, send = pair
    mine, kept = atoll.create_channel()
    waiter = atoll.spawn(deadlocks.receive, recv)
    other = atoll.spawn(deadlocks.hold_with_deadline, send, mine, MOMENT)
    del send
    assert waiter.result(SLACK) == "late"
    other.result(SLACK)
    kept.close()


def test_a_loop_that_waits(pair):
    recv, send = pair
    mine, feed = atoll.create_channel()
    waiter = atoll.spawn(deadlocks.receive, recv)
    other = atoll.spawn(deadlocks.hold_in_loop_waiting, send, mine)
    time.sleep(MOMENT)
    feed.send("fed")
    assert waiter.result(SLACK) == "fed"
    other.result(SLACK)


def test_a_time_limit(pair):
    """The task that is waited for is stopped in the end."""
    recv, _send = pair
    task = atoll.Task(deadlocks.receive, (recv,), timeout=MOMENT).start()
    with pytest.raises(TimeoutError):
        task.result(SLACK)


def test_a_message_with_the_end():
    """Whoever receives it can send."""
    out = script("""
        carrier = atoll.create_queue()
        carrier.put(send)
        del send
        task = atoll.spawn(deadlocks.outcome, recv)
        time.sleep(0.4)
        print(task.done())
        carrier.get().send("out of the message")
        print(task.result())
    """)
    assert out.split("\n") == ["False", "out of the message"]


def test_an_idle_interpreter_that_can_be_given_something(pair):
    recv, send = pair
    with atoll.create() as interp:
        interp.call(deadlocks.keep_end, send)
        waiter = atoll.spawn(deadlocks.receive, recv)
        del send
        time.sleep(MOMENT)
        assert not waiter.done()
        interp.call(deadlocks.use_end, "given")
        assert waiter.result(SLACK) == "given"


def test_an_idle_interpreter_with_nobody_to_give():
    out = script("""
        with atoll.create() as interp:
            interp.call(deadlocks.keep_end, send)
            del send
            print(outcome(recv.recv)[:8])
    """)
    assert out == "deadlock"


def test_a_handler_of_a_signal_may_do_anything():
    out = script("""
        queue = atoll.create_queue()
        signal.signal(signal.SIGALRM, lambda *_: queue.put("from a handler"))
        signal.setitimer(signal.ITIMER_REAL, 0.4)
        print(outcome(queue.get))
    """)
    assert out == "from a handler"


def test_the_handler_of_dump_does_nothing():
    out = script("""
        atoll.dump_on_signal()
        print(outcome(recv.recv)[:8])
    """)
    assert out == "deadlock"


def test_a_thread_of_a_library(tmp_path):
    """It is in no interpreter, and comes into main with something."""
    import subprocess
    if subprocess.run(["cc", "--version"], capture_output=True, check=False).returncode:
        pytest.skip("no compiler")
    source = tmp_path / "late.c"
    source.write_text("""
        #include <pthread.h>
        #include <unistd.h>
        static void (*call)(void);
        static void *run(void *arg) { usleep(400000); call(); return arg; }
        void start(void (*function)(void)) {
            pthread_t t; call = function; pthread_create(&t, 0, run, 0);
        }
    """)
    library = tmp_path / "liblate.so"
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-pthread", "-o", library, source], check=True
    )
    out = script(f"""
        import ctypes
        kind = ctypes.CFUNCTYPE(None)
        callback = kind(lambda: send.send_nowait("from a library"))
        ctypes.CDLL({str(library)!r}).start(callback)
        print(outcome(recv.recv))
    """)
    assert out == "from a library"


def test_an_interpreter_that_comes(pair):
    """A task is handed the end before its interpreter is there."""
    for _ in range(5 * STRESS):
        recv, send = atoll.create_channel()
        waiter = atoll.spawn(deadlocks.receive, recv)
        other = atoll.spawn(deadlocks.hold_and_sleep, send, 0.0)
        del recv, send
        assert waiter.result(SLACK) == "awake"
        other.result(SLACK)


def test_long_chains_under_load():
    """Each waits for ever for the one before; only the first is elsewhere."""
    for _ in range(3 * STRESS):
        ends = [atoll.create_channel() for _ in range(8)]
        tasks = [
            atoll.spawn(deadlocks.forward, ends[i][0], ends[i + 1][1]) for i in range(7)
        ]
        first, last = ends[0][1], ends[7][0]
        ends.clear()
        time.sleep(0.12)
        Task(first.send, "passed on")
        assert last.recv(timeout=SLACK) == "passed on"
        for task in tasks:
            task.result(SLACK)


def test_a_pause_that_comes_again_and_again():
    """Waits end at about the time that somebody looks at them."""
    recv, send = atoll.create_channel()
    back, forth = atoll.create_channel()
    done = parked(lambda: [forth.send(recv.recv()) for _ in range(12)])
    for i in range(12):
        time.sleep(0.045 + 0.002 * i)
        send.send(i)
        assert back.recv() == i
    done.result()


def test_a_wait_after_the_error():
    """The one who was told can go on, and so can his channel."""
    out = script("""
        print(outcome(recv.recv)[:8])
        print(outcome(recv.recv)[:8])
        threading.Timer(0.3, send.send, ["still there"]).start()
        print(recv.recv())
        task = atoll.spawn(deadlocks.receive, recv)
        send.send("and elsewhere")
        print(task.result())
    """)
    assert out.split("\n") == ["deadlock", "deadlock", "still there", "and elsewhere"]


def test_fork_starts_anew():
    out = script("""
        print(outcome(recv.recv)[:8], flush=True)
        child = os.fork()
        if child == 0:
            recv, send = atoll.create_channel()
            print(outcome(recv.recv)[:8], flush=True)
            os._exit(0)
        print(os.waitpid(child, 0)[1])
    """, options=["-W", "ignore"])
    assert out.split("\n") == ["deadlock", "deadlock", "0"]
