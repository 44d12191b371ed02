"""The executor: beside the pools of threads, processes and interpreters of CPython.

No-op tasks one by one and by map(), the first task of a new pool, an asyncio loop
with thousands of tasks, and two real jobs with their memory. See pools.py.
"""

import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

import common

EXAMPLES = common.REPOSITORY / "examples"
sys.path.insert(0, str(EXAMPLES))

import demo  # noqa: E402

NAMES = {
    "atoll": "atoll",
    "threads": "ThreadPoolExecutor",
    "stdlib": "standard library's InterpreterPoolExecutor",
    "processes": "ProcessPoolExecutor",
}
JOBS = {"ast": "the standard library parsed", "numpy": "a Monte Carlo with NumPy"}


def environment():
    env = common.python_environment()
    folders = [os.path.dirname(os.path.abspath(__file__)), str(EXAMPLES)]
    env["PYTHONPATH"] = os.pathsep.join(folders)
    return env


def measure(what, args):
    source = f"import pools; pools.main({what!r}, {args.quick})"
    return common.run_python(source, env=environment())


def ratio(above, below):
    """The median of the rounds' ratios; the two were measured in turns."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def numbers(results, key, values, unit, what):
    """Record all ways. Returns the medians."""
    return {
        way: results.number(f"executor.{key}.{way}", values[way], unit, f"{what}: {name}")
        for way, name in NAMES.items()
        if way in values
    }


def measure_latency(args, results):
    values = measure("latency", args)
    what = "a no-op task, from submit() to the result"
    median = numbers(results, "latency", values, "µs", what)
    beside = ", ".join(f"{NAMES[w]} {m:.1f} µs" for w, m in median.items() if w != "atoll")
    ours, threads = median["atoll"], median["threads"]
    results.goal(what, "≤ 12 µs", f"{ours:.1f} µs", beside, ours <= 12)
    than = ratio(values["atoll"], values["threads"])
    results.goal(
        what,
        "less than a thread pool",
        f"{than:.2f} ×",
        f"{ours:.1f} and {threads:.1f} µs",
        than < 1,
    )


def measure_rate(args, results):
    values = measure("rate", args)
    what = "10,000 no-op tasks by map() with two workers"
    median = numbers(results, "rate", values, "tasks/s", what)
    for way, least in (("stdlib", 10), ("processes", 15), ("threads", None)):
        if way not in values:
            no = "CPython 3.13 has no InterpreterPoolExecutor"
            results.goal(what, f"≥ {least} × its rate", "", no, None)
            continue
        than = ratio(values["atoll"], values[way])
        key = f"executor.rate.ratio.{way}"
        results.number(key, [than], "×", f"{what}: atoll's rate against {NAMES[way]}")
        if least is not None:
            results.goal(
                what,
                f"≥ {least} × the rate of {NAMES[way]}",
                f"{than:.1f} × ({median['atoll']:,.0f}/s)",
                f"{median[way]:,.0f}/s",
                than >= least,
            )


def measure_follow(args, results):
    values = measure("follow", args)
    for key, what, most in (
        ("unchanged", "surroundings that have not changed, for each task", 0.1),
        ("changed", "os.environ with 50 variables, changed before each task", 30),
    ):
        more = results.number(f"executor.follow.{key}", values[key], "µs", what)
        beside = "the same pool with follow=False"
        results.goal(what, f"≤ {most} µs more", f"{more:.2f} µs", beside, more <= most)


def measure_first(args, results):
    values = measure("first", args)
    what = "the first task of a new pool"
    median = numbers(results, "first", values, "ms", what)
    beside = ", ".join(f"{NAMES[w]} {m:.2f} ms" for w, m in median.items() if w != "atoll")
    cold = median["atoll"]
    results.goal(f"{what}, cold", "≤ 13 ms", f"{cold:.1f} ms", beside, cold <= 13)
    warm = results.number(
        "executor.first.warm", values["warm"], "ms", f"{what}: atoll with a spare interpreter"
    )
    results.goal(
        f"{what}, with a spare interpreter",
        "≤ 0.3 ms",
        f"{warm:.2f} ms",
        f"a new thread pool {median['threads']:.2f} ms",
        warm <= 0.3,
    )


def measure_loop(args, results):
    values = measure("loop", args)
    names = dict(NAMES)
    names["await"] = "atoll, the futures awaited"
    names["nice"] = "atoll with nice=19"
    names["await nice"] = "atoll with nice=19, the futures awaited"
    names["idle"] = "nothing to do"
    median = {}
    for way, rounds in values.items():
        for key, what in (("max", "latest"), ("p99", "99 % were less late")):
            median[way, key] = results.number(
                f"executor.loop.{way.replace(' ', '.')}.{key}",
                [said[key] for said in rounds],
                "ms",
                f"an asyncio loop with 5,000 tasks, {what}: {names[way]}",
            )
        if way != "idle":
            results.number(
                f"executor.loop.{way.replace(' ', '.')}.time",
                [said["s"] for said in rounds],
                "s",
                f"5,000 asyncio tasks, a job of 1 ms each, 4 workers: {names[way]}",
            )
            results.number(
                f"executor.loop.{way.replace(' ', '.')}.most",
                [said["most"] for said in rounds],
                "tasks",
                f"asyncio tasks under way at once: {names[way]}",
            )
    for key, ways in itertools.product(
        ("p99", "max"), (("nice", "await nice"), ("atoll", "await"))
    ):
        # The worse of both ways to wait for a future.
        ours = max(median[way, key] for way in ways)
        others = [way for way in NAMES if way != "atoll" and way in values]
        beside = ", ".join(f"{NAMES[way]} {median[way, key]:.1f} ms" for way in others)
        results.goal(
            f"lateness of an asyncio loop with 5,000 tasks, {key}"
            + (", nice=19" if "nice" in ways else ""),
            "< 5 ms",
            f"{ours:.1f} ms",
            f"{beside}, idle {median['idle', key]:.1f} ms",
            ours < 5,
        )


def run_job(name, way, args):
    """[seconds, the answer, PSS of all its processes at the peak in MiB]"""
    source = f"import pools; pools.main('job', {name!r}, {way!r}, {args.quick})"
    peak = 0
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", source],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment(),
        )
        while process.poll() is None:
            peak = max(peak, demo.memory_of(process.pid) or 0)
            time.sleep(0.1)
        output.seek(0)
        said = output.read()
    if process.returncode:
        raise RuntimeError(said.strip())
    given = json.loads(said.splitlines()[-1])
    return None if given is None else [*given, peak / 2**20]


def measure_jobs(args, results):
    rounds = 1 if args.quick else 3
    for name, job in JOBS.items():
        ways = [way for way in NAMES if way != "threads"]
        if name == "numpy" or sys.version_info < (3, 14):
            ways.remove("stdlib")  # it refuses NumPy
        given = {way: [] for way in ways}
        for _ in range(rounds):
            for way in ways:
                given[way].append(run_job(name, way, args))
        if given["atoll"][0] is None:
            results.goal(job, "≥ 0.97 × the speed", "", "NumPy is not installed", None)
            continue
        if len({said[1] for rounds in given.values() for said in rounds}) != 1:
            raise RuntimeError(f"{job}: the answers differ")
        times = {way: [said[0] for said in rounds] for way, rounds in given.items()}
        memory = {way: [said[2] for said in rounds] for way, rounds in given.items()}
        time_of = numbers(results, f"{name}.time", times, "s", f"{job}, two workers")
        memory_of = numbers(
            results,
            f"{name}.memory",
            memory,
            "MiB (PSS)",
            f"{job}, memory of all processes at the peak",
        )
        speed = ratio(times["processes"], times["atoll"])
        results.goal(
            f"{job}: speed with two workers",
            "≥ 0.97 × that of two processes",
            f"{speed:.3f} × ({time_of['atoll']:.2f} s)",
            f"{time_of['processes']:.2f} s; memory {memory_of['atoll']:.0f} MiB"
            f" and {memory_of['processes']:.0f} MiB",
            speed >= 0.97,
        )


def run(args):
    results = common.Results()
    measure_latency(args, results)
    measure_rate(args, results)
    measure_follow(args, results)
    measure_first(args, results)
    measure_loop(args, results)
    measure_jobs(args, results)
    return results


if __name__ == "__main__":
    common.main(run, __doc__)
