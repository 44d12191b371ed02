"""More of fork(): what the child has, and forks in the middle of things."""

import pytest
from support import check_python

# Forking with threads alive is what these tests do: no warning about it.
OPTIONS = ("-W", "ignore::DeprecationWarning")

START = """
import atoll, os, signal, sys, threading, time, traceback
queue = atoll.create_queue()
queue.put("from the parent")
recv, send = atoll.create_channel(1)
interps = [atoll.create() for _ in range(3)]
interps[0].exec("import sqlite3, asyncio, json")
interps[0].call(pow, 2, 2)    # an import under way at the fork is CPython's matter

def in_child(function):
    '''Fork, run it in the child, check that it ended normally.'''
    pid = os.fork()
    if pid == 0:
        try:
            signal.alarm(30)
            function()
            sys.stdout.flush()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, os.waitstatus_to_exitcode(status)

def everything():
    '''The child can use atoll, with things of its own.'''
    q = atoll.create_queue()
    q.put(1)
    assert q.get() == 1
    assert q in atoll.list_queues() and queue not in atoll.list_queues()
    assert atoll.list_all() == [atoll.get_main()], atoll.list_all()
    with atoll.create("child's") as interp:
        interp.prepare_main(q=q)
        interp.exec("import json; q.put(json.dumps([1]))")
        assert q.get() == "[1]"
        assert interp.call(pow, 2, 5) == 32
    t = threading.Thread(target=lambda: q.put(q.get() + 1))
    t.start()
    q.put(5)
    t.join()
    assert q.get() == 6
    r, s = atoll.create_channel()
    t = threading.Thread(target=s.send, args=("x",)); t.start()
    assert r.recv() == "x"
    t.join()

def intact():
    '''The parent is as it was.'''
    assert queue.get() == "from the parent"
    for interp in interps:
        interp.exec("x = 1")
        interp.close()
"""


def run(code):
    return check_python(START + code, options=OPTIONS, timeout=90)


def test_the_child_ends_by_itself():
    """Through interpreter finalisation, not os._exit()."""
    out = run(
        """
def leave(status):
    pid = os.fork()
    if pid == 0:
        if status:
            everything()
            keep.append(atoll.create())
        sys.exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == status
keep = []
leave(0)
leave(7)
intact()
print("parent done")
"""
    )
    assert out == "parent done"


def test_old_handles_do_no_harm():
    run(
        """
def refused(error, *calls):
    for call in calls:
        try:
            call()
        except error:
            continue
        raise AssertionError("no error")

def child():
    refused(atoll.ForkedError, queue.get_nowait, lambda: queue.get(timeout=1),
            lambda: recv.recv_nowait(None), lambda: list(recv))
    queue.shutdown(); send.close(); recv.close()
    queue.qsize(); queue.empty(); repr(queue)
    for interp in interps:
        refused(atoll.InterpreterNotFoundError, interp.interrupt,
                lambda: interp.call(print), lambda: interp.prepare_main(x=1))
        repr(interp)
    q = atoll.create_queue()
    q.put((queue, [send]))
    old, [end] = q.get()
    assert old.id == queue.id and end.id == send.id

in_child(child)
intact()
"""
    )


def test_pickles_of_the_parent_are_refused():
    run(
        """
import pickle
data = [pickle.dumps(x) for x in (queue, send, interps[0])]
def child():
    for one in data:
        try:
            pickle.loads(one)
        except (atoll.QueueNotFoundError, atoll.ChannelNotFoundError,
                atoll.InterpreterNotFoundError) as exc:
            assert "another process" in str(exc)
        else:
            raise AssertionError("no error")
in_child(child)
intact()
"""
    )


def test_dropping_old_handles_in_the_child():
    run(
        """
import gc
def child():
    global queue, recv, send
    del queue, recv, send
    interps.clear()
    gc.collect()
    with atoll.create() as interp:
        assert interp.call(pow, 2, 3) == 8
in_child(child)
intact()
"""
    )


def test_fork_while_messages_fly():
    run(
        """
done = atoll.create_queue()
def busy(queue):
    while queue.qsize() == 0:
        sum(range(100))
def ping(a, b):
    while (n := a.get()) is not None:
        b.put(n)
a, b = atoll.create_queue(), atoll.create_queue()
threads = [threading.Thread(target=interps[0].call, args=(busy, done)),
           threading.Thread(target=interps[1].call, args=(ping, a, b))]
for t in threads: t.start()
stop = False
def pong():
    n = 0
    while not stop:
        a.put((n, [n]))
        assert b.get() == (n, [n])
        n += 1
ponger = threading.Thread(target=pong)
ponger.start()
a_while = atoll.create_queue()
try:
    a_while.get(timeout=0.2)        # all of them run by now
except atoll.QueueEmpty:
    pass
for _ in range(15):
    in_child(everything)
stop = True
ponger.join()
a.put(None)
done.put(None)
for t in threads: t.join()
intact()
"""
    )


def test_fork_by_a_thread_while_main_waits():
    """Main's wakeup descriptor is not left behind in the child."""
    run(
        """
signal.signal(signal.SIGUSR1, lambda *args: seen.append(1))
seen = []
def child():
    fd = signal.set_wakeup_fd(-1)
    assert fd == -1, fd
    r, w = os.pipe()             # takes the lowest numbers that are free
    os.kill(os.getpid(), signal.SIGUSR1)
    end = time.monotonic() + 10
    while not seen and time.monotonic() < end: pass
    os.set_blocking(r, False)
    try:
        raise AssertionError(os.read(r, 10))
    except BlockingIOError:
        pass
    everything()
def fork(parks):
    while atoll.stats()["parks"] == parks: time.sleep(0.001)
    try:
        for _ in range(3): in_child(child)
        done.put("fine")
    except BaseException as exc:
        done.put(repr(exc))
done = atoll.create_queue()
thread = threading.Thread(target=fork, args=(atoll.stats()["parks"],))
thread.start()
assert done.get() == "fine"
thread.join()
intact()
"""
    )


def test_grandchildren():
    run(
        """
def child():
    everything()
    inner = atoll.create()
    q = atoll.create_queue()
    in_child(everything)
    in_child(lambda: refused(q))
    inner.exec("x = 1")
    inner.close()
    q.put(1)
def refused(q):
    try:
        q.put(1)
    except atoll.ForkedError:
        return
    raise AssertionError
in_child(child)
intact()
"""
    )


def test_ctrl_c_in_the_child():
    run(
        """
def child():
    everything()
    q = atoll.create_queue()
    interp = atoll.create()
    for wait in (q.get, lambda: interp.exec("while True: pass")):
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
        begin = time.monotonic()
        try:
            wait()
        except KeyboardInterrupt:
            assert time.monotonic() - begin < 5
        else:
            raise AssertionError
    interp.close()
try:
    atoll.create_queue().get(timeout=0.01)      # the parent's descriptors exist
except atoll.QueueEmpty:
    pass
in_child(child)
intact()
"""
    )


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_multiprocessing(tmp_path, method):
    check_python(
        f"""
        import atoll, multiprocessing

        def work(n):
            import atoll
            with atoll.create() as interp:
                return interp.call(pow, n, 2)

        if __name__ == "__main__":
            interp = atoll.create()
            interp.exec("import json")
            context = multiprocessing.get_context({method!r})
            with context.Pool(2) as pool:
                assert pool.map(work, range(6)) == [n * n for n in range(6)]
                pool.close()
                pool.join()
            interp.exec("x = 1")
            interp.close()
        """,
        path=tmp_path / "script.py",
        options=OPTIONS,
        timeout=60,
    )


def test_subprocess():
    run(
        """
import subprocess
def child(**kwargs):
    done = subprocess.run([sys.executable, "-c", "print(5)"], text=True,
                          capture_output=True, timeout=20, **kwargs)
    assert (done.returncode, done.stdout, done.stderr) == (0, "5\\n", ""), done
for _ in range(2):
    child()
    child(preexec_fn=lambda: None)
    child(preexec_fn=os.getpid, close_fds=False)
    child(start_new_session=True)
assert os.system("exit 3") >> 8 == 3
with os.popen("echo x") as pipe:
    assert pipe.read() == "x\\n"
intact()
"""
    )


def test_subprocess_in_an_interpreter():
    run(
        """
interps[0].exec('''if 1:
    import subprocess, sys
    done = subprocess.run([sys.executable, "-c", "print(5)"], capture_output=True)
    assert done.stdout.split() == [b"5"], done
''')
intact()
"""
    )


def test_pty_and_posix_spawn():
    run(
        """
import pty
pid, fd = pty.fork()
if pid == 0:
    try:
        everything()
        os.write(1, b"all is well")
    finally:
        os._exit(0)
got = b""
try:
    while (data := os.read(fd, 100)):
        got += data
except OSError:
    pass
os.waitpid(pid, 0)
assert b"all is well" in got, got
pid = os.posix_spawn(sys.executable, [sys.executable, "-c", "1"], os.environ)
assert os.waitpid(pid, 0)[1] == 0
intact()
"""
    )


def test_callbacks_in_the_child():
    """After the parent has had some: its dispatcher is not the child's."""
    run(
        """
def call_back():
    done = threading.Event()
    with atoll.InterpreterPoolExecutor(1) as pool:
        pool.submit(pow, 2, 3).add_done_callback(lambda future: done.set())
        assert done.wait(10)
call_back()
in_child(call_back)
call_back()
"""
    )


def test_memory_of_the_parents_interpreters_is_let_go():
    """Its owner is not there, so nobody is asked to take it back."""
    run(
        """
got = []
for interp in interps:
    interp.prepare_main(out=queue)
    interp.exec("for _ in range(20): out.put(memoryview(bytearray(100_000)))")
assert queue.get() == "from the parent"
got = [queue.get() for _ in range(60)]
assert all(len(view) == 100_000 for view in got)

def child():
    import gc
    for view in got[:30]:
        view.release()
    del got[:]
    gc.collect()
    everything()

in_child(child)
del got[:]
queue.put("from the parent")
intact()
"""
    )
