"""Reading from the terminal in an interpreter: what was printed before is there first."""

import os
import select
import subprocess
import sys
import time

import pytest
from support import SLACK, check_python, python_env

DEBUGGED = """
import atoll, sys

def stop_here(n):
    value = n * 6
    breakpoint()
    return value

if __name__ == "__main__":
    with atoll.InterpreterPoolExecutor(1) as pool:
        print("result", pool.submit(stop_here, 7).result())
"""


class Talk:
    """With a child process, over pipes or a terminal."""

    def __init__(self, path, terminal):
        master, slave = os.openpty() if terminal else (None, None)
        self._child = subprocess.Popen(
            [sys.executable, path],
            stdin=slave if terminal else subprocess.PIPE,
            stdout=slave if terminal else subprocess.PIPE,
            stderr=slave if terminal else subprocess.STDOUT,
            env=python_env() | {"PYTHON_COLORS": "0", "TERM": "dumb"},
        )
        if terminal:
            os.close(slave)
            self._out = self._in = master
        else:
            self._out = self._child.stdout.fileno()
            self._in = self._child.stdin.fileno()

    def until(self, end):
        """What it says, up to `end`, which is the last of it for now."""
        said = ""
        limit = time.monotonic() + SLACK
        while not said.endswith(end):
            left = limit - time.monotonic()
            assert left > 0 and select.select([self._out], [], [], left)[0], said
            part = os.read(self._out, 4096).decode()
            assert part, said
            said += part
        return said.replace("\r", "")

    def say(self, line):
        os.write(self._in, line.encode() + b"\n")

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self._child.kill()
        with self._child:
            pass
        if self._in == self._out:
            os.close(self._in)


@pytest.mark.parametrize("terminal", [False, True], ids=["pipes", "terminal"])
def test_pdb_answers_before_it_asks_again(tmp_path, terminal):
    path = tmp_path / "debugged.py"
    path.write_text(DEBUGGED)
    with Talk(path, terminal) as talk:
        asked = talk.until("(Pdb) ")
        assert "stop_here()" in asked and "breakpoint()" in asked
        for command, answer in [("p value", "42"), ("p n", "7"), ("p n + 1", "8")] * 3:
            talk.say(command)
            echo = [command] if terminal else []
            assert talk.until("(Pdb) ").splitlines() == [*echo, answer, "(Pdb) "]
        talk.say("c")
        assert "result 42" in talk.until("42\r\n" if terminal else "42\n")


def asked(code, answers):
    return check_python(
        f"""
        import atoll
        with atoll.create() as interp:
            interp.exec({code!r})
        """,
        input=answers,
    )


def test_input_has_the_line_without_its_end():
    code = """
print("hello")
print([input("one? "), input(), input(2), input("last? ")])
"""
    assert asked(code, "a\nb \n\nc") == "hello\none? 2last? ['a', 'b ', '', 'c']"


def test_input_at_the_end_of_the_file():
    code = """
try:
    input()
except EOFError as exc:
    print(exc)
"""
    assert asked(code, "") == "EOF when reading a line"


def test_input_of_other_streams_is_that_of_builtins():
    code = """
import contextlib, io, sys
sys.stdin, own = io.StringIO("there\\n"), sys.stdin
print(input("where? "))
sys.stdin = own
with contextlib.redirect_stdout(io.StringIO()) as out:
    print(input("what? "))
print(repr(out.getvalue()))
"""
    assert asked(code, "this\n") == "where? there\n'what? this\\n'"


def test_input_is_audited():
    code = """
import sys
seen = []
sys.addaudithook(lambda *event: seen.append(event) if "input" in event[0] else None)
input("ask")
print("|", seen)
"""
    want = "[('builtins.input', ('ask',)), ('builtins.input/result', ('yes',))]"
    assert asked(code, "yes\n") == f"ask| {want}"


def test_a_line_read_waits_for_what_was_printed():
    # Main's own stream is slow: without waiting, it would say so too late.
    out = check_python(
        """
        import atoll, sys, time
        class Slow:
            def write(self, text):
                time.sleep(0.1)
                sys.__stdout__.write(text)
                sys.__stdout__.flush()
            def flush(self):
                pass
        sys.stdout = Slow()
        with atoll.create() as interp:
            interp.exec(
                "import os, sys; print('question', flush=True); sys.stdin.readline();"
                "os.write(1, b'answer\\\\n')"
            )
        """,
        input="x\n",
    )
    assert out == "question\nanswer"
