"""What cannot be ended holds nobody: interpreters with threads that go on are left."""

import signal
import subprocess
import textwrap
import time

import atoll
import pytest
from atoll import _core
from support import (
    SLACK,
    check_python,
    leaves_interpreters,
    python_args,
    python_env,
    run_python,
    until,
)

# What a task, an initializer or a library leaves behind, and how it is named.
LEAVERS = {
    "daemon asleep": (
        "threading.Thread(target=time.sleep, args=(1000,), daemon=True, name='pulse')",
        "'pulse' (daemon)",
    ),
    "thread asleep": (
        "threading.Thread(target=time.sleep, args=(1000,), name='pulse')",
        "'pulse'",
    ),
    "thread in a lock": (
        "threading.Thread(target=held.acquire, name='pulse')",
        "'pulse'",
    ),
    "raw thread": ("_thread.start_new_thread(time.sleep, (1000,))", "does not know"),
    "pool of threads": (
        "keep.append(ThreadPoolExecutor(1, 'pulse')), keep[0].submit(time.sleep, 1000)",
        "'pulse_0'",
    ),
    "exit handler": ("atexit.register(time.sleep, 1000)", "exit handlers"),
    "destructor": ("keep.append(Slow())", "destructors"),
}
TASK = """
import _thread, atexit, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
held = threading.Lock()
held.acquire()
keep = sys.kept = []
class Slow:
    def __del__(self, sleep=time.sleep):
        sleep(1000)
begun = {leaver}
if isinstance(begun, threading.Thread):
    begun.start()
"""
ENDS = {
    "with": """
        with atoll.InterpreterPoolExecutor(1) as pool:
            print(pool.submit(exec, task, {}).result())
    """,
    "initializer": """
        with atoll.InterpreterPoolExecutor(1, initializer=exec, initargs=(task, {})) as p:
            print(p.submit(int).result() or None)
    """,
    "stop": """
        pool = atoll.InterpreterPoolExecutor(1)
        print(pool.submit(exec, task, {}).result())
        pool.stop()
    """,
    "worn out": """
        with atoll.InterpreterPoolExecutor(1, max_tasks_per_child=1) as pool:
            print(pool.submit(exec, task, {}).result())
            pool.submit(int).result()
    """,
    "spawn": "print(atoll.spawn(exec, task, {}).result())",
    "submit": "i = atoll.create(); print(i.submit(exec, task, {}).result())",
    "exec": "i = atoll.create(); i.exec(task); print(None)",
    "dropped": "i = atoll.create(); i.exec(task); del i; print(None)",
}


@leaves_interpreters
def test_the_program_goes_on():
    """Every way to end, one after the other, in one program for each of those; a limit of
    0.5 s for what only the limit ends. What is left is named."""
    begin = time.monotonic()
    programs = {}
    for leaver, (code, _) in LEAVERS.items():
        script = f"import atoll\ntask = {TASK.format(leaver=code)!r}\n"
        for end in ways(leaver):
            body = textwrap.indent(textwrap.dedent(ENDS[end]), "    ")
            script += f"def end():\n{body}\nend()\n"
        programs[leaver] = start(script, "0.5")
    for leaver, (_, name) in LEAVERS.items():
        out, err = finish(programs[leaver])
        assert programs[leaver].returncode == 0, err
        assert out.split() == ["None"] * len(ways(leaver)), leaver
        lines = err.splitlines()
        assert all("left to itself" in line and name in line for line in lines), lines
        # Those that end with the program may say nothing.
        assert len(lines) >= len(ways(leaver)) - 2
    assert time.monotonic() - begin < 4 * SLACK


def ways(leaver):
    return ENDS if leaver == "daemon asleep" else ["with", "spawn", "exec", "dropped"]


def start(script, limit):
    return subprocess.Popen(
        python_args("-c", script),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=python_env(ATOLL_CLOSE_LIMIT=limit),
        text=True,
    )


def finish(process):
    """What it has printed, within a minute; it is over in any case."""
    try:
        return process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()


def test_one_that_ends_is_waited_for():
    """Threads that are no daemons, within the limit, and what they print."""
    done = run_python(
        """
        import atoll
        def task():
            import threading, time
            def work():
                time.sleep(0.7)
                print("worked")
            threading.Thread(target=work).start()
        with atoll.InterpreterPoolExecutor(1) as pool:
            pool.submit(task).result()
        print("with")
        atoll.spawn(task).result()
        keep = atoll.create()
        keep.call(task)
        """
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["worked", "with", "worked", "worked"]


def leave_thread(seconds):
    import threading
    import time

    def loop():
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(0.01)

    threading.Thread(target=loop, daemon=True, name="beat").start()


def leave_sleeper(seconds):
    import threading
    import time

    threading.Thread(target=time.sleep, args=(seconds,), daemon=True, name="nap").start()


def test_a_daemon_thread_that_runs_is_ended():
    interp = atoll.create()
    interp.call(leave_thread, 1000)
    interp.close()
    with pytest.raises(atoll.InterpreterNotFoundError):
        interp.is_running()


def test_close_says_which_threads_are_in_the_way():
    interp = atoll.create()
    interp.call(leave_sleeper, 2.5)
    with pytest.raises(atoll.InterpreterError, match=r"'nap' \(daemon\)"):
        interp.close()
    assert interp.call(int) == 0  # it is there again
    until(lambda: _closes(interp))


def _closes(interp):
    try:
        interp.close()
    except atoll.InterpreterError:
        return False
    return True


def test_close_with_a_timeout_says_it_too():
    interp = atoll.create()
    interp.exec(
        "import threading, time\n"
        "threading.Thread(target=time.sleep, args=(1,), name='nap').start()"
    )
    with pytest.raises(atoll.InterpreterError, match="'nap'"):
        interp.close(0.1)
    interp.close(SLACK)


def test_one_that_is_left_ends_with_its_threads(capfd):
    """And is counted until then."""
    with atoll.InterpreterPoolExecutor(1, name="forge") as pool:
        id = pool.submit(leave_sleeper, 2).result() or pool.stats().workers[0].interpreter
    text = ""
    end = time.monotonic() + SLACK
    while "left to itself" not in text and time.monotonic() < end:
        time.sleep(0.01)
        text += capfd.readouterr().err
    assert f"interpreter {id} 'forge'" in text and "'nap' (daemon)" in text
    assert pool.stats().abandoned == 1
    assert id not in [interp.id for interp in atoll.list_all()]
    until(lambda: pool.stats().abandoned == 0)
    assert _core._find_home(id, True) is None


def test_one_that_is_left_is_not_waited_for_without_a_limit(capfd):
    """A thread that threading does not know may come in when the close has begun."""
    interp, over = atoll.create(), atoll.Event()
    interp.prepare_main(over=over)
    interp.exec("import _thread; _thread.start_new_thread(over.wait, ())")
    # Nobody waits for what this begins; in the place of a thread that is late, an exit
    # handler starts another.
    interp.exec("import atexit; atexit.register(_thread.start_new_thread, over.wait, ())")
    with pytest.raises(atoll.InterpreterError):
        interp.close(0)
    end = time.monotonic() + SLACK
    while "left to itself" not in capfd.readouterr().err and time.monotonic() < end:
        time.sleep(0.01)
    with pytest.raises(atoll.InterpreterError, match=r"left to itself.*threads? that"):
        interp.close()
    over.set()
    interp.close(SLACK)


@leaves_interpreters
def test_a_call_in_a_thread_that_does_not_end():
    """It is stopped after the limit; one that ends is waited for."""
    begin = time.monotonic()
    done = run_python(
        """
        import atoll, time
        def work():
            import time
            time.sleep(0.3)
            print("worked")
        a, b, c = atoll.create("stuck"), atoll.create("busy"), atoll.create("good")
        a.call_in_thread(time.sleep, 1000)
        b.call_in_thread(exec, "while True: pass", {})
        c.call_in_thread(work)
        """,
        env=python_env(ATOLL_CLOSE_LIMIT="0.8"),
    )
    assert (done.returncode, done.stdout) == (0, "worked\n")
    lines = sorted(done.stderr.splitlines())
    assert [line.split(":")[1] for line in lines] == [" busy.call", " stuck.call"], lines
    assert time.monotonic() - begin < SLACK


WAITS = [
    "with pool: pool.submit(time.sleep, 1000)",
    "pool.submit(time.sleep, 1000)",
    "with pool: pool.submit(exec, task)",
    "pool.submit(exec, task)",
    "i = atoll.create(); i.exec(task)",
    "i = atoll.create(); i.call_in_thread(time.sleep, 1000)",
    "i = atoll.create(); i.exec(task); i.close()",
    "i = atoll.create(); i.exec('import atexit, time; atexit.register(time.sleep, 1000)')",
]


@leaves_interpreters
def test_two_interrupts_end_it():
    """Ctrl-C twice, whatever it waits for: the end is there within a second."""
    begin = (
        "import atoll, signal, time\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "task = 'import threading, time\\n"
        "threading.Thread(target=time.sleep, args=(1000,)).start()'\n"
        "pool = atoll.InterpreterPoolExecutor(1, exit_grace=None, grace=None)\n"
        "pool.submit(int).result()\n"
        "print(flush=True)\n"
    )
    programs = [start(begin + code, "inf") for code in WAITS]
    try:
        for process in programs:
            process.stdout.readline()
        time.sleep(0.5)
        for process in programs:
            assert process.poll() is None  # it waits
            process.send_signal(signal.SIGINT)
        time.sleep(0.5)
        for process in programs:
            process.send_signal(signal.SIGINT)
        begin = time.monotonic()
        for process in programs:
            process.communicate(timeout=SLACK)
        took = time.monotonic() - begin
    finally:
        for process in programs:
            process.kill()
            process.wait()
    assert took < 2  # one second each, on a machine that does nothing else


@leaves_interpreters
def test_an_interrupt_at_exit_while_one_starts(tmp_path):
    (tmp_path / "slowly.py").write_text("import time\ntime.sleep(1.5)\n")
    script = (
        "import atoll, sys, threading, time\n"
        f"sys.path.insert(0, {str(tmp_path)!r})\n"
        "def make():\n"
        "    try: atoll.create(preload=('slowly',))\n"
        "    except atoll.InterpreterError: pass\n"
        "threading.Thread(target=make, daemon=True).start()\n"
        "time.sleep(0.4)\n"
        "print(flush=True)\n"
    )
    process = start(script, "5")
    process.stdout.readline()
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, err = finish(process)
    assert process.returncode in (0, 1, -signal.SIGINT), err
    assert "Fatal" not in err and "Segmentation" not in err


def test_bad_limits_are_told():
    done = run_python("import atoll", env=python_env(ATOLL_CLOSE_LIMIT="soon"))
    assert done.returncode == 0
    assert "ATOLL_CLOSE_LIMIT" in done.stderr and "'soon'" in done.stderr


def test_a_daemon_thread_whose_start_was_interrupted():
    """It is among the threads, and cannot be joined yet."""
    check_python(
        """
        import atoll
        with atoll.create() as interp:
            interp.exec('''if 1:
                import threading, time
                begins = threading.Thread(target=int, daemon=True)
                threading._limbo[begins] = begins
                threading.Thread(target=time.sleep, args=(0.2,), daemon=True).start()''')
        """
    )
