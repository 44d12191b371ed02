"""What interpreters print arrives at main's streams: line by line, in order."""

import contextlib
import io
import subprocess
import sys
import threading
import time

import atoll
import pytest
from support import SLACK, check_python, python_args, python_env, until


def printed(interp, code, name="stdout"):
    """What main's stream gets while `code` runs there."""
    redirect = getattr(contextlib, f"redirect_{name}")
    with redirect(io.StringIO()) as file:
        interp.exec(code)
        return file.getvalue()


# ------------------------------------------------------------- whole lines


def test_lines_of_many_interpreters_are_whole_and_in_order():
    out = check_python(
        """
        import atoll, threading
        def work(interp, name):
            interp.prepare_main(name=name)
            interp.exec("for n in range(1000): print(name, n, 'x' * 500, 'y' * 500)")
        interps = [atoll.create() for _ in range(8)]
        threads = [threading.Thread(target=work, args=(interp, f"i{n}"))
                   for n, interp in enumerate(interps)]
        for t in threads: t.start()
        for t in threads: t.join()
        """
    )
    seen = {}
    for line in out.splitlines():
        name, n, x, y = line.split(" ")
        assert (x, y) == ("x" * 500, "y" * 500)
        seen.setdefault(name, []).append(int(n))
    assert seen == {f"i{n}": list(range(1000)) for n in range(8)}


def test_lines_of_threads_of_one_interpreter_are_whole(interp):
    out = printed(
        interp,
        """if 1:
        import sys, threading
        def work(name):
            for n in range(300):
                for part in (name, " ", str(n), " ", "x" * 50, "\\n"):
                    sys.stdout.write(part)
        threads = [threading.Thread(target=work, args=(f"t{n}",)) for n in range(4)]
        for t in threads: t.start()
        for t in threads: t.join()
        """,
    )
    seen = {}
    for line in out.splitlines():
        name, n, x = line.split(" ")
        assert x == "x" * 50
        seen.setdefault(name, []).append(int(n))
    assert seen == {f"t{n}": list(range(300)) for n in range(4)}


def test_each_thread_has_its_own_line(interp):
    out = printed(
        interp,
        """if 1:
        import sys, threading
        turn = [threading.Event(), threading.Event()]
        def work():
            sys.stdout.write("a")
            turn[0].set()
            turn[1].wait()
            sys.stdout.write("c\\n")
        thread = threading.Thread(target=work)
        thread.start()
        turn[0].wait()
        sys.stdout.write("b\\n")
        turn[1].set()
        thread.join()
        """,
    )
    assert out == "b\nac\n"


def test_order_with_what_main_prints():
    out = check_python(
        """
        import atoll
        interp = atoll.create()
        for n in range(200):
            print("main", n)
            interp.exec(f"print('there', {n})")
        """
    )
    assert out.splitlines() == [f"{who} {n}" for n in range(200) for who in ("main", "there")]


def test_stdout_and_stderr_keep_their_order(interp):
    both = io.StringIO()
    with contextlib.redirect_stdout(both), contextlib.redirect_stderr(both):
        interp.exec(
            "import sys\n"
            "for n in range(100): print(n, file=(sys.stdout, sys.stderr)[n % 2])"
        )
    assert both.getvalue().split() == [str(n) for n in range(100)]


# ------------------------------------------------- before the call returns


def test_all_is_there_when_the_call_returns(interp):
    def speak(text):
        print(text)
        return text

    file = io.StringIO()
    with contextlib.redirect_stdout(file):
        for n in range(300):
            assert interp.call(speak, f"line {n}") == f"line {n}"
            assert file.getvalue().endswith(f"line {n}\n")


def test_all_is_there_when_the_call_raises(interp):
    def no_result():
        print("no result")
        return (n for n in ())

    file = io.StringIO()
    with contextlib.redirect_stdout(file):
        with pytest.raises(atoll.ExecutionFailed):
            interp.exec("print('before'); 1/0")
        assert file.getvalue() == "before\n"
        with pytest.raises(atoll.NotShareableError):
            interp.call(no_result)
    assert file.getvalue() == "before\nno result\n"


def test_all_is_there_when_close_returns():
    file = io.StringIO()
    with contextlib.redirect_stdout(file):
        interp = atoll.create()
        interp.exec(
            "import atexit, threading, time\n"
            "class Last:\n"
            "    def __del__(self): print('finalised')\n"
            "last = Last()\n"
            "def late():\n"
            "    time.sleep(0.05); print('thread', end='')\n"
            "threading.Thread(target=late).start()\n"
            "atexit.register(print, ' exit handler')"
        )
        interp.close()
        assert file.getvalue() == "thread exit handler\nfinalised\n"


def test_what_an_interpreter_of_an_interpreter_prints(interp):
    out = printed(
        interp,
        "import atoll\n"
        "print('outer')\n"
        "with atoll.create() as inner:\n"
        "    inner.exec('print(\"inner\")')\n"
        "print('outer again')",
    )
    assert out == "outer\ninner\nouter again\n"


def test_only_the_inner_one_prints(interp):
    out = printed(
        interp,
        "import atoll\n"
        "with atoll.create() as inner:\n"
        "    inner.exec('print(\"inner\")')",
    )
    assert out == "inner\n"


# ------------------------------------------------------------------- live


def test_lines_come_while_the_code_runs(interp):
    go = atoll.create_queue()
    interp.prepare_main(go=go)
    file = io.StringIO()
    with contextlib.redirect_stdout(file):
        thread = threading.Thread(
            target=interp.exec,
            args=("print('one'); print('part', end='', flush=True); go.get(); print()",),
        )
        thread.start()
        until(lambda: file.getvalue() == "one\npart")
        go.put(1)
        thread.join()
        assert file.getvalue() == "one\npart\n"


def test_live_while_main_waits_in_exec():
    """In a process, since it is main's main thread that has to be blocked."""
    process = subprocess.Popen(
        python_args(
            "-u",
            "-c",
            "import atoll\natoll.create().exec('import sys\\nprint(\"up\")\\n"
            "print(sys.stdin.readline())')",
        ),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=python_env(),
        text=True,
    )
    with process:
        assert process.stdout.readline() == "up\n"
        out, _ = process.communicate("answer\n", timeout=SLACK)
    assert (out, process.returncode) == ("answer\n\n", 0)


def test_a_line_that_is_not_complete_waits(interp):
    """Unless somebody flushes it, as on a terminal."""
    ready, go = atoll.create_queue(), atoll.create_queue()
    interp.prepare_main(ready=ready, go=go)
    file = io.StringIO()
    with contextlib.redirect_stdout(file):
        thread = threading.Thread(
            target=interp.exec,
            args=("print('a', end=''); ready.put(1); go.get(); print('b')",),
        )
        thread.start()
        ready.get()
        time.sleep(0.05)
        assert file.getvalue() == ""
        go.put(1)
        thread.join()
    assert file.getvalue() == "ab\n"


def test_flush_flushes_main():
    process = subprocess.Popen(
        python_args(
            "-c",
            "import atoll\ni = atoll.create()\n"
            "i.exec('import sys; print(\"kept\"); print(\"out\", flush=True)')\n"
            "i.exec('import sys; sys.stdin.readline()')",
        ),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=python_env(),
        text=True,
    )
    with process:
        # Without the flush both lines stay in main's buffer until its end.
        assert process.stdout.readline() == "kept\n"
        assert process.stdout.readline() == "out\n"
        process.communicate("\n", timeout=SLACK)


# ---------------------------------------------------------- partial lines


def test_partial_lines(interp):
    file = io.StringIO()
    with contextlib.redirect_stdout(file):
        interp.exec("print('a', end=''); print('b', 'c', end='!')")
        assert file.getvalue() == "ab c!"
        interp.exec(
            "import sys; sys.stdout.write('x\\ny')\n"
            "sys.stdout.writelines(['z', '\\n'])"
        )
        assert file.getvalue() == "ab c!x\nyz\n"
        interp.exec("print(end=''); print('', end=''); print('\\r50%', end='')")
    assert file.getvalue() == "ab c!x\nyz\n\r50%"


def test_a_thread_that_ends_leaves_its_line(interp):
    out = printed(
        interp,
        "import threading\n"
        "t = threading.Thread(target=print, args=('rest',), kwargs={'end': ''})\n"
        "t.start(); t.join()",
    )
    assert out == "rest"


def test_one_line_of_a_megabyte(interp):
    assert printed(interp, "for _ in range(1000): print('x' * 1000, end='')\nprint()") == (
        "x" * 1_000_000 + "\n"
    )


# ---------------------------------------------------- main's current streams


def test_redirect_stdout_and_stderr(interp):
    assert printed(interp, "print('to stdout')") == "to stdout\n"
    code = "import sys; print('to stderr', file=sys.stderr)"
    assert printed(interp, code, "stderr") == "to stderr\n"
    assert printed(interp, code) == ""


def test_capsys(interp, capsys):
    interp.exec("import sys; print('o'); sys.stderr.write('e')")
    assert capsys.readouterr() == ("o\n", "e")


def test_capfd(interp, capfd):
    interp.exec("import sys; print('o'); sys.stderr.write('e')")
    assert capfd.readouterr() == ("o\n", "e")


def test_a_stream_that_is_replaced_there_rules(interp):
    out = printed(
        interp,
        """if 1:
        import contextlib, io, sys
        with contextlib.redirect_stdout(io.StringIO()) as f:
            print('inside')
        assert f.getvalue() == 'inside\\n'
        sys.stdout = f
        print('inside')
        sys.stdout = sys.__stdout__
        print('outside')
        """,
    )
    assert out == "outside\n"


def test_a_stream_that_uses_the_interpreter(interp):
    """In main's write(), a call is possible; what it prints comes later."""

    class Stream(io.StringIO):
        busy = False

        def write(self, text):
            if not self.busy:
                self.busy = True
                interp.exec("print('inner')")
            return super().write(text)

    file = Stream()
    with contextlib.redirect_stdout(file):
        interp.exec("print('outer')")
        until(lambda: file.getvalue() == "outer\ninner\n")


# ------------------------------------------------------------ other output


def test_errors_of_threads_and_finalisers(interp):
    err = printed(
        interp,
        """if 1:
        import threading
        t = threading.Thread(target=lambda: 1/0)
        t.start()
        t.join()
        class Bad:
            def __del__(self): raise KeyError('lost')
        Bad()
        import traceback
        try: open('/nowhere')
        except OSError: traceback.print_exc()
        """,
        "stderr",
    )
    for text in ("ZeroDivisionError", "KeyError: 'lost'", "/nowhere"):
        assert text in err


def test_buffer_and_bytes(interp):
    out = check_python(
        """
        import atoll
        atoll.create().exec('''if 1:
            import sys
            print("text", end=" ")
            sys.stdout.buffer.write(b"bytes \\\\xff\\\\n")
            sys.stdout.buffer.write(memoryview(b"part"))
            sys.stdout.buffer.flush()
            print(" text")
            try: sys.stdout.buffer.write("str")
            except TypeError: print("refused")
            try: sys.stdout.write(b"bytes")
            except TypeError: print("refused")
        ''')
        """
    )
    assert out.splitlines() == ["text bytes �", "part text", "refused", "refused"]
    # Where main has no bytes, they are decoded.
    code = "import sys; sys.stdout.buffer.write('é'.encode() + b'\\xff\\n')"
    assert printed(interp, code) == "é\\xff\n"


def test_bytes_arrive_as_they_are():
    done = subprocess.run(
        python_args(
            "-c",
            "import atoll; atoll.create().exec('import sys\\n"
            "sys.stdout.buffer.write(bytes(range(256)) * 1000)')",
        ),
        capture_output=True,
        env=python_env(),
        check=True,
        timeout=30,
    )
    assert done.stdout == bytes(range(256)) * 1000


def test_unicode(interp):
    text = "aé€😀\0\udc80\ud800"
    assert printed(interp, f"print({text!a})") == text + "\n"


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_what_main_cannot_encode(encoding):
    """It must not be lost: there is no print() to tell."""
    done = subprocess.run(
        python_args(
            "-c", "import atoll; atoll.create().exec(r'print(\"\\xe9\\ud800\\u20ac\")')"
        ),
        capture_output=True,
        env=python_env(PYTHONIOENCODING=encoding),
        check=True,
        timeout=30,
    )
    want = "é\ud800€\n".encode(encoding, "backslashreplace")
    assert (done.stdout, done.stderr) == (want, b"")


def test_attributes_of_the_streams():
    done = subprocess.run(
        python_args(
            "-c",
            """if 1:
            import atoll, io, sys
            code = '''if 1:
                import io, sys
                assert isinstance(sys.stdout, io.TextIOBase)
                assert isinstance(sys.stdout.buffer, io.BufferedIOBase)
                assert sys.stdout is sys.__stdout__ and sys.stderr is sys.__stderr__
                for f, name in (sys.stdout, "<stdout>"), (sys.stderr, "<stderr>"):
                    assert f.writable() and not f.readable() and not f.seekable()
                    assert not f.closed and f.name == name and f.mode == "w"
                    assert f.buffer is f.buffer and f.buffer.writable()
                    assert f.write("") == 0
                    f.reconfigure(line_buffering=True)
                print(sys.stdout.encoding, sys.stdout.errors, sys.stdout.isatty(),
                      sys.stderr.encoding, sys.stderr.errors, sys.stderr.isatty(),
                      sys.stdout.fileno(), sys.stderr.fileno())
                w = io.TextIOWrapper(sys.stdout.buffer, "utf-8", write_through=True)
                print("wrapped", file=w)
                w.detach()
            '''
            atoll.create().exec(code)
            sys.stdout = io.StringIO()
            i = atoll.create()
            i.exec('''if 1:
                import sys
                try: sys.stdout.fileno()
                except OSError: print("none")
                print(sys.stdout.encoding, sys.stdout.isatty())
            ''')
            print(sys.stdout.getvalue(), file=sys.__stdout__)
            """,
        ),
        stdout=subprocess.PIPE,
        env=python_env(PYTHONIOENCODING="latin-1:replace"),
        text=True,
        check=True,
        timeout=30,
    )
    assert done.stdout.splitlines() == [
        "iso8859-1 replace False iso8859-1 backslashreplace False 1 2",
        "wrapped",
        "none",
        "utf-8 False",
        "",
    ]


def test_a_closed_stream(interp):
    with pytest.raises(atoll.ExecutionFailed, match="closed file"):
        interp.exec("import sys; sys.stdout.close(); assert sys.stdout.closed; print(1)")


def test_a_stream_as_result_is_the_callers(interp):
    def stream():
        return sys.stderr

    assert interp.call(stream) is sys.stderr


def test_input_with_a_prompt():
    out = check_python(
        "import atoll\n"
        "atoll.create().exec('print(\"hello\"); print(input(\"name? \"))')",
        input="Ada\n",
    )
    assert out == "hello\nname? Ada"


# ------------------------------------------------------------ process exit
