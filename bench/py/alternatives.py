"""What else one could use: how soon a worker answers, its memory, a round trip.

Each way runs bench/rivals/alternative.py in fresh processes, in turns. Ray has an
environment of its own, which `make bench` makes; a free-threaded CPython is used if one is
on PATH.
"""

import json
import shutil
import sys

import common
import rivals

PROGRAM = rivals.PROGRAMS / "alternative.py"

# (way, name for the reader, round trips in a round)
WAYS = (
    ("atoll", "atoll", 20_000),
    ("threads", "threads", 5_000),
    ("free_threads", "threads of free-threaded CPython", 5_000),
    ("processes", "multiprocessing", 5_000),
    ("interpreters", "concurrent.interpreters", 30),
    ("ray", "Ray", 500),
)


def free_threaded():
    """The path of a free-threaded CPython, or None."""
    for minor in (15, 14, 13):
        found = shutil.which(f"python3.{minor}t")
        if found is not None:
            return found
    return None


def python_for(way):
    """The Python that runs the way, or None."""
    if way == "free_threads":
        return free_threaded()
    if way == "ray":
        path = rivals.BUILD / "ray" / "bin" / "python"
        return path if path.exists() else None
    if way == "interpreters" and sys.version_info < (3, 14):
        return None
    return sys.executable


def run_way(way, trips):
    """What the program says; None if the way is not to be had here."""
    python = python_for(way)
    if python is None:
        return None
    program = [python, PROGRAM, "threads" if way == "free_threads" else way, trips]
    try:
        return json.loads(rivals.run(program, timeout=120).splitlines()[-1])
    except (OSError, RuntimeError, ValueError, IndexError) as error:
        print(f"{way}: {error}", file=sys.stderr)
        return None


def run(args):
    results = common.Results()
    said = {way: [] for way, _, _ in WAYS}
    for _ in range(1 if args.quick else 5):
        for way, _, trips in WAYS:
            answer = run_way(way, max(trips // 100, 5) if args.quick else trips)
            if answer is not None:
                said[way].append(answer)
    trip = {}
    for way, name, _ in WAYS:
        if not said[way]:
            continue
        for key, unit, factor, what in (
            ("first", "ms", 1e3, "from the import to the answer of the first worker"),
            ("further", "ms", 1e3, "until a further worker answers"),
            ("memory", "MiB", 1 / 1024, "memory (PSS) that a further worker adds"),
        ):
            values = [answer[key] * factor for answer in said[way]]
            results.number(f"alternatives.{way}.{key}", values, unit, f"{what}: {name}")
        trips = [value * 1e6 for answer in said[way] for value in answer["trip"]]
        key = f"alternatives.{way}.trip"
        trip[way] = results.number(key, trips, "µs", f"an int there and back: {name}")
    if "processes" in trip and "atoll" in trip:
        results.goal(
            "an int there and back, both sides awake",
            "≤ 1/10 of processes",
            f"{trip['atoll']:.2f} µs",
            f"multiprocessing {trip['processes']:.1f} µs",
            trip["atoll"] <= trip["processes"] / 10,
        )
    return results


if __name__ == "__main__":
    common.main(run, __doc__)
