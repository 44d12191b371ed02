"""atoll map on lines of text, beside a loop, multiprocessing.Pool and GNU parallel.

The text is the standard library's sources, over and over: 50 MB, or ATOLL_MAP_MB; every
line costs about 20 µs. Each way writes the same file. The loop and atoll map take turns.
"""

import filecmp
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

import common

JOB = common.REPOSITORY / "bench" / "rivals" / "map_lines.py"
WORKERS = 2
LINE = 20e-6  # seconds


def make_text(path, size):
    """Returns the number of lines."""
    sources = sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py"))
    sources = [file for file in sources if "site-packages" not in file.parts]
    lines = 0
    with open(path, "wb") as out:
        while True:
            for file in sources:
                try:
                    data = file.read_bytes()
                except OSError:
                    continue
                if data and not data.endswith(b"\n"):
                    data += b"\n"
                out.write(data)
                lines += data.count(b"\n")
                if out.tell() >= size:
                    return lines


def loops():
    """How often the function's loop runs in LINE seconds, here."""
    source = """
import sys, time
sys.path.insert(0, sys.argv[1])
from map_lines import work
times = []
for _ in range(2000):
    begin = time.perf_counter()
    work("x" * 40)
    times.append(time.perf_counter() - begin)
print(min(times))
"""
    env = {**os.environ, "MAP_LOOPS": "500"}
    best = float(common.run_python(source, JOB.parent, env=env))
    return max(1, round(500 * LINE / best))


def timed(command, env, source, target):
    """Seconds, and the most memory (MiB) of the process itself."""
    with open(source, "rb") as stdin, open(target, "wb") as stdout:
        begin = time.perf_counter()
        process = subprocess.Popen(list(map(str, command)), env=env, stdin=stdin, stdout=stdout)
        _, status, usage = os.wait4(process.pid, 0)
        elapsed = time.perf_counter() - begin
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{command}: exit status {process.returncode}")
    return elapsed, usage.ru_maxrss / 1024


def ways(source):
    python = sys.executable
    atoll = [python, "-m", "atoll", "map", f"{JOB}:work", source]
    found = {
        "serial": [python, JOB, "serial", source, 1],
        "atoll": [*atoll, "-j", WORKERS],
        "atoll1": [*atoll, "-j", 1],
        "pool": [python, JOB, "pool", source, WORKERS],
    }
    if shutil.which("parallel"):
        found["parallel"] = ["parallel", "--will-cite", "--pipe", "--block", "1M", "-k",
                             f"-j{WORKERS}", f"{python} {JOB} serial - 1"]  # fmt: skip
    return found


NAMES = {
    "serial": "a loop over the lines, one core",
    "atoll": "atoll map -j 2",
    "atoll1": "atoll map -j 1",
    "pool": "multiprocessing.Pool(2).imap",
    "parallel": "parallel --pipe -j2",
}


def run(args):
    results = common.Results()
    megabytes = 1 if args.quick else float(os.environ.get("ATOLL_MAP_MB", "50"))
    rounds = 1 if args.quick else 3 if megabytes <= 200 else 1
    env = {**common.python_environment(), "MAP_LOOPS": str(loops())}
    with tempfile.TemporaryDirectory(prefix="atoll-map-") as folder:
        source, first, other = (Path(folder) / name for name in ("text", "serial", "other"))
        lines = make_text(source, megabytes * 1e6)
        commands = ways(source)
        if megabytes > 200:
            del commands["atoll1"]  # ten minutes more, and no goal needs it
        times = {way: [] for way in commands}
        memory = {way: [] for way in commands}
        for _ in range(rounds):
            for way, command in commands.items():
                target = first if way == "serial" else other
                elapsed, peak = timed(command, env, source, target)
                if way != "serial" and not filecmp.cmp(first, other, shallow=False):
                    raise RuntimeError(f"{NAMES[way]}: another result")
                times[way].append(elapsed)
                memory[way].append(peak)
    rates = {}
    for way, seconds in times.items():
        each = [lines / elapsed for elapsed in seconds]
        rates[way] = results.number(f"map.{way}", each, "lines/s", f"map: {NAMES[way]}")
    results.number(
        "map.memory", memory["atoll"], "MiB (RSS)", f"map: memory of {NAMES['atoll']}"
    )
    speedups = [a / b for a, b in zip(times["serial"], times["atoll"], strict=True)]
    speedup = results.number("map.speedup", speedups, "×", "map: speed-up over the loop")
    text = f"{megabytes:g} MB, {lines:,} lines of 20 µs"
    goal = "atoll map: two cores beside one"
    results.goal(goal, "≥ 1.9 ×", f"{speedup:.2f} ×", text, speedup >= 1.9)
    for rival in ("pool", "parallel"):
        goal = f"atoll map beside {NAMES[rival]}"
        if rival not in rates:
            missing = "no GNU parallel here; Debian: apt-get install parallel"
            results.goal(goal, "≥ 1 ×", "", missing, None)
            continue
        ratio = rates["atoll"] / rates[rival]
        beside = f"{rates[rival]:,.0f} lines/s"
        results.goal(goal, "≥ 1 ×", f"{ratio:.2f} ×", beside, ratio >= 1)
    return results


if __name__ == "__main__":
    common.main(run, __doc__)
