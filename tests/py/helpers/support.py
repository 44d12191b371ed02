"""What the tests share: threads with results, subprocesses, patience."""

import os
import re
import subprocess
import sys
import textwrap
import threading
import time

import atoll
import pytest

#: Heavy loops run this many times as long; CI and soak runs raise it.
STRESS = max(1, int(os.environ.get("ATOLL_STRESS", "1")))

#: Everything that is random runs long.
NIGHTLY = os.environ.get("ATOLL_NIGHTLY") == "1"

#: What is "at once" on a machine that is busy with something else.
SLACK = 10.0

HERE = os.path.dirname(os.path.abspath(__file__))


def name_of(value):
    """repr() without addresses: as a test's id it is the same in every process."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


class Task(threading.Thread):
    """A started thread whose result or exception can be had."""

    def __init__(self, function, *args, **kwargs):
        super().__init__(daemon=True)
        self._work = (function, args, kwargs)
        self._value = self._error = None
        self.start()

    def run(self):
        function, args, kwargs = self._work
        try:
            self._value = function(*args, **kwargs)
        except BaseException as exc:
            self._error = exc
        finally:
            del self._work, function, args, kwargs

    def result(self, timeout=SLACK):
        self.join(timeout)
        assert not self.is_alive(), "the thread is still blocked"
        if self._error is not None:
            try:
                raise self._error
            finally:
                self._error = None
        return self._value


def until(condition, timeout=SLACK):
    """Wait until condition() is true, and return what it returned."""
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.001)


class Parking:
    """Tells when further threads have gone to sleep in a call of atoll's."""

    def __init__(self):
        self.before = atoll.stats()["parks"]

    def wait(self, count=1):
        until(lambda: atoll.stats()["parks"] >= self.before + count)
        self.before = atoll.stats()["parks"]


def settle():
    """Until all threads sleep that are going to, so that Parking counts no others."""
    parks = -1
    while parks != atoll.stats()["parks"]:
        parks = atoll.stats()["parks"]
        time.sleep(0.05)


def parked(function, *args, **kwargs):
    """A Task that is asleep in `function` by now."""
    parking = Parking()
    task = Task(function, *args, **kwargs)
    parking.wait()
    return task


#: Is CPython a build with assertions?
DEBUG_BUILD = hasattr(sys, "gettotalrefcount")

#: Such a build shows every warning, and the tests compare what is printed.
QUIET = ("-W", "ignore::ResourceWarning") if DEBUG_BUILD else ()


def python_args(*options):
    return [sys.executable, "-X", "faulthandler", *QUIET, *options]


def python_env(**extra):
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    return {**env, "PYTHONPATH": HERE, "PYTHONDONTWRITEBYTECODE": "1", **extra}


def run_python(code, *, timeout=30, options=(), path=None, env=None, **kwargs):
    """Run code (a script, or -c) in another process; returns what came of it."""
    code = textwrap.dedent(code)
    if path is None:
        argv = [*python_args(*options), "-c", code]
    else:
        path.write_text(code)
        argv = [*python_args(*options), str(path)]
    try:
        return subprocess.run(
            argv,
            timeout=timeout,
            capture_output=True,
            text=True,
            errors="replace",
            env=python_env() if env is None else env,
            check=False,
            **kwargs,
        )
    except subprocess.TimeoutExpired as exc:
        out = (exc.stdout or b"").decode(errors="replace")
        err = (exc.stderr or b"").decode(errors="replace")
        raise AssertionError(
            f"still running after {timeout} s\n--- stdout\n{out}\n--- stderr\n{err}"
        ) from None


def check_python(code, **kwargs):
    """The same; it must end with status 0 and nothing on stderr. Its stdout."""
    done = run_python(code, **kwargs)
    assert (done.returncode, done.stderr) == (0, ""), (
        f"status {done.returncode}\n--- stdout\n{done.stdout}\n--- stderr\n{done.stderr}"
    )
    return done.stdout.strip()


#: A debug build of CPython ends with an assertion if an interpreter outlives main's.
#: Where code cannot be stopped one does; other builds do not mind.
leaves_interpreters = pytest.mark.skipif(
    DEBUG_BUILD,
    reason="an assertion of CPython's forbids to exit before an interpreter has ended",
)

UNDER_ASAN = "libasan" in os.environ.get("LD_PRELOAD", "")


def rss_kib():
    if UNDER_ASAN:
        pytest.skip("ASan keeps freed memory")
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE") // 1024


def count_threads():
    return len(os.listdir("/proc/self/task"))


def count_fds():
    return len(os.listdir("/proc/self/fd"))


def open_interpreters():
    """The ids of all interpreters but main, without making handles."""
    import _interpreters

    return {entry[0] for entry in _interpreters.list_all() if entry[0] != 0}
