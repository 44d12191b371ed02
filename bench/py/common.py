"""What all benchmarks share: numbers, goals, and running them.

A theme is a module with a function `run(args) -> Results`. It can be run
alone, `python bench/py/messages.py [--quick]`, or by `bench/run.py`, which
runs each theme in a fresh process.
"""

import argparse
import importlib
import json
import os
import statistics
import subprocess
import sys
import traceback
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


class Results:
    """The numbers of one theme, and what the goals say of them."""

    def __init__(self):
        self.numbers = {}
        self.goals = []

    def number(self, key, values, unit, what):
        """Record what was measured, in `unit`. Returns the median.

        `values` has one value for each repeat; `what` is for the reader.
        """
        values = [float(value) for value in values]
        median = statistics.median(values)
        self.numbers[key] = {
            "what": what,
            "unit": unit,
            "repeats": len(values),
            "min": min(values),
            "median": median,
            "max": max(values),
        }
        return median

    def goal(self, what, goal, measured, beside, met):
        """Record whether a goal is met. All but `met` is text.

        `beside` is the rival or the floor, measured in the same run. `met` is
        None where nothing could be measured; then `beside` says why.
        """
        self.goals.append(
            {
                "what": what,
                "goal": goal,
                "measured": measured,
                "beside": beside,
                "met": None if met is None else bool(met),
            }
        )

    def as_dict(self):
        return {"numbers": self.numbers, "goals": self.goals}


class MissingFloor(Exception):
    """A program or a module that a benchmark needs is not there."""


# ---------------------------------------------------------------- the C floor


def find_handover(given=None):
    """The path of the C program `handover`, which `make bench` builds.

    It is `given`, or $ATOLL_HANDOVER, or that of an earlier `make bench`.
    """
    given = given or os.environ.get("ATOLL_HANDOVER")
    build = "bench-{}.{}".format(*sys.version_info)
    default = REPOSITORY / "build" / build / "bench" / "c" / "handover"
    path = Path(given) if given else default
    if path.is_file() and os.access(path, os.X_OK):
        return path
    raise MissingFloor(f"no C program {path}: `make bench` builds it")


def floor_program(args, name):
    """The C program `name`, which `make bench` builds beside `handover`."""
    path = find_handover(args.handover).with_name(name)
    if not path.is_file():
        raise MissingFloor(f"no C program {path}: `make bench` builds it")
    return path


def run_floor(program, *arguments):
    """Run a C program and return the JSON that it prints."""
    command = [str(program), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode != 0:
        raise MissingFloor(f"{' '.join(command)}: {done.stderr.strip()}")
    return json.loads(done.stdout)


def handover(args, *arguments):
    """Run `handover` and return what it says."""
    return run_floor(find_handover(args.handover), *arguments)


def import_floor(args):
    """The module in C `floor`, which `make bench` builds beside `handover`."""
    folder = str(find_handover(args.handover).parent)
    sys.path.append(folder)
    try:
        return importlib.import_module("floor")
    except ImportError as error:
        said = f"no module floor in {folder} ({error}): `make bench` builds it"
        raise MissingFloor(said) from None
    finally:
        sys.path.remove(folder)


def python_environment():
    """For a fresh Python.

    It may write .pyc files: without them an import compiles, every time.
    """
    env = os.environ.copy()
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    return env


def run_python(source, *arguments, timeout=300, env=None):
    """Run `source` in a fresh Python; return the JSON that it prints last."""
    done = subprocess.run(
        [sys.executable, "-c", source, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env=env or python_environment(),
    )
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip())
    return json.loads(done.stdout.splitlines()[-1])


# ------------------------------------------------------------- this process


def cpus():
    """The CPUs that this process may use, or [] if that is not known."""
    try:
        return sorted(os.sched_getaffinity(0))
    except AttributeError:
        return []


def memory(kind="Pss"):
    """The memory of this process in KiB: "Pss" or "Rss". Linux only."""
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith(kind + ":"):
            return int(line.split()[1])
    raise MissingFloor(f"no {kind} in /proc/self/smaps_rollup")


def thread_count():
    return len(os.listdir("/proc/self/task"))


def descriptor_count():
    return len(os.listdir("/proc/self/fd")) - 1  # one is that of listdir


# ------------------------------------------------------------- command line


def add_arguments(parser):
    parser.add_argument(
        "--quick",
        action="store_true",
        help="a smoke run: far too short to mean anything",
    )
    parser.add_argument(
        "--handover",
        metavar="PATH",
        help="the C program `handover` (default: $ATOLL_HANDOVER)",
    )


def main(run, description):
    """Run one theme and print it, as text or, with --json, as JSON."""
    parser = argparse.ArgumentParser(description=description.split("\n")[0])
    add_arguments(parser)
    parser.add_argument("--json", metavar="FILE", help="write the results to FILE, in silence")
    args = parser.parse_args()
    try:
        results = run(args)
    except BaseException as error:
        # At once: the other sides are still waiting for messages.
        if isinstance(error, MissingFloor):
            print(error, file=sys.stderr)
        elif not isinstance(error, KeyboardInterrupt):
            traceback.print_exc()
        sys.stderr.flush()
        os._exit(130 if isinstance(error, KeyboardInterrupt) else 1)
    if args.json:
        Path(args.json).write_text(json.dumps(results.as_dict()))
        return
    for entry in results.numbers.values():
        print(
            f"{entry['what']}: {entry['median']:.4g} {entry['unit']}"
            f" ({entry['min']:.4g} to {entry['max']:.4g},"
            f" {entry['repeats']} repeats)"
        )
    for goal in results.goals:
        met = {True: "met    ", False: "NOT MET", None: "n/a    "}[goal["met"]]
        print(
            f"{met} {goal['what']}:"
            f" {goal['goal']}; measured {goal['measured']}"
            f" ({goal['beside']})"
        )
