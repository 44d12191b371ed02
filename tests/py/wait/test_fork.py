"""fork() with interpreters alive: the child works, and has nothing of the parent's."""

import textwrap

import pytest
from support import STRESS, run_python

START = """
import atoll, os, subprocess, sys, threading, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # fork with threads: the point
def check(pid):
    _, status = os.waitpid(pid, 0)
    assert status == 0, status
alive = [atoll.create() for _ in range(3)]
q = atoll.create_queue(); q.put(1)
recv, send = atoll.create_channel(1); send.send(1)
"""

CHILD_WORKS = """
pid = os.fork()
if pid == 0:
    for use in (q.get, lambda: q.put(2), recv.recv, lambda: send.send(2)):
        try: use()
        except atoll.ForkedError as exc: assert "forked" in str(exc)
        else: os._exit(3)
    for it in alive:
        for use in (lambda: it.exec("1"), it.is_running, it.close):
            try: use()
            except atoll.InterpreterNotFoundError: pass
            else: os._exit(4)
    assert [i.id for i in atoll.list_all()] == [0]
    assert atoll.list_queues() == []
    new = atoll.create()
    assert new.call(sum, [1, 2, 3]) == 6
    mine = atoll.create_queue()
    thread = new.call_in_thread(mine.put, "from there")
    assert mine.get(timeout=20) == "from there"
    thread.join()
    new.close()
    atoll.create()  # open at exit
    del alive[:], q, recv, send
    sys.exit(0)
check(pid)
assert q.get() == 1 and recv.recv() == 1  # the parent is as it was
for it in alive:
    assert it.call(sum, [1, 2]) == 3
    it.close()
"""

CASES = {
    "the child works": CHILD_WORKS,
    "with busy interpreters": """
for it in alive:
    it.prepare_main(q=q)
    threading.Thread(target=it.exec, args=("while True: pass",), daemon=True).start()
"""
    + CHILD_WORKS.split("check(pid)")[0]
    + "check(pid)\n",
    "with a thread in a wait": """
empty = atoll.create_queue()
threading.Thread(target=empty.get, daemon=True).start()
"""
    + CHILD_WORKS,
    "multiprocessing": """
import multiprocessing
context = multiprocessing.get_context("fork")
with context.Pool(2) as pool:
    assert pool.map(abs, [-1, -2, -3]) == [1, 2, 3]
""",
    "preexec_fn": """
subprocess.run(["true"], preexec_fn=lambda: None, check=True)
subprocess.run(["true"], check=True)
""",
    "a grandchild": """
pid = os.fork()
if pid == 0:
    inner = [atoll.create() for _ in range(2)]
    grandchild = os.fork()
    if grandchild == 0:
        it = atoll.create()
        assert it.call(len, "abc") == 3
        sys.exit(0)
    check(grandchild)
    assert inner[0].call(len, "ab") == 2
    sys.exit(0)
check(pid)
""",
    "Ctrl-C in the child": """
import signal, time
pid = os.fork()
if pid == 0:
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    try: atoll.create_queue().get(timeout=20)
    except KeyboardInterrupt: sys.exit(0)
    sys.exit(5)
check(pid)
""",
    "while others are created and closed": """
stop = threading.Event()
def churn():
    while not stop.is_set(): atoll.create().close()
threads = [threading.Thread(target=churn) for _ in range(2)]
for t in threads: t.start()
for _ in range(10):
    pid = os.fork()
    if pid == 0: os._exit(0)
    check(pid)
stop.set()
for t in threads: t.join()
""",
}


@pytest.mark.parametrize("name", CASES)
def test_fork(name):
    code = START + textwrap.dedent(CASES[name])
    for _ in range(2 * STRESS):
        done = run_python(code, timeout=60)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_an_interpreter_may_not_fork(interp):
    interp.exec(
        "import os\ntry: os.fork()\nexcept RuntimeError: pass\nelse: raise AssertionError"
    )
