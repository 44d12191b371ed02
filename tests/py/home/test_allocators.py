"""tracemalloc and other hooks of CPython's allocators, at any moment."""

import subprocess
import sys
import sysconfig

import pytest
from support import HERE, check_python, python_env, run_python

# A thread that a hook keeps waiting keeps the test waiting, so there is a time limit;
# what is traced is slow, and the machine may be busy.
LIMIT = 120

COMMON = """
import sys, threading, tracemalloc

def churn(count):
    kept = []
    for i in range(count):
        kept.append(("a" * (i % 700), [i], {i: str(i)}))
        if len(kept) > 500:
            kept.clear()
    return count
"""

WORK = """
with atoll.InterpreterPoolExecutor(2) as pool:
    assert sum(pool.map(abs, range(20))) == 190
interp = atoll.create()
assert interp.call(abs, -3) == 3
interp.exec("import json, threading; t = threading.Thread(target=dir); t.start(); t.join()")
interp.close()
print("done")
"""


def run(code, **kwargs):
    return check_python(COMMON + code, timeout=LIMIT, **kwargs)


@pytest.mark.parametrize(
    ("options", "env", "code"),
    [
        (["-X", "tracemalloc"], {}, "import atoll\n" + WORK),
        ([], {"PYTHONTRACEMALLOC": "5"}, "import atoll\n" + WORK),
        ([], {}, "tracemalloc.start(); import atoll\n" + WORK),
        ([], {}, "import atoll; tracemalloc.start(3)\n" + WORK),
        ([], {}, "from tracemalloc import start; import atoll; start()\n" + WORK),
        ([], {"PYTHONMALLOC": "debug"}, "import atoll; tracemalloc.start()\n" + WORK),
        ([], {"PYTHONMALLOC": "malloc"}, "tracemalloc.start(); import atoll\n" + WORK),
    ],
    ids=["option", "environ", "before", "after", "name", "debug", "malloc"],
)
def test_tracemalloc_started_at_first(options, env, code):
    assert run(code, options=options, env=python_env(**env)).endswith("done")


def test_start_and_stop_while_interpreters_run():
    run("""
import atoll
with atoll.InterpreterPoolExecutor(2) as pool:
    futures = [pool.submit(churn, 10_000) for _ in range(4)]
    for _ in range(8):
        tracemalloc.start(3)
        kept = [bytes(1000) for _ in range(100)]
        now, peak = tracemalloc.get_traced_memory()
        assert 100_000 < now <= peak, (now, peak)
        traces = tracemalloc.take_snapshot().traces
        names = {frame.filename for trace in traces for frame in trace.traceback}
        tracemalloc.stop()
        assert tracemalloc.get_traced_memory() == (0, 0)
        assert all(isinstance(name, str) for name in names)
    assert sum(f.result() for f in futures) == 40_000
""")


def test_start_and_stop_while_interpreters_come_and_go():
    run("""
import atoll
over = threading.Event()
def switch():
    while not over.is_set():
        tracemalloc.start()
        over.wait(0.002)
        tracemalloc.stop()
        over.wait(0.002)
thread = threading.Thread(target=switch)
thread.start()
for _ in range(4):
    interp = atoll.create()
    assert interp.call(churn, 100) == 100
    interp.close()
over.set()
thread.join()
""")


def test_interpreters_that_end_leave_nothing_in_the_traces():
    run("""
tracemalloc.start(8)
import atoll
for _ in range(3):
    interp = atoll.create()
    interp.exec("exec(compile('import json; x = [[] for _ in range(9999)]', 'its', 'exec'))")
    interp.close()
for trace in tracemalloc.take_snapshot().traces:  # of memory that is unmapped by now
    assert all(frame.filename != "its" for frame in trace.traceback)
tracemalloc.clear_traces()
tracemalloc.stop()
""")


def test_what_is_traced_is_main():
    run("""
import atoll
tracemalloc.start()
interp = atoll.create()
before = tracemalloc.get_traced_memory()[0]
interp.exec("keep = [bytes(1000) for _ in range(30_000)]")
now = tracemalloc.get_traced_memory()[0]
assert now - before < 2_000_000, now - before
keep = [bytes(1000) for _ in range(3_000)]
now = tracemalloc.get_traced_memory()[0]
assert now - before > 3_000_000, now - before

# What main has sent is not main's for ever.
queue = atoll.create_queue()
interp.prepare_main(queue=queue)
before = tracemalloc.get_traced_memory()[0]
for _ in range(50):
    queue.put(bytes(100_000))
    queue.put(bytearray(100_000))
    interp.exec("a, b = queue.get(), queue.get(); b.extend(a); del a, b")
now = tracemalloc.get_traced_memory()[0]
assert now - before < 1_000_000, now - before
""")


def test_an_interpreter_has_no_tracemalloc_of_its_own():
    run("""
import atoll
with atoll.create() as interp:
    interp.exec('''if 1:
        import tracemalloc
        try:
            tracemalloc.start()
        except RuntimeError as exc:
            assert "in the main interpreter" in str(exc)
        else:
            assert False
    ''')
    tracemalloc.start()
    interp.exec('''if 1:
        import warnings
        assert not tracemalloc.is_tracing() and tracemalloc.get_object_traceback([]) is None
        assert tracemalloc.get_traced_memory() == (0, 0)
        tracemalloc.clear_traces(); tracemalloc.stop()
        warnings.simplefilter("ignore"); warnings.warn("x", ResourceWarning, source=[])
    ''')
    keep = bytes(1000)
    assert tracemalloc.is_tracing() and tracemalloc.get_traced_memory()[0] > 1000
""")


def test_interpreters_are_as_fast_as_without():
    """What is traced takes some ten times as long."""
    run("""
import atoll, time
def timed(count):
    start = time.thread_time()
    churn(count)
    return time.thread_time() - start
with atoll.create() as interp:
    interp.call(timed, 100)
    plain = min(interp.call(timed, 4_000) for _ in range(5))
    tracemalloc.start()
    beside = min(interp.call(timed, 4_000) for _ in range(5))
    assert beside < 3 * plain, (plain, beside)
""")


def test_start_beside_an_interpreter_that_keeps_its_gil():
    run("""
import atoll, signal, time
interp = atoll.create()
ready = atoll.create_queue()
interp.prepare_main(ready=ready)
thread = threading.Thread(target=interp.exec, args=("ready.put(1); sum(range(4 * 10**7))",))
thread.start()
ready.get()
time.sleep(0.05)
signal.signal(signal.SIGALRM, signal.default_int_handler)
signal.setitimer(signal.ITIMER_REAL, 0.2)
try:
    tracemalloc.start()
except KeyboardInterrupt:
    tracemalloc.stop()  # it may have begun when the signal came
else:  # it has been quick
    signal.setitimer(signal.ITIMER_REAL, 0)
    tracemalloc.stop()
thread.join()
tracemalloc.start()
assert interp.call(churn, 100) == 100
interp.close()
""")


# ------------------------------------------------------------------ other hooks


@pytest.fixture(scope="module")
def hooks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hooks")
    target = folder / f"hooks{sysconfig.get_config_var('EXT_SUFFIX')}"
    include = sysconfig.get_paths()["include"]
    command = ["cc", "-shared", "-fPIC", "-g", "-I", include, f"{HERE}/hooks.c", "-o", target]
    subprocess.run(command, check=True)
    return python_env(PYTHONPATH=f"{HERE}:{folder}")


@pytest.mark.parametrize("gil", [False, True], ids=["plain", "gil"])
@pytest.mark.parametrize(
    "code",
    [
        "import hooks; hooks.install({gil}); import atoll\n" + WORK,
        "import hooks, atoll; hooks.install({gil})\n" + WORK,
        "import hooks; hooks.install({gil}); tracemalloc.start(); import atoll\n" + WORK,
        "import hooks, atoll; tracemalloc.start(); hooks.install({gil})\n" + WORK,
    ],
    ids=["before", "after", "beneath-tracemalloc", "above-tracemalloc"],
)
def test_hooks_of_others(hooks, code, gil):
    code = code.replace("{gil}", str(gil)) + "assert hooks.calls() > 100"
    assert run(code, env=hooks).endswith("done")


def test_hooks_that_come_while_interpreters_are_there(hooks):
    run(
        """
import atoll, hooks
interp = atoll.create()
interp.call(churn, 100)
hooks.install(True)
assert interp.call(churn, 1000) == 1000
interp.close()
with atoll.create() as other:
    assert other.call(churn, 1000) == 1000
""",
        env=hooks,
    )


def test_tracemalloc_beneath_another_hook_is_refused(hooks):
    """Started before atoll could know; up to 3.14 that cannot work."""
    code = """
import tracemalloc, hooks
tracemalloc.start()
hooks.install(False)
import atoll
with atoll.create() as interp:
    assert interp.call(abs, -3) == 3
"""
    done = run_python(code, timeout=LIMIT, env=hooks)
    if sys.version_info >= (3, 15):
        assert (done.returncode, done.stderr) == (0, "")
    else:
        assert "InterpreterError" in done.stderr and "tracemalloc.stop()" in done.stderr
        assert done.returncode == 1
