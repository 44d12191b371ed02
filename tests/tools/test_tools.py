"""Each tool, on a program with two busy workers: both functions are in what it prints.

docs/howto/debug-and-profile.md says the same in words. Where a tool is not there, or the
system does not let one process look into another, its test is skipped with the reason.
"""

import contextlib
import os
import re
import shutil
import subprocess
import sys

import busy
import pytest
from support import python_env

ENV = python_env()


def tool(name):
    """The path of a tool, of this environment or of the system."""
    path = shutil.which(name, path=f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}")
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def run(*command, **kwargs):
    return subprocess.run(
        list(map(str, command)),
        capture_output=True,
        text=True,
        errors="replace",
        timeout=100,
        env={**ENV, **kwargs.pop("env", {})},
        **kwargs,
    )


def check_allowed(child):
    """Skip if this system does not let processes look into others that are not theirs."""
    look = f"open('/proc/{child.pid}/mem', 'rb')"
    done = run(sys.executable, "-c", look)
    if done.returncode != 0:
        pytest.skip(f"no ptrace here: {done.stderr.splitlines()[-1]}")


def said(done):
    assert done.returncode == 0, (done.stdout, done.stderr)
    return done.stdout + done.stderr


# ------------------------------------------------------------------- from outside


def test_py_spy_sees_main():
    with busy.running(env=ENV) as child:
        check_allowed(child)
        assert "await_breakfast" in said(run(tool("py-spy"), "dump", "--pid", child.pid))


@pytest.mark.parametrize("name", busy.FUNCTIONS)
def test_py_spy_sees_the_worker_that_is_shown(name, tmp_path):
    with busy.running(shown=name, env=ENV) as child:
        check_allowed(child)
        assert name in said(run(tool("py-spy"), "dump", "--pid", child.pid))
        out = tmp_path / "stacks"
        said(
            run(
                *(tool("py-spy"), "record", "--pid", child.pid, "--duration", 1),
                *("--format", "raw", "--output", out),
            )
        )
        assert f"{name} (busy.py" in out.read_text()


def test_pystack():
    with busy.running(env=ENV) as child:
        check_allowed(child)
        text = said(run(tool("pystack"), "remote", child.pid))
    for name in (*busy.FUNCTIONS, "await_breakfast"):
        assert f"in {name}\n" in text


def austin(*args):
    """Run by the C library that Python runs with: its own may be too old for it."""
    with open("/proc/self/maps") as file:
        paths = re.findall(r"/\S+/(?:ld-linux\S*|libc\.so\.6)$", file.read(), re.MULTILINE)
    loader = next(path for path in paths if "ld-linux" in path)
    folder = os.path.dirname(next(path for path in paths if path.endswith("libc.so.6")))
    done = run(loader, "--library-path", folder, tool("austin"), *args)
    if "GLIBC_" in done.stderr:
        pytest.skip(f"austin wants another C library: {done.stderr.splitlines()[0]}")
    if "Cannot determine the version" in done.stderr:
        pytest.skip("this austin does not know this version of Python")
    return done


def test_austin(tmp_path):
    with busy.running(env=ENV) as child:
        check_allowed(child)
        text = said(austin("-w", child.pid))
        out = tmp_path / "samples"
        austin("-i", "1ms", "-x", "1", "-p", child.pid, "-o", out)  # its status is not 0
    for name in (*busy.FUNCTIONS, "await_breakfast"):
        assert name in text
        assert name.encode() in out.read_bytes()


@pytest.mark.skipif(sys.version_info < (3, 15), reason="new in Python 3.15")
def test_profiling_sampling(tmp_path):
    # Not with an idle interpreter: it gives up at a thread without a Python frame.
    with busy.running(env={**ENV, "ATOLL_SPARES": "0"}) as child:
        check_allowed(child)
        out = tmp_path / "stacks"
        said(
            run(
                *(sys.executable, "-m", "profiling.sampling", "attach", "-a", "-d", 1),
                *("--collapsed", "-o", out, child.pid),
            )
        )
    for name in busy.FUNCTIONS:
        assert f":{name}:" in out.read_text()


# ------------------------------------------------------------------- perf

# In one worker, and not with -X perf: CPython crashes when several interpreters make
# trampolines.
PERF = """
import sys, time, atoll

def grind_coffee():
    end = time.monotonic() + 1
    while time.monotonic() < end:
        sum(k * k for k in range(2000))

def knead_dough():
    end = time.monotonic() + 1
    while time.monotonic() < end:
        fold(2000)

def fold(times):
    dough = 0
    for k in range(times):
        dough ^= 3 * k

def measured(work):
    sys.activate_stack_trampoline("perf")
    work()

if __name__ == "__main__":
    with atoll.InterpreterPoolExecutor(2) as pool:
        works = [globals()[name] for name in sys.argv[1:]]
        tasks = [pool.submit(measured, works[0]), pool.submit(works[1])]
        for task in tasks:
            task.result()
"""


@pytest.mark.skipif(sys.version_info < (3, 14), reason="up to 3.13 few frames have names")
@pytest.mark.parametrize("name", busy.FUNCTIONS)
def test_perf(tmp_path, name):
    data = tmp_path / "perf.data"
    perf = (tool("perf"), "record", "-e", "cpu-clock", "-F", 499, "-g", "-o", data)
    done = run(*perf, "true")
    if done.returncode != 0:
        pytest.skip(f"perf may not measure here: {done.stderr.strip()[:200]}")
    program = tmp_path / "program.py"
    program.write_text(PERF)
    (other,) = set(busy.FUNCTIONS) - {name}
    said(run(*perf, sys.executable, program, name, other))
    found = set(re.findall(r"py::(\w+)", said(run(tool("perf"), "script", "-i", data))))
    # Without frame pointers perf has the innermost function alone.
    assert found & {name, "fold" if name == "knead_dough" else name}


# ------------------------------------------------------------------- from inside

MEMRAY = """
import sys, atoll

def hoard_flour():
    return len([bytearray(1000) for _ in range(20_000)])

def hoard_sugar():
    return len([{k: str(k) for k in range(50)} for _ in range(2000)])

def tracked(work, file):
    import memray
    with memray.Tracker(file):
        return work()

if __name__ == "__main__":
    with atoll.InterpreterPoolExecutor(2) as pool:
        for work in (hoard_flour, hoard_sugar):
            pool.submit(tracked, work, f"{sys.argv[1]}/{work.__name__}").result()
"""


def test_memray_in_workers(tmp_path):
    memray = tool("memray")
    program = tmp_path / "program.py"
    program.write_text(MEMRAY)
    said(run(sys.executable, program, tmp_path))
    for name in ("hoard_flour", "hoard_sugar"):
        text = said(run(memray, "stats", tmp_path / name))
        assert re.search(rf"^\s*- {name}:\S+ -> [\d.]+MB", text, re.MULTILINE), text


NATIVE = """
import atoll
from atoll import create

def big():
    bytearray(50_000_000)

if __name__ == "__main__":
    with create() as interp:
        interp.call(big)
"""

NATIVE_READER = """
import memray, sys
for record in memray.FileReader(sys.argv[1]).get_allocation_records():
    if record.size >= 50_000_000:
        print(*[frame[0] for frame in record.hybrid_stack_trace()])
"""


def test_memray_counts_a_worker_s_native_allocations(tmp_path):
    program, out = tmp_path / "program.py", tmp_path / "out"
    program.write_text(NATIVE)
    said(run(tool("memray"), "run", "--native", "-q", "-o", out, program))
    assert "job_run" in said(run(sys.executable, "-c", NATIVE_READER, out))


DEBUGPY = """
import sys, atoll

def grind_coffee():
    return "ground"

def knead_dough():
    return "kneaded"

def debugged(work):
    import debugpy
    print(debugpy.listen(("127.0.0.1", 0))[1], flush=True)
    debugpy.wait_for_client()
    return work()

if __name__ == "__main__":
    with atoll.InterpreterPoolExecutor(1) as pool:
        print(pool.submit(debugged, globals()[sys.argv[1]]).result())
"""


@pytest.mark.parametrize("name", busy.FUNCTIONS)
def test_debugpy_in_a_worker(tmp_path, name):
    pytest.importorskip("debugpy", reason="debugpy is not installed")
    from dap import Client

    program = tmp_path / "program.py"
    program.write_text(DEBUGPY)
    env = {**ENV, "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    with subprocess.Popen(
        [sys.executable, program, name], stdout=subprocess.PIPE, text=True, env=env
    ) as child:
        try:
            with contextlib.closing(Client(int(child.stdout.readline()))) as client:
                client.call("initialize", adapterID="atoll", pathFormat="path")
                client.send("attach", justMyCode=False)
                client.event("initialized")
                client.call("setFunctionBreakpoints", breakpoints=[{"name": name}])
                client.send("configurationDone")
                thread = client.event("stopped")["threadId"]
                frames = client.call("stackTrace", threadId=thread)["stackFrames"]
                assert [frame["name"] for frame in frames][:2] == [name, "debugged"]
                client.call("disconnect", terminateDebuggee=False)
            assert child.communicate(timeout=60)[0] in ("ground\n", "kneaded\n")
        finally:
            child.kill()
