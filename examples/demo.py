"""A real job on every core: count what is in the standard library's source.

Every .py file of the running Python's standard library is parsed with `ast`,
in four ways: one after the other, in threads, in processes, and in
interpreters with atoll. Then an int is sent to and fro, in four ways as well.

    python demo.py [--workers N] [--limit FILES] [--no-messages]

The job is in stdlib_ast.py, the ways to do it (all that one needs to copy) are
in ways.py, the messages in messages.py. This file runs, measures and compares
them. Each way runs in a fresh Python, so that none gets memory that another
has left behind.
"""

import argparse
import os
import platform
import signal
import subprocess
import sys
from multiprocessing import Pipe
from pathlib import Path

import messages
import ways
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from stdlib_ast import stdlib_files

NAMES = {
    "serially": "serially",
    "threads": "threads",
    "processes": "processes",
    "atoll": "interpreters (atoll)",
}
SAMPLE_EVERY = 0.2  # seconds between two looks at the memory


class JobFailed(Exception):
    """A way ended without a result; it has said why on stderr."""


class Outcome:
    """What one way gave, and what it took."""

    def __init__(self, tally, seconds, memory, share):
        self.tally = tally
        self.seconds = seconds
        self.memory = memory  # bytes added at the peak; None: unknown
        self.share = share  # what CPU the machine gave for it


def measure(way, workers, limit=None, advance=lambda done, total: None):
    """Do the job in one way, in a Python of its own. Returns the Outcome.

    `advance(done, total)` is called after each batch. Ctrl-C is passed on,
    and the other Python has ended when this function returns or raises.
    """
    script = Path(__file__).with_name("ways.py")
    receive, send = Pipe(duplex=False)
    command = [sys.executable, str(script), way, f"--workers={workers}"]
    if limit is not None:
        command.append(f"--limit={limit}")
    command.append(f"--report={send.fileno()}")
    # A process group of its own: the terminal's Ctrl-C comes to us alone.
    process = subprocess.Popen(command, pass_fds=[send.fileno()], process_group=0)
    send.close()
    ready = False
    try:
        total = receive.recv()
        ready = True
        before = peak = memory_of(process.pid)
        for done in range(1, total + 1):
            while not receive.poll(SAMPLE_EVERY):
                peak = most(peak, memory_of(process.pid))
            receive.recv()
            advance(done, total)
            if done % workers == 0:
                peak = most(peak, memory_of(process.pid))
        tally, seconds, share = receive.recv()
    except KeyboardInterrupt:
        if ready or receive.poll(10):  # it can end in good order by now
            process.send_signal(signal.SIGINT)
        raise
    except EOFError:
        raise JobFailed(f"The job failed: {NAMES[way]}.") from None
    finally:
        receive.close()
        process.wait()
    added = None if before is None else peak - before
    return Outcome(tally, seconds, added, share)


def most(a, b):
    return max(a or 0, b or 0) or None


def memory_of(pid):
    """Bytes that a process and its children use: their proportional set sizes.

    A page that N processes share counts one Nth in each. None if it cannot be
    known, which is so everywhere but on Linux.
    """
    folder = Path("/proc") / str(pid)
    total = 0
    try:
        for line in (folder / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
        for children in folder.glob("task/*/children"):
            for child in children.read_text().split():
                total += memory_of(child) or 0
    except OSError:
        return None
    return total


# ---------------------------------------------------------------- showing it


def run_ways(console, workers, limit):
    outcomes = {}
    columns = (
        TextColumn("{task.description:<20}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("batches  {task.fields[took]}"),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        for way, name in NAMES.items():
            task = bar.add_task(name, total=None, took="")

            def advance(done, total, task=task):
                bar.update(task, completed=done, total=total)

            outcome = outcomes[way] = measure(way, workers, limit, advance)
            bar.update(task, took=f"{outcome.seconds:.2f} s")
            if not console.is_terminal:
                console.print(f"{name}: {outcome.seconds:.2f} s")
    return outcomes


def lacks(outcomes, workers):
    """Which ways had too little CPU to be compared (dict): what there was, in words."""
    alone = ("serially", "threads")  # one of them runs at a time
    found = {}
    for way, outcome in outcomes.items():
        lack = outcome.share.lack(1 if way in alone else workers)
        if lack is not None:
            found[way] = lack
    return found


def job_table(outcomes, lacking):
    table = Table(title="The job", title_justify="left")
    table.add_column("way")
    for heading in ("time", "speed-up", "memory added", "same answer"):
        table.add_column(heading, justify="right")
    serial = outcomes["serially"]
    for way, outcome in outcomes.items():
        if outcome.memory is None:
            memory = "unknown"
        else:
            memory = f"{outcome.memory / 1e6:.0f} MB"
        same = outcome.tally == serial.tally
        known = way not in lacking and "serially" not in lacking
        table.add_row(
            NAMES[way],
            f"{outcome.seconds:.2f} s",
            f"{serial.seconds / outcome.seconds:.2f} ×" if known else "–",
            memory,
            ("yes  " if same else "[red]NO[/]  ") + outcome.tally.digest(),
        )
    return table


def message_table(rows):
    table = Table(title="One int, from one worker to another", title_justify="left")
    table.add_column("way")
    for heading in ("there and back", "× atoll", "one way", "× atoll"):
        table.add_column(heading, justify="right")
    base = rows[0]
    for row in rows:
        if row.round_trip is None:
            table.add_row(row.name, row.why_not)
            continue
        table.add_row(
            row.name,
            f"{row.round_trip:,.2f} µs",
            f"{row.round_trip / base.round_trip:,.1f}",
            f"{row.one_way:,.2f} µs",
            f"{row.one_way / base.one_way:,.1f}",
        )
    return table


def arguments(argv):
    parser = argparse.ArgumentParser(
        description="Parse the standard library on every core, in four ways."
    )
    ways.add_job_arguments(parser)
    parser.add_argument("--no-messages", action="store_true", help="leave the messages out")
    return parser.parse_args(argv)


def main(argv=None):
    args = arguments(argv)
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 100
    paths = stdlib_files(args.limit)
    if not paths:
        console.print("This Python has no source of its standard library.")
        return 1
    # Read all once, so that nobody has to wait for the disk later.
    size = sum(len(Path(path).read_bytes()) for path in paths)
    console.print(
        f"CPython {platform.python_version()}, {os.process_cpu_count()} cores,"
        f" {args.workers} workers; {len(paths):,} files, {size / 1e6:.1f} MB"
    )

    outcomes = run_ways(console, args.workers, args.limit)
    lacking = lacks(outcomes, args.workers)
    console.print(job_table(outcomes, lacking))
    if lacking:
        console.print(
            "–: there was too little CPU to compare. "
            + "; ".join(f"{NAMES[way]}: {lack}" for way, lack in lacking.items())
            + ". Try again when nothing else runs.",
            soft_wrap=True,
        )
    console.print(
        "Memory: what the process and its children have added at the peak"
        " (PSS: a shared page counts once).",
        soft_wrap=True,
    )
    tally = outcomes["serially"].tally
    console.print(str(tally), soft_wrap=True)
    if any(outcome.tally != tally for outcome in outcomes.values()):
        console.print("[red]The answers differ.[/]")
        return 1

    if not args.no_messages:
        console.print()
        console.print(message_table(messages.measure_all()))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except JobFailed as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        print("\nStopped by Ctrl-C.", file=sys.stderr)
        sys.exit(130)
