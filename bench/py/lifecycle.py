"""Lifecycle: what 1,000 interpreters leave behind, and what one costs.

1,000 interpreters are created and closed, one after the other, after a
warm-up. What memory stays is compared with what CPython itself leaves behind:
the same number of bare `Py_NewInterpreterFromConfig` and `Py_EndInterpreter`,
called from C on a thread each (bench/c/bare_interp.c, compiled here). Each of
the two loops runs in a process of its own.
"""

import os
import shlex
import subprocess
import sysconfig
import tempfile
import time
from pathlib import Path

import atoll
import common
import messages
import peers

SLACK = 1.0  # KiB an interpreter: less than this is noise

ATOLL_LOOP = """
import json, sys, time
sys.path.insert(0, sys.argv[1])
import common, atoll

def cycle():
    start = time.perf_counter()
    interpreter = atoll.create()
    created = time.perf_counter()
    interpreter.close()
    return created - start, time.perf_counter() - created

for _ in range(int(sys.argv[2])):
    cycle()
before = common.memory(), common.thread_count(), common.descriptor_count()
times = [cycle() for _ in range(int(sys.argv[3]))]
time.sleep(0.1)  # a thread that has ended may still be listed for a moment
after = common.memory(), common.thread_count(), common.descriptor_count()
create, close = zip(*times)
print(json.dumps({"before": before, "after": after,
                  "create": create, "close": close}))
"""

BARE_LOOP = """
import ctypes, json, sys
sys.path.insert(0, sys.argv[1])
import common

library = ctypes.CDLL(sys.argv[4])

def cycles(count):
    create, close = (ctypes.c_int64 * count)(), (ctypes.c_int64 * count)()
    if library.bare_cycles(count, create, close) != 0:
        sys.exit("a bare interpreter could not be made")
    return [ns / 1e9 for ns in create], [ns / 1e9 for ns in close]

cycles(int(sys.argv[2]))
before = common.memory(), common.thread_count(), common.descriptor_count()
create, close = cycles(int(sys.argv[3]))
after = common.memory(), common.thread_count(), common.descriptor_count()
print(json.dumps({"before": before, "after": after,
                  "create": create, "close": close}))
"""


def compile_bare(folder):
    """Compile bare_interp.c for this Python. Returns the path."""
    source = common.REPOSITORY / "bench" / "c" / "bare_interp.c"
    target = Path(folder) / "bare_interp.so"
    command = [
        *shlex.split(os.environ.get("CC", "cc")),
        *("-O2", "-fPIC", "-shared", "-pthread", "-o", str(target)),
        str(source),
        f"-I{sysconfig.get_path('include')}",
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise common.MissingFloor(f"no C compiler: {error}") from None
    if done.returncode != 0:
        raise common.MissingFloor(f"{shlex.join(command)}:\n{done.stderr}")
    return target


def measure_leaks(args, results):
    warm, count = (5, 30) if args.quick else (50, 1000)
    here = Path(__file__).parent
    with tempfile.TemporaryDirectory(prefix="atoll-bench-") as folder:
        bare_library = compile_bare(folder)
        bare = common.run_python(BARE_LOOP, here, warm, count, bare_library)
    ours = common.run_python(ATOLL_LOOP, here, warm, count)

    growth = {}
    for key, said, what in (
        ("atoll", ours, "atoll.create() and close()"),
        ("bare", bare, "bare C loop"),
    ):
        before, threads_before, files_before = said["before"]
        after, threads_after, files_after = said["after"]
        growth[key] = results.number(
            f"lifecycle.{key}_growth",
            [(after - before) / count],
            "KiB (PSS)",
            f"memory left behind by an interpreter: {what}, {count:,} times",
        )
        results.number(
            f"lifecycle.{key}_threads",
            [threads_after - threads_before],
            "threads",
            f"threads left by {count:,} interpreters: {what}",
        )
        results.number(
            f"lifecycle.{key}_descriptors",
            [files_after - files_before],
            "descriptors",
            f"file descriptors left by {count:,} interpreters: {what}",
        )
        for step in ("create", "close"):
            results.number(
                f"lifecycle.{key}_{step}",
                [seconds * 1000 for seconds in said[step]],
                "ms",
                f"{step} an interpreter: {what}",
            )
    results.goal(
        f"create and close {count:,} interpreters: memory",
        f"≤ CPython's own + {SLACK:g} KiB each",
        f"{growth['atoll']:.2f} KiB each",
        f"bare C loop {growth['bare']:.2f} KiB each",
        growth["atoll"] <= growth["bare"] + SLACK,
    )
    threads = ours["after"][1] - ours["before"][1]
    files = ours["after"][2] - ours["before"][2]
    results.goal(
        f"create and close {count:,} interpreters: nothing else left",
        "0 threads, 0 descriptors",
        f"{threads} threads, {files} descriptors",
        f"bare C loop {bare['after'][1] - bare['before'][1]} threads",
        threads <= 0 and files <= 0,
    )


# ----------------------------------------------------- for information


def measure_calls(args, results):
    """What one `exec` and one `call` cost, in an interpreter that idles."""
    rounds, count = (2, 200) if args.quick else (7, 5000)

    def timed(function, *arguments):
        times = []
        for _ in range(rounds):
            start = time.perf_counter()
            for _ in range(count):
                function(*arguments)
            times.append((time.perf_counter() - start) / count * 1e6)
        return times

    makers = {"atoll": atoll}
    if messages.stdlib is not None:
        makers["stdlib"] = messages.stdlib
    for key, module in makers.items():
        who = "atoll" if key == "atoll" else "standard library"
        interpreter = module.create()
        interpreter.exec(f"import sys; sys.path[:0] = [{here()!r}]")
        results.number(
            f"lifecycle.{key}_exec",
            timed(interpreter.exec, "pass"),
            "µs",
            f'exec("pass"): {who}',
        )
        results.number(
            f"lifecycle.{key}_call",
            timed(interpreter.call, peers.nothing, 1),
            "µs",
            f"call of a function that returns its argument: {who}",
        )
        interpreter.close()


def here():
    return str(Path(__file__).parent)


ALIVE = """
import importlib, json, sys
sys.path.insert(0, sys.argv[1])
import common

module = importlib.import_module(sys.argv[2])
module.create().close()
before = common.memory()
alive = [module.create() for _ in range(int(sys.argv[3]))]
print(json.dumps((common.memory() - before) / len(alive) / 1024))
"""


def measure_size(args, results):
    """The memory that an interpreter adds while it is alive."""
    count, rounds = (5, 1) if args.quick else (30, 3)
    makers = {"atoll": "atoll"}
    if messages.stdlib is not None:
        makers["stdlib"] = "concurrent.interpreters"
    sizes = {key: [] for key in makers}
    for _ in range(rounds):
        for key, module in makers.items():
            sizes[key].append(common.run_python(ALIVE, here(), module, count))
    for key, module in makers.items():
        results.number(
            f"lifecycle.{key}_size",
            sizes[key],
            "MiB (PSS)",
            f"memory of one new interpreter: {module}",
        )


def run(args):
    results = common.Results()
    measure_leaks(args, results)
    measure_calls(args, results)
    measure_size(args, results)
    return results


if __name__ == "__main__":
    common.main(run, __doc__)
