"""Functions for tests of atoll map, and what runs it."""

import subprocess
import sys
import time

from support import python_env

COMMAND = [sys.executable, "-X", "faulthandler", "-m", "atoll", "map"]


def start(*args, **kwargs):
    """atoll map as a process."""
    env = python_env(**kwargs.pop("env", {}))
    kwargs = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **kwargs}
    return subprocess.Popen([*COMMAND, *map(str, args)], env=env, **kwargs)


def cli(*args, data=b"", timeout=60, **kwargs):
    """Its exit status, output (bytes) and error output (str)."""
    process = start(*args, stdin=subprocess.PIPE, **kwargs)
    try:
        out, err = process.communicate(data, timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise AssertionError(f"still running\n{out!r}\n{err.decode()}") from None
    return process.returncode, out, err.decode()


def good(*args, **kwargs):
    """Its output, when all is well."""
    status, out, err = cli(*args, **kwargs)
    assert (status, err) == (0, ""), f"status {status}, {err}"
    return out


# ------------------------------------------------------- what is put through


def upper(line):
    return line.upper()


def kind(record):
    return type(record).__name__


def same(record):
    return record


def mixed(line):
    """A str, bytes, nothing, a number or several."""
    n = int(line)
    return [str(n), str(n).encode(), None, n, (i for i in range(n % 7))][n % 5]


def words(line):
    yield from line.split()


def half(line):
    yield line
    raise ValueError("half")


def no_threes(line):
    if "3" in line:
        raise ValueError(f"a three: {line}")
    return line


def no_three_at_all(line):
    return no_threes(line)


def leaves(line):
    raise SystemExit(3)


def dies(line):
    raise BaseException("enough")


def surrogate(line):
    return "\udbff"


def unwritable(line):
    """A str, nothing, or a failure: half of them are found when the batch is written."""
    if line.endswith("3"):
        return "\udbff"
    if line.endswith("8"):
        raise ValueError(line)
    return None if int(line) % 5 == 1 else f"<{line}>"


def prints(line):
    print("printed", line)
    return line


def slow(line):
    time.sleep(0.002)
    return f"<{line}>"


def slow_row(row):
    time.sleep(0.002)
    return row


def slow_no_threes(line):
    time.sleep(0.002)
    return no_threes(line)


def first_spins(line):
    while line == "first":
        pass
    return line


def number_only(line):
    return int(line)


def late(line):
    """The first ones take the longest."""
    time.sleep(0.05 if int(line) < 4 else 0)
    return line


def sleeps(line):
    time.sleep(1000)


def spins(line):
    while True:
        pass


def double(obj):
    obj["n"] *= 2
    return obj


def evens(obj):
    return obj if obj["n"] % 2 == 0 else None


def swapped(row):
    """Keys in another order every other row."""
    items = list(row.items())
    return dict(items if int(row["n"]) % 2 else items[::-1])


def extra(row):
    return {**row, "more": 1} if row["n"] == "7" else row


def listed(row):
    return [*row, len(row)]


def long(line):
    return line * 100


state = None


def set_up():
    global state
    state = "set"


def use_state(line):
    return state


def bad_set_up():
    raise OSError("no server")


async def waits(line):
    return line


number = 3
