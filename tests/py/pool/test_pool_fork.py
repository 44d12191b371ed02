"""Forks beside executors: the child's own end as they should, the parent's are let be."""

import pytest
from support import check_python, leaves_interpreters

# The child has what the parent's interpreters have left in CPython's tables.
pytestmark = leaves_interpreters

# Forking with threads alive is what these tests do: no warning about it.
OPTIONS = ("-W", "ignore::DeprecationWarning")

START = """
import atexit, atoll, concurrent.futures, os, signal, sys, threading, time, traceback
import tasks

def fork(function, *args):
    '''Have a child do that and end as a program does, not by os._exit().'''
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        function(*args)
        sys.exit(0)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, os.waitstatus_to_exitcode(status)

def refused(call):
    try:
        call()
    except atoll.ForkedError:
        return
    raise AssertionError("no error")
"""


def run(code):
    return check_python(START + code, options=OPTIONS, timeout=60).split("\n")


@pytest.mark.parametrize("state", ["idle", "busy", "queued", "dropped", "task", "watched"])
def test_a_child_ends_as_if_there_were_no_executor(state):
    assert run(f"""
state, go = {state!r}, atoll.create_queue()
pool = atoll.InterpreterPoolExecutor(1)
pool.submit(int).result()
futures = []
if state in ("busy", "queued", "dropped", "watched"):
    futures = [pool.submit(tasks.wait_for, go) for _ in range(1 + (state == "queued"))]
if state == "dropped":
    del pool
if state == "task":
    futures = [atoll.spawn(tasks.wait_for, go)]
if state == "watched":
    futures[0].add_done_callback(lambda f: print("called"))

def child():
    atexit.register(print, "child: atexit ran")

fork(child)
for _ in futures:
    go.put(None)
for future in futures:
    future.result()
""") == ["child: atexit ran"] + ["called"] * (state == "watched")


@pytest.mark.parametrize("parents", ["none", "idle", "busy", "many"])
def test_a_child_does_its_own_tasks_before_it_ends(parents):
    assert sorted(run(f"""
parents, go = {parents!r}, atoll.create_queue()
count = {{"none": 0, "many": 20}}.get(parents, 1)
pools = [atoll.InterpreterPoolExecutor(1) for _ in range(count)]
if parents == "busy":
    pools[0].submit(tasks.wait_for, go)
elif pools:
    pools[0].submit(int).result()
for _ in range(20 * (parents == "many")):  # kept for the end, and forgotten there
    atoll.spawn(int).result()

def work(n):
    import time
    time.sleep(0.05)
    print("task", n, flush=True)

def child():
    global mine
    mine = atoll.InterpreterPoolExecutor(1)
    for n in range(3):
        mine.submit(work, n)
    dropped = atoll.InterpreterPoolExecutor(1)
    dropped.submit(time.sleep, 0.3).add_done_callback(lambda f: print("called"))
    atoll.spawn(work, 4).result()
    for _ in range(20):
        atoll.spawn(int).result()

fork(child)
go.put(None)
""")) == ["called", "task 0", "task 1", "task 2", "task 4"]


def test_leaving_with_blocks_of_the_parent():
    assert run("""
with atoll.InterpreterPoolExecutor(1) as pool:
    pool.submit(int).result()
    with atoll.TaskGroup() as group:
        group.spawn(int)
        with atoll.InterpreterPoolExecutor(1) as unused:
            fork(lambda: None)     # SystemExit goes through them
print("parent done")
""") == ["parent done"]


def test_what_the_child_sees_of_the_parents_futures():
    """Whatever its threads held at the fork."""
    run("""
go, ready = atoll.create_queue(), atoll.create_queue()
pool = atoll.InterpreterPoolExecutor(1)
runs = pool.submit(tasks.wait_for, go, ready)
ready.get()
waits, cancelled = pool.submit(int), pool.submit(int)
cancelled.cancel()
done, seen = atoll.spawn(int), atoll.spawn(int)
seen.result(), concurrent.futures.wait([done, seen])
task = atoll.spawn(tasks.wait_for, go)

held, leave = threading.Event(), threading.Event()
def hold():
    from atoll._tasks.dispatch import dispatcher
    with runs._condition, done._condition, dispatcher._lock:
        held.set()
        leave.wait()
threading.Thread(target=hold).start()
held.wait()

def child():
    for future in (runs, waits, task):
        assert not future.done() and not future.running() and not future.cancelled()
        assert "state=pending" in repr(future), repr(future)
        refused(lambda: future.result(1))
        refused(lambda: future.exception(1))
        refused(future.cancel)
        refused(lambda: future.add_done_callback(print))
        refused(lambda: concurrent.futures.wait([future], 1))
        refused(lambda: list(concurrent.futures.as_completed([future], 1)))
    assert not task.is_alive()
    assert cancelled.cancelled() and "state=cancelled" in repr(cancelled)
    assert done.done() and "state=finished>" in repr(done), repr(done)
    assert "state=finished returned int>" in repr(seen) and seen.result() == 0
    assert concurrent.futures.wait([done, seen, cancelled], 1).done == {done, seen, cancelled}
    called = []
    done.add_done_callback(called.append)
    assert called == [done]
    assert "of the parent process" in repr(pool)
    refused(lambda: pool.submit(int))
    refused(pool.stats)
    # Its own are none of this.
    with atoll.InterpreterPoolExecutor(1) as mine:
        future = mine.submit(tasks.square, 3)
        future.add_done_callback(called.append)
        assert concurrent.futures.wait([future], 10).done == {future}
        assert future.result() == 9
    assert called == [done, future]

fork(child)
leave.set()
go.put(1); go.put(2)
assert {runs.result(), task.result()} == {1, 2}
""")


def test_dropping_the_parents_futures_says_nothing():
    """That one failed is the parent's to say."""
    run("""
pool = atoll.InterpreterPoolExecutor(1)
failed = pool.submit(tasks.fail)
while not failed.done():
    time.sleep(0.001)
def child():
    import gc
    global failed, pool
    del failed, pool
    gc.collect()
fork(child)
assert failed.exception()
""")


def test_fork_while_futures_are_made_and_end():
    run("""
pool = atoll.InterpreterPoolExecutor(2)
stop, futures = False, []
def work():
    while not stop:
        future = pool.submit(tasks.square, 2)
        futures.append(future)
        del futures[:-50]
        if len(futures) % 3 == 0:
            future.add_done_callback(lambda f: None)
        repr(future)
        future.running()
        concurrent.futures.wait(futures[-3:])
threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads: thread.start()

def child():
    for future in list(futures):
        repr(future), future.running(), future.done(), future.cancelled()
    with atoll.InterpreterPoolExecutor(1) as mine:
        future = mine.submit(tasks.square, 2)
        future.add_done_callback(lambda f: None)
        assert concurrent.futures.wait([future], 10).done
    repr(pool)

for _ in range(12):
    time.sleep(0.01)
    fork(child)
stop = True
for thread in threads: thread.join()
""")


def test_a_callback_forks():
    assert run("""
pool = atoll.InterpreterPoolExecutor(1)
def call(future):
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        with atoll.InterpreterPoolExecutor(1) as mine:
            print("child", mine.submit(tasks.square, 3).result(), flush=True)
        os._exit(0)
    os.waitpid(pid, 0)
    print("parent", flush=True)
first = pool.submit(time.sleep, 0.1)
first.add_done_callback(call)
over = threading.Event()
first.add_done_callback(lambda f: print("next", flush=True))
first.add_done_callback(lambda f: over.set())
over.wait()
""") == ["child 9", "parent", "next"]
