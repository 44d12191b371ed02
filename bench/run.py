"""Run all benchmarks, print what they say, and write it down as JSON. When all of them
have run, docs/measurements.md and the figures of the README are written, too.

    python bench/run.py [--quick] [--only THEME] [--output FILE]

Each theme (bench/py/*.py) runs in a fresh process, one after the other. Leave
the machine alone meanwhile. bench/README.md says what each number means.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

BENCH = Path(__file__).resolve().parent
sys.path[:0] = [str(BENCH), str(BENCH / "py")]

import common  # noqa: E402
import report  # noqa: E402
from report import show  # noqa: E402

# The README's come first.
THEMES = {
    "messages": "an int there and back, and one way",
    "transfer": "objects and buffers, there and back, encoded and decoded",
    "alternatives": "what else one could use: a worker's start, memory and messages",
    "executor": "the pool of interpreters against CPython's pools",
    "speedup": "pure Python in two interpreters and in two processes",
    "shared": "one frozen graph for eight workers, against processes",
    "lifecycle": "1,000 interpreters created and closed",
    "many": "a million channels, queues, locks",
    "imports": "import atoll",
    "job": "the job of the demo",
    "frozen": "frozen graphs: made, received, walked",
    "parked": "hand-over to a receiver that is blocked; blocked for long",
    "pairs": "8 interpreters in 4 pairs",
    "csp": "select, a ring of processes, many waiters",
    "tracing": "what atoll.trace() costs",
    "extensions": "NumPy and its stack in interpreters and in processes",
    "joblib": "a grid search of scikit-learn by joblib",
    "mapping": "atoll map on lines of text",
    "map_cheap": "atoll map where a line costs next to nothing",
}


# A file of that name would hide the package.
FILES = {"joblib": "joblib_search"}

NEED_HANDOVER = {"messages", "transfer", "parked", "pairs", "csp"}


def command_output(*command):
    try:
        done = subprocess.run(command, cwd=BENCH, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def cpu_model():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def atoll_version():
    try:
        return metadata.version("atoll")
    except metadata.PackageNotFoundError:
        return "not installed"


def environment(args):
    """Where and with what this was measured."""
    libc = " ".join(platform.libc_ver()).strip()
    changed = command_output("git", "status", "--porcelain", "-uno")
    return {
        "date": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "machine": platform.machine(),
        "cpu": cpu_model(),
        "cores": os.process_cpu_count(),
        "load_before": os.getloadavg()[0],
        "kernel": f"{platform.system()} {platform.release()}",
        "libc": libc,
        "python": platform.python_version(),
        "compiler": platform.python_compiler(),
        "atoll": atoll_version(),
        "commit": command_output("git", "rev-parse", "HEAD"),
        "changed": None if changed is None else bool(changed),
        "command": " ".join(
            ["python bench/run.py", *["--quick"] * args.quick]
            + [f"--only {theme}" for theme in args.only or ()]
        ),
        "quick": args.quick,
    }


def run_theme(theme, args):
    """The results of one theme, or the reason why there are none."""
    with tempfile.TemporaryDirectory(prefix="atoll-bench-") as folder:
        output = Path(folder) / "results.json"
        command = [sys.executable, str(BENCH / "py" / f"{FILES.get(theme, theme)}.py")]
        command += ["--json", str(output)]
        if args.quick:
            command.append("--quick")
        if args.handover:
            command += ["--handover", args.handover]
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode == 130:
            raise KeyboardInterrupt
        if done.returncode == 0 and output.exists():
            return json.loads(output.read_text()), None
    reason = done.stderr.strip() or f"exit status {done.returncode}"
    return {"numbers": {}, "goals": []}, reason


def goal_table(goals):
    table = Table(title="Goals", title_justify="left")
    for heading in ("what", "goal", "measured", "rival or floor, in the same run"):
        table.add_column(heading)
    table.add_column("met")
    said = {True: "[green]yes[/]", False: "[red]NO[/]", None: "n/a"}
    for goal in goals:
        met = said[goal["met"]]
        table.add_row(goal["what"], goal["goal"], goal["measured"], goal["beside"], met)
    return table


def number_table(numbers):
    table = Table(title="All numbers", title_justify="left")
    table.add_column("what")
    table.add_column("unit")
    for heading in ("median", "min", "max", "repeats"):
        table.add_column(heading, justify="right")
    for number in numbers.values():
        table.add_row(
            number["what"],
            number["unit"],
            *(show(number[key]) for key in ("median", "min", "max")),
            str(number["repeats"]),
        )
    return table


def arguments():
    parser = argparse.ArgumentParser(
        description="Run all benchmarks of atoll, one after the other."
    )
    common.add_arguments(parser)
    parser.add_argument(
        "--only",
        action="append",
        choices=THEMES,
        metavar="THEME",
        help=f"only this theme; may be repeated ({', '.join(THEMES)})",
    )
    parser.add_argument(
        "--output",
        metavar="FILE",
        type=Path,
        default=BENCH / "results.json",
        help="where the JSON goes (default: bench/results.json)",
    )
    parser.add_argument(
        "--strict",
        action="store_true",
        help="exit with status 1 when a goal is not met",
    )
    return parser.parse_args()


def main():
    args = arguments()
    themes = args.only or list(THEMES)
    if NEED_HANDOVER.intersection(themes):
        try:
            common.find_handover(args.handover)
        except common.MissingFloor as error:
            sys.exit(f"error: {error}")
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 140
    where = environment(args)
    console.print(
        f"atoll {where['atoll']}, CPython {where['python']},"
        f" {where['cpu']}, {where['cores']} cores, {where['kernel']}"
    )
    if where["load_before"] > 0.5 and not args.quick:
        console.print(
            f"[yellow]The machine is busy (load {where['load_before']:.1f}):"
            " these numbers will not mean much.[/]"
        )
    numbers, goals, failed = {}, [], {}
    start = time.monotonic()
    for theme in themes:
        began = time.monotonic()
        console.print(f"{theme}: {THEMES[theme]} …", end="")
        results, reason = run_theme(theme, args)
        console.print(f" {time.monotonic() - began:.0f} s")
        for one in [*results["numbers"].values(), *results["goals"]]:
            one["theme"] = theme
        numbers.update(results["numbers"])
        goals += results["goals"]
        if reason is not None:
            failed[theme] = reason
            console.print(f"[red]failed:[/] {escape(reason)}")
        where["seconds"] = round(time.monotonic() - start)
        data = {"environment": where, "goals": goals, "numbers": numbers, "failed": failed}
        # After each theme, so that Ctrl-C loses only the one that runs.
        args.output.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n")
    console.print()
    if numbers:
        console.print(number_table(numbers))
        console.print(goal_table(goals))
    met = sum(goal["met"] is True for goal in goals)
    console.print(f"{met} of {len(goals)} goals met, {where['seconds']} s.")
    for theme in failed:
        console.print(f"[red]Not measured: {theme}.[/]")
    console.print(f"Written to {args.output}.", soft_wrap=True)
    if not (failed or args.quick or args.only):
        report.write(data, THEMES)
        console.print(
            "docs/measurements.md and the figures of README.md and docs/map.md are of this run."
        )
    if failed or (args.strict and met < len(goals)):
        return 1
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("\nStopped by Ctrl-C.", file=sys.stderr)
        sys.exit(130)
