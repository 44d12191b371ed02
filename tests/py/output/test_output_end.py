"""What interpreters print when things end: exits, streams that fail, forks."""

import contextlib
import os
import signal
import subprocess
import sys

import pytest
from support import SLACK, UNDER_ASAN, check_python, python_args, python_env, run_python
from test_output import printed

JOB = """
import atoll, sys, threading
ready = atoll.create_queue()
interp = atoll.create()
interp.prepare_main(ready=ready)
threading.Thread(target=interp.exec, daemon=True, args=('''if 1:
    import time
    for n in range(5000): print("line", n)
    print("begun", end="")
    ready.put(1)
    {}
''',)).start()
ready.get()
"""


@pytest.mark.parametrize(
    "code",
    [
        "while True: pass",
        "while True:\n        try: time.sleep(1000)\n        except BaseException: pass",
    ],
    ids=["obeys", "does not end"],
)
def test_exit_in_the_middle_of_a_job(code):
    out = check_python(JOB.format(code))
    assert out.splitlines() == [*(f"line {n}" for n in range(5000)), "begun"]


def test_exit_closes_and_writes():
    out = check_python(
        """
        import atoll
        interp = atoll.create()
        interp.exec("import atexit; atexit.register(print, 'the last'); print('first')")
        print("main")
        """
    )
    assert out.splitlines() == ["first", "main", "the last"]


def test_exit_while_it_prints_for_ever():
    code = JOB.replace("ready.put(1)", "").format(
        """
    while True:
        try: print("more"); ready.put(1)
        except BaseException: pass
    """
    )
    done = run_python(code)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("line 0\n")
    assert done.stdout.splitlines()[5001].endswith("more")


# ------------------------------------------------------- streams that fail


def test_main_has_no_stdout(interp):
    check_python(
        """
        import atoll, sys
        interp = atoll.create()
        sys.stdout = None
        interp.exec("print('nowhere')")
        del sys.stdout
        interp.exec("print('nowhere')")
        sys.stdout = sys.__stdout__
        interp.exec("print('here')")
        """
    )


FAILS = """
import atoll, sys
interp = atoll.create()
x = 1
{}
for n in range(3):
    interp.exec("print('x' * 100_000)")
def answer():
    print(1)
    return x
assert interp.call(answer) == 1
{}
"""


def test_main_s_stdout_is_closed():
    done = run_python(FAILS.format("sys.stdout.close()", ""))
    assert done.returncode == 0
    assert done.stderr.count("I/O operation on closed file") == 1


def test_a_full_disk():
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            python_args("-c", FAILS.format("", "")),
            stdout=full,
            stderr=subprocess.PIPE,
            env=python_env(),
            text=True,
            timeout=30,
            check=False,
        )
    # Reported once by us, and maybe by Python when it flushes at exit.
    assert done.returncode in (0, 120)
    assert done.stderr.count("what interpreters print") == 1
    assert "No space left" in done.stderr


def test_both_streams_fail():
    noise = "interp.exec('import sys; sys.stderr.write(\"e\")')"
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            python_args("-c", FAILS.format(noise, "")),
            stdout=full,
            stderr=full,
            env=python_env(),
            timeout=30,
            check=False,
        )
    assert done.returncode in (0, 120)


def test_a_stream_that_raises(interp):
    """Its error goes where errors go that have no caller, once."""

    class Bad:
        def write(self, text):
            raise RuntimeError("bad stream")

    reports = []
    hook, sys.unraisablehook = sys.unraisablehook, reports.append
    try:
        with contextlib.redirect_stdout(Bad()):
            for _ in range(3):
                interp.exec("print('x')")
        assert [type(r.exc_value) for r in reports] == [RuntimeError]
        reports.clear()
    finally:
        sys.unraisablehook = hook
    assert printed(interp, "print('again')") == "again\n"


def test_a_broken_pipe_ends_the_program():
    """As if it had printed the lines itself."""
    process = subprocess.Popen(
        python_args(
            "-c",
            "import atoll\ninterp = atoll.create()\n"
            "for _ in range(100_000): interp.exec('print(\"x\" * 1000)')",
        ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=python_env(),
    )
    with process:
        assert process.stdout.readline() == b"x" * 1000 + b"\n"
        process.stdout.close()
        err = process.stderr.read()
        assert process.wait(SLACK) in (1, 120)  # Python cannot flush at exit
    assert b"BrokenPipeError" in err


def test_a_pipe_that_nobody_reads_holds_up_but_not_for_ever():
    """Ctrl-C ends a call that waits for main's stdout."""
    process = subprocess.Popen(
        python_args(
            "-c",
            "import atoll, sys\ninterp = atoll.create()\n"
            "try: interp.exec('for n in range(3000): print(\"x\" * 1000)')\n"
            "except KeyboardInterrupt: print('interrupted', file=sys.stderr, flush=True)\n"
            "import os; os._exit(0)",
        ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=python_env(),
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    with process:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        process.send_signal(signal.SIGINT)
        assert process.stderr.readline() == b"interrupted\n"
        process.wait(SLACK)


@pytest.mark.skipif(UNDER_ASAN, reason="limits memory")
def test_an_endless_printer_does_not_fill_the_memory():
    """While main's stdout is held up, so is who prints."""
    process = subprocess.Popen(
        python_args(
            "-c",
            "import atoll, resource\n"
            "resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))\n"
            "atoll.create().exec('while True: print(\"x\" * 10000)')",
        ),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=python_env(),
    )
    with process:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1)
        with open(f"/proc/{process.pid}/statm") as file:
            resident = int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")
        process.kill()
    assert resident < 150 << 20


# ----------------------------------------------------------- main's side


def test_nothing_is_started_for_interpreters_that_are_silent():
    check_python(
        """
        import atoll, sys, threading
        from support import count_threads
        interp = atoll.create()
        before = count_threads()
        interp.exec("x = 1")
        assert count_threads() == before
        assert "atoll._output.drain" not in sys.modules
        interp.exec("print()")
        assert count_threads() == before + 1
        assert threading.enumerate() == [threading.main_thread()]
        assert len(sys._current_frames()) == 1
        interp.close()
        """
    )


def test_a_forked_child_has_main_s_streams():
    out = check_python(
        """
        import atoll, os, sys, warnings
        warnings.simplefilter("ignore")
        interp = atoll.create()
        interp.exec("print('parent')")
        for _ in range(20):
            interp.exec("import _thread\\nfor n in range(50): print('before the fork')")
            sys.stdout.flush()
            pid = os.fork()
            if pid == 0:
                print("child")
                with atoll.create() as mine:
                    mine.exec("print('child there')")
                sys.stdout.flush()
                os._exit(0)
            assert os.waitpid(pid, 0)[1] == 0
        interp.exec("print('parent')")
        """
    )
    lines = out.splitlines()
    assert [line for line in lines if line != "before the fork"] == [
        "parent",
        *["child", "child there"] * 20,
        "parent",
    ]
    assert lines.count("before the fork") == 1000


@pytest.mark.skipif(UNDER_ASAN, reason="ASan cannot fork with threads")
def test_forks_while_others_print():
    check_python(
        """
        import atoll, io, os, sys, threading, warnings
        warnings.simplefilter("ignore")
        sys.stdout = open("/dev/null", "w")
        interp = atoll.create()
        stop = atoll.create_queue()
        interp.prepare_main(stop=stop)
        thread = threading.Thread(
            target=interp.exec, args=("while stop.empty(): print('x' * 100)",))
        thread.start()
        for _ in range(20):
            pid = os.fork()
            if pid == 0:
                print("child", flush=True)
                sys.stdout = io.StringIO()
                with atoll.create() as mine:
                    mine.exec("print('mine')")
                os._exit(sys.stdout.getvalue() != "mine\\n")
            assert os.waitpid(pid, 0)[1] == 0
        stop.put(1)
        thread.join()
        """
    )


@pytest.mark.skipif(UNDER_ASAN, reason="ASan cannot fork with threads")
def test_a_fork_while_the_writer_is_imported():
    """By another thread, whose import the child would wait for."""
    out = check_python(
        """
        import atoll, os, sys, threading, time, warnings
        warnings.simplefilter("ignore")
        class Slow:
            def find_spec(self, name, path=None, target=None):
                if name == "atoll._output.drain":
                    begun.set()
                    time.sleep(0.3)
        begun = threading.Event()
        sys.meta_path.insert(0, Slow())
        interp = atoll.create()
        thread = threading.Thread(
            target=interp.exec, args=("import time; print('there'); time.sleep(1)",))
        thread.start()
        assert begun.wait(10)
        pid = os.fork()
        if pid == 0:
            with atoll.create() as mine:
                mine.exec("print('mine')")
            sys.stdout.flush()
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        thread.join()
        """
    )
    assert set(out.split()) == {"there", "mine"}


def test_used_only_by_an_interpreter_of_the_standard_library():
    """Main has not imported atoll; its stdout gets the lines all the same."""
    out = check_python(
        """
        import _interpreters, sys
        id = _interpreters.create()
        error = _interpreters.exec(id, '''if 1:
            import atoll
            with atoll.create() as interp:
                interp.exec("print('from the third')")
        ''')
        assert error is None, error.errdisplay
        _interpreters.destroy(id)
        """
    )
    assert out == "from the third"
