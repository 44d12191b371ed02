"""Handlers of signals that extension modules set in several interpreters, each in a
process of its own. Main's module is the original, whose calls are the system's."""

import os
import subprocess
import sysconfig

import pytest
from support import HERE, check_python

HEAD = """
import os, signal, sys, threading, time
sys.path.insert(0, {place!r})
import atoll, sigprobe as mine

USR1, TERM, CHLD, SEGV = signal.SIGUSR1, signal.SIGTERM, signal.SIGCHLD, signal.SIGSEGV
SIGINFO, RESTART, RESETHAND = 4, 0x10000000, 0x80000000 - (1 << 32)
LATER = 10

def until(condition, *args):
    end = time.monotonic() + LATER
    while not condition(*args):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.001)

def call(name, *args):
    import sigprobe
    return getattr(sigprobe, name)(*args)

class Copy:
    def __init__(self):
        self.interp = atoll.create()
        self.close = self.interp.close
        self.call(call, "count", 1)
    def call(self, *args):
        return self.interp.call(*args)
    def __getattr__(self, name):
        return lambda *args: self.interp.call(call, name, *args)

def kill(signum=USR1):
    os.kill(os.getpid(), signum)

def bytes_of(fd):
    try:
        return os.read(fd, 100)
    except BlockingIOError:
        return b""

def ends(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

python = []
def note(signum, frame):
    python.append(signum)
"""


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("signals") / "dist-packages"
    folder.mkdir()
    subprocess.run(
        [
            "cc", "-shared", "-fPIC", "-g", "-pthread",
            "-I", sysconfig.get_paths()["include"], f"{HERE}/sigprobe.c",
            "-o", folder / f"sigprobe{sysconfig.get_config_var('EXT_SUFFIX')}",
        ],
        check=True,
    )
    return str(folder)


@pytest.fixture
def check(place):
    def run(code, **kwargs):
        return check_python(HEAD.format(place=place) + code, **kwargs)

    return run


def test_all_have_the_signal(check):
    """Those of two interpreters, in each of the ways, and main's Python handler."""
    check("""
signal.signal(USR1, note)
a, b = Copy(), Copy()
a.handle(USR1, SIGINFO)
b.simply(USR1, 2)
for i in range(1, 50):
    kill()
    until(lambda: a.count(USR1) == b.count(USR1) == len(python) == i)
assert a.facts()[0] == os.getpid()
""")


def test_what_was_there(check):
    """An owner's own, else the process's; and what goes is its own."""
    check("""
signal.signal(USR1, note)
process = mine.query(USR1)
a, b = Copy(), Copy()
assert a.query(USR1) == process
assert a.handle(USR1, SIGINFO) == process
assert b.simply(USR1, 2)[0] == process[0]
first = a.query(USR1)
assert first == a.handle(USR1, SIGINFO | RESTART) != process
assert a.query(USR1) == (first[0], SIGINFO | RESTART)
assert a.simply(USR1, 0) == (first[0], 0) and a.query(USR1) == process
kill(); until(lambda: b.count(USR1) == len(python) == 1)
assert a.count(USR1) == 0
assert b.simply(USR1, 3)[0] == b.facts()[2], "it puts main's back"
assert mine.query(USR1) == process
kill(); until(lambda: len(python) == 2)
assert a.count(USR1) == 0 and b.count(USR1) == 1
""")


def test_main_takes_the_signal_for_itself(check):
    """By calls that nobody sees. The next call of a copy's finds out."""
    check("""
a, b = Copy(), Copy()
a.handle(USR1, SIGINFO); b.handle(USR1, SIGINFO)
kill(); until(lambda: a.count(USR1) == b.count(USR1) == 1)
mine.handle(USR1, SIGINFO)
real = mine.query(USR1)
b.query(USR1)
assert mine.query(USR1) != real
kill(); until(lambda: a.count(USR1) == b.count(USR1) == 2 and mine.count(USR1) == 1)
mine.simply(USR1, 0)
a.query(TERM)
kill(); until(lambda: a.count(USR1) == b.count(USR1) == 3)
assert mine.count(USR1) == 1
""")


def test_main_passes_on_to_what_it_found(check):
    """Which is ours: round in circles, but once."""
    check("""
a = Copy()
a.handle(USR1, SIGINFO)
mine.handle(USR1, SIGINFO, 1)
a.query(USR1)
for i in range(1, 20):
    kill(); until(lambda: a.count(USR1) == mine.count(USR1) == i)
""")


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs pidfd_open")
def test_children_whatever_main_does(check):
    """Owners hear of their children also when main has taken SIGCHLD away."""
    check("""
a, b = Copy(), Copy()
pipes = [a.said_fd(), b.said_fd()]
read, write = os.pipe()
for round in range(20):
    for copy in (a, b):
        copy.handle(CHLD, SIGINFO)
    pids = [copy.child(1, 0, read) for copy in (a, b) for _ in range(3)]
    if round % 2:
        mine.handle(CHLD, 0)
    if round % 3:
        mine.simply(CHLD, 0)
    os.write(write, b"x" * 6)
    for pid in pids:
        assert ends(pid) == 7
    for pipe in pipes:
        until(lambda: bytes_of(pipe))
    for copy in (a, b):
        copy.simply(CHLD, 0)
""")


def test_nothing_is_left_of_watching_children(check):
    check("""
a = Copy()
a.handle(CHLD, SIGINFO)
def state():
    return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))
before = state()
for _ in range(20):
    assert ends(a.child(1, 0, -1)) == 7
until(lambda: state() == before)
assert a.count(CHLD) >= 1
""")


def test_masks_and_flags(check):
    check("""
signal.signal(USR1, note)
a, b = Copy(), Copy()
a.handle(USR1, SIGINFO | RESTART, 0, 1); b.handle(USR1, SIGINFO | RESTART)
kill(); until(lambda: a.count(USR1) == b.count(USR1) == 1)
assert a.facts()[1] == 3 and b.facts()[1] == 2
assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()
assert not mine.query(USR1)[1] & RESTART, "Python's handler has to interrupt calls"
signal.signal(USR1, signal.SIG_DFL)
b.query(USR1)
assert mine.query(USR1)[1] & RESTART
b.handle(USR1, SIGINFO)
assert not mine.query(USR1)[1] & RESTART
""")


def test_a_handler_for_one_time(check, place):
    done = subprocess_of(place, """
a = Copy()
a.handle(TERM, SIGINFO | RESETHAND)
kill(TERM); until(lambda: a.count(TERM) == 1)
print("once", flush=True)
kill(TERM)
time.sleep(LATER)
""")
    assert (done.returncode, done.stdout, done.stderr) == (-15, "once\n", "")


def subprocess_of(place, code):
    from support import run_python

    return run_python(HEAD.format(place=place) + code)


@pytest.mark.parametrize("how", ["simply(TERM, 0)", "close()"])
def test_without_handlers_the_default_is_due(place, how):
    done = subprocess_of(place, f"""
a, b = Copy(), Copy()
a.handle(TERM, SIGINFO); b.handle(TERM, SIGINFO)
a.{how}
kill(TERM); until(lambda: b.count(TERM) == 1)
b.{how}
assert mine.query(TERM) == (0, 0)
print("twice", flush=True)
kill(TERM)
time.sleep(LATER)
""")
    assert (done.returncode, done.stdout, done.stderr) == (-15, "twice\n", "")


def test_ignored_if_nobody_minds(check):
    check("""
a, b = Copy(), Copy()
signal.signal(USR1, note)
a.simply(USR1, 1)
kill(); until(lambda: python == [USR1])
signal.signal(USR1, signal.SIG_DFL)
b.handle(USR1, SIGINFO)
a.simply(USR1, 1)
kill(); until(lambda: b.count(USR1) == 1)
b.simply(USR1, 0)
assert mine.query(USR1)[0] == 1
kill()
a.simply(CHLD, 1)
assert mine.query(CHLD)[0] == 0
""")


def test_children_reset_for_real(check):
    """Before they start their program; and no handler runs in them by then."""
    check("""
a, b = Copy(), Copy()
a.handle(USR1, SIGINFO); b.handle(USR1, SIGINFO); b.handle(TERM, 0)
for copy in (a, b):
    for reset in (0, 1):
        assert ends(copy.child(reset, USR1, -1)) == -USR1
        assert ends(copy.child(reset, TERM, -1)) == -TERM
        assert ends(copy.child(reset, 0, -1)) == 7
kill(); until(lambda: a.count(USR1) == b.count(USR1) == 1)
""")


def test_mains_fork_hook_is_not_for_other_children(check):
    """Of a library of main's: it would do there what is due in a child of main's."""
    check("""
a, b = Copy(), Copy()
assert mine.hook() == b.hook() == 0
assert ends(mine.child(0, 0, -1)) == 10
assert ends(a.child(1, 0, -1)) == 7
assert ends(b.child(1, 0, -1)) == 10
assert ends(mine.child(0, 0, -1)) == 10
""")


def test_a_forked_main_has_no_owners(check):
    """And can have some again."""
    check("""
import warnings
warnings.simplefilter("ignore")
signal.signal(USR1, note)
a = Copy()
a.handle(USR1, SIGINFO); a.handle(CHLD, SIGINFO)
def work():
    kill(); until(lambda: python == [USR1])
    b = Copy()
    b.handle(USR1, SIGINFO); b.handle(CHLD, SIGINFO)
    kill(); until(lambda: b.count(USR1) == 1 and python == [USR1, USR1])
    assert ends(b.child(1, 0, -1)) == 7
    until(lambda: b.count(CHLD) >= 1)
    b.close()
pid = os.fork()
if pid == 0:
    try:
        work()
        os._exit(0)
    finally:
        os._exit(1)
assert ends(pid) == 0
kill(); until(lambda: a.count(USR1) == 1)
""")


def test_close_while_signals_come(check):
    """Handlers are taken away before their code is, whoever is inside."""
    check("""
signal.signal(USR1, note)
over = False
def send():
    while not over:
        kill()
        mine.take(USR1)
thread = threading.Thread(target=send)
thread.start()
for i in range(30):
    made = [Copy() for _ in range(3)]
    for copy in made:
        copy.handle(USR1, SIGINFO if i % 2 else 0)
    for copy in made:
        until(lambda: copy.count(USR1) > 3)
        if i % 3 == 0:
            copy.simply(USR1, 0)
        copy.close()
over = True
thread.join()
assert python
""", timeout=120)


def test_close_waits_for_a_handler(check):
    check("""
a = Copy()
read, write = os.pipe()
a.hold_on(read)
a.handle(USR1, SIGINFO)
said = a.said_fd()
taker = threading.Thread(target=mine.take, args=(USR1,))
taker.start()
os.set_blocking(said, True); os.read(said, 1)
closer = threading.Thread(target=a.close)
closer.start()
closer.join(0.3)
assert closer.is_alive()
os.write(write, b"x")
closer.join(LATER); taker.join(LATER)
assert not closer.is_alive() and not taker.is_alive()
""")


def test_close_when_a_handler_does_not_return(check):
    """The code stays, so that it may return later."""
    check("""
a = Copy()
read, write = os.pipe()
a.hold_on(read)
a.handle(USR1, SIGINFO)
said = a.said_fd()
taker = threading.Thread(target=mine.take, args=(USR1,))
taker.start()
os.set_blocking(said, True); os.read(said, 1)
a.close()
os.write(write, b"x")
taker.join(LATER)
assert not taker.is_alive()
b = Copy()
b.handle(USR1, SIGINFO)
kill(); until(lambda: b.count(USR1) == 1)
""")


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["as made", "reversed"])
def test_handlers_of_faults_go_with_their_interpreter(check, order):
    check(f"""
before = mine.query(SEGV)
copies = [Copy(), Copy()]
assert copies[0].handle(SEGV, SIGINFO) == before
assert copies[1].handle(SEGV, SIGINFO) != before
assert mine.query(SEGV) == copies[1].query(SEGV)
copies[{order[0]}].close()
assert (mine.query(SEGV) == before) is False
copies[{order[1]}].close()
assert mine.query(SEGV) == before
""")


def test_set_and_reset_from_all_at_once(check):
    """While the signal comes and main sets and resets its own."""
    check("""
import warnings
a, b, c = copies = Copy(), Copy(), Copy()
for copy in copies:
    copy.handle(CHLD, SIGINFO)
def work(n):
    import os, sigprobe
    for i in range(n):
        sigprobe.handle(17, 4)
        pid = sigprobe.child(1, 0, -1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
        sigprobe.simply(17, 0)
threads = [copy.interp.call_in_thread(work, 100) for copy in copies]
before = mine.count(CHLD)
while any(thread.is_alive() for thread in threads):
    mine.handle(CHLD, SIGINFO)
    pid = mine.child(0, 0, -1)
    assert ends(pid) == 7
    until(lambda: mine.count(CHLD) > before)
    before = mine.count(CHLD)
    mine.simply(CHLD, 0)
for copy in copies:
    copy.close()
""", timeout=120)
