"""The end of the process, whatever interpreters do at that time."""

import signal
import subprocess
import textwrap
import time

import pytest
from support import (
    HERE,
    STRESS,
    check_python,
    leaves_interpreters,
    python_args,
    python_env,
    run_python,
)

START = '''
import atoll, os, sys, threading, time
ready = atoll.create_queue()
def start(code, count=1):
    for _ in range(count):
        interp = atoll.create()
        interp.prepare_main(ready=ready)
        # Not while it is interrupted: Python's import system has weakref callbacks,
        # and what is raised in one is only printed.
        interp.exec("import atoll, threading, time")
        thread = threading.Thread(target=interp.exec, daemon=True,
                                  args=("ready.put(1)\\n" + code,))
        thread.start()
        ready.get()
        keep.append(interp)
def start_raw(interp, code):
    # Until it runs: CPython's own beginning of a thread is fatal at the end of the
    # process, when the keys of threads have been deleted.
    interp.prepare_main(ready=ready)
    interp.exec(f"""if 1:
        import _thread, atoll, time
        def run():
            ready.put(1)
            {code}
        _thread.start_new_thread(run, ())""")
    ready.get()
keep = []
'''

CASES = {
    "idle": "keep = [atoll.create() for _ in range(100)]",
    "loops": "start('while True: pass', 3)",
    "blocked in get": "start('atoll.create_queue().get()', 3)",
    "blocked in send": "start('r, s = atoll.create_channel(); s.send(1)', 3)",
    "sleeping": "start('time.sleep(1000)', 2)",
    "in a lock": (
        "start('import _thread; l = _thread.allocate_lock(); l.acquire(); l.acquire()')"
    ),
    "stubborn loop": """
start('''while True:
    try:
        while True: pass
    except BaseException: pass''', 2)""",
    "stubborn imports": """
start('''import sys
while True:
    try:
        while True:  # what it uses is shared with main, which is being taken apart
            for name in ("json.decoder", "json", "string", "textwrap", "dataclasses"):
                sys.modules.pop(name, None)
                __import__(name)
            try: object().nothing
            except AttributeError as exc: str(exc)
    except BaseException: pass''', 3)""",
    "stubborn get": """
start('''q = atoll.create_queue()
while True:
    try: q.get()
    except BaseException: pass''', 2)""",
    "nested call": (
        "start('i = atoll.create(); i.exec(\"import time; time.sleep(1000)\")')"
    ),
    "threads that end": """
for _ in range(3):
    keep.append(atoll.create())
    keep[-1].exec('import threading, time\\n'
                  'threading.Thread(target=time.sleep, args=(0.3,)).start()')""",
    "a busy thread that ends": """
start('''def work():
    end = time.monotonic() + 0.3
    while time.monotonic() < end: pass
threading.Thread(target=work).start()
while True: pass''')""",
    "raw thread asleep": """
keep = [atoll.create()]
start_raw(keep[0], "time.sleep(1000)")""",
    "raw thread blocked in get": """
keep = [atoll.create()]
start_raw(keep[0], "atoll.create_queue().get()")""",
    "dropped, with a raw thread": """
it = atoll.create()
start_raw(it, "time.sleep(1000)")
del it""",
    "daemon threads that create": """
def loop():
    while True:
        try: atoll.create().close()
        except atoll.InterpreterError: pass
for _ in range(3): threading.Thread(target=loop, daemon=True).start()
time.sleep(0.1)""",
    "daemon threads that run": """
def loop(it):
    while True:
        try: it.exec('x = sum(range(1000))')
        except atoll.InterpreterError: pass
for _ in range(2):
    keep.append(atoll.create())
    threading.Thread(target=loop, args=(keep[-1],), daemon=True).start()
    threading.Thread(target=loop, args=(keep[-1],), daemon=True).start()
time.sleep(0.1)""",
    "daemon threads blocked": """
q = atoll.create_queue(1); q.put(1)
r, s = atoll.create_channel()
for wait in (atoll.create_queue().get, lambda: q.put(2), r.recv):
    threading.Thread(target=wait, daemon=True).start()
time.sleep(0.05)""",
    "messages with everything": """
q = atoll.create_queue()
q.put((q, atoll.create_channel(), [atoll.create()], 'x' * 100_000))
r, s = atoll.create_channel(5); s.send([r, s, q])
globals_of_main = (q, r, s)""",
    "handles in a circle": """
a, b = atoll.create(), atoll.create()
a.prepare_main(b=b); b.prepare_main(a=a)
del a, b""",
    "exit in the middle": "start('while True: pass'); sys.exit(0)",
    "exit handlers of ours": """
import atexit
def late():
    for call in (atoll.create, lambda: keep[0].exec('1')):
        try: call()
        except (atoll.InterpreterError, atoll.InterpreterNotFoundError): pass
q = atoll.create_queue()
atexit.register(late)
atexit.register(q.put, 1)
keep.append(atoll.create())""",
    "exit handlers there": """
keep.append(atoll.create())
keep[0].exec('import atexit; atexit.register(print, end="")')""",
    "stdout closed": "start('while True: pass'); sys.stdout.close(); os.close(1)",
}

# Its close may come to nothing before the exit begins: then it says so.
DROPPED = "dropped, with a raw thread"

# What runs there cannot be stopped, so the interpreter is there until the process is not.
ABANDONED = (
    "sleeping",
    "in a lock",
    "stubborn loop",
    "stubborn imports",
    "stubborn get",
    "raw thread asleep",
    "raw thread blocked in get",
    DROPPED,
)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=leaves_interpreters if name in ABANDONED else ())
        for name in CASES
    ],
)
def test_exit(name):
    """Status 0, not a word, and soon. Several at once, for more bad luck."""
    code = START + textwrap.dedent(CASES[name])
    together, rounds = 3, STRESS
    best = 99.0
    for _ in range(rounds):
        begin = time.monotonic()
        running = [
            subprocess.Popen(
                python_args("-c", code),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=python_env(),
            )
            for _ in range(together)
        ]
        try:
            for process in running:
                out, err = process.communicate(timeout=40)
                if name == DROPPED and b"is left to itself" in err:
                    err = b""
                assert (process.returncode, out, err) == (0, b"", b"")
        finally:
            for process in running:
                process.kill()
                process.communicate()
        best = min(best, time.monotonic() - begin)
    # Alone each takes about 1 s at most: that is the grace for what is busy.
    assert best < 15


@leaves_interpreters
def test_ctrl_c_ends_the_patience_at_exit():
    """A thread that never ends is waited for, until Ctrl-C."""
    code = START + textwrap.dedent(
        """
        it = atoll.create()
        it.exec('''if 1:
            import threading, atoll
            threading.Thread(target=atoll.create_queue().get).start()''')
        print("leaving", flush=True)
        """
    )
    process = subprocess.Popen(
        python_args("-c", code),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=python_env(),
        text=True,
    )
    try:
        assert process.stdout.readline() == "leaving\n"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)
        process.send_signal(signal.SIGINT)
        process.wait(20)
        assert process.returncode in (0, 1, -signal.SIGINT)
    finally:
        process.kill()
        process.communicate()


def test_the_status_is_the_program_s():
    for code, status in (("sys.exit(7)", 7), ("raise SystemExit(3)", 3), ("1/0", 1)):
        done = run_python(START + f"start('while True: pass')\n{code}")
        assert done.returncode == status
        assert ("ZeroDivisionError" in done.stderr) == (status == 1)
        assert "KeyboardInterrupt" not in done.stderr


def test_what_is_still_in_a_pipe_is_flushed():
    out = check_python(
        START
        + """
keep.append(atoll.create())
keep[0].exec("print('from there', end='')")
"""
    )
    assert out == "from there"


FOREIGN = """
import _interpreters, sys, warnings
warnings.simplefilter("ignore")
assert "atoll" not in sys.modules
id = _interpreters.create()
error = _interpreters.exec(id, '''if 1:
    import atoll, threading
    {}
''')
assert error is None, error.errdisplay
"""


@pytest.mark.parametrize(
    "code",
    [
        "x = [atoll.create() for _ in range(20)]\n"
        "    for i in x: i.exec('import sqlite3')",
        "x = atoll.create(); q = atoll.create_queue(); x.prepare_main(q=q)\n"
        "    def run():\n"
        "        try: x.exec('q.put(1)\\nwhile True: pass')\n"
        "        except BaseException: pass\n"
        "    threading.Thread(target=run).start()\n"
        "    q.get()",
    ],
    ids=["idle", "busy"],
)
def test_used_only_by_an_interpreter_of_the_standard_library(code):
    """The main interpreter has never imported atoll."""
    code = FOREIGN.format(code.replace("\\", "\\\\"))
    for _ in range(3):
        done = run_python(code, timeout=40)
        assert done.returncode == 0, done.stderr
        assert "Fatal" not in done.stderr


def test_killed_by_a_signal():
    """Nothing of ours is in the way of dying."""
    code = START + "start('while True: pass', 2)\nprint('up', flush=True)\nready.get()"
    for sig in (signal.SIGTERM, signal.SIGKILL, signal.SIGINT):
        process = subprocess.Popen(
            python_args("-c", code),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=python_env(),
            cwd=HERE,
        )
        try:
            assert process.stdout.readline() == b"up\n"
            process.send_signal(sig)
            assert process.wait(20) == -sig
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
