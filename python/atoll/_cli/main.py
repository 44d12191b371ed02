"""The command line: ``atoll doctor``, ``map``, ``run`` …, also as ``python -m atoll``."""

from __future__ import annotations

import argparse
import os
import signal
import sys

from .. import __version__
from .._doctor import doctor as _doctor
from . import map as _map_cli

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType, TracebackType

_DOCTOR = """\
Find out which installed packages work in interpreters with a GIL of their own: as
they are, in private copies of their extension modules, or not. Each module is
imported in child processes, so crashes do no harm.
"""

_STATUS = """\
exit status: 0 all packages work; 1 some do not (without PACKAGE, those that do not
even import in main do not count); 2 wrong usage, or an unknown package; 130
interrupted, after printing what is known so far
"""


def _seconds(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise ValueError
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError
    return value


_seconds.__name__ = "number of seconds"  # argparse: "invalid … value"
_count.__name__ = "positive number"


def _parser() -> argparse.ArgumentParser:
    parser = _map_cli.Parser(
        prog="atoll", description="Isolated Python interpreters on every core."
    )
    parser.add_argument("--version", action="version", version=f"atoll {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    doctor = commands.add_parser(
        "doctor",
        help="which installed packages work in interpreters",
        description=_DOCTOR,
        epilog=_STATUS,
    )
    doctor.add_argument(
        "packages",
        metavar="PACKAGE",
        nargs="*",
        help="a distribution, or a name to import; default: all with extension modules",
    )
    doctor.add_argument("--json", action="store_true", help="for programs")
    doctor.add_argument("--all", action="store_true", help="list every module")
    doctor.add_argument(
        "--timeout",
        metavar="S",
        type=_seconds,
        default=60.0,
        help="seconds that one import may take (default: 60)",
    )
    doctor.add_argument(
        "--jobs",
        metavar="N",
        type=_count,
        help="child processes at a time (default: one for each processor, 4 at most)",
    )
    doctor.set_defaults(run=_run_doctor)
    _map_cli.add(commands, _count)
    _add_trace(commands)
    bench = commands.add_parser(
        "bench",
        help="what tasks cost on this machine, beside threads and processes",
        description="Measure pools of interpreters, threads and processes in turns, on this "
        "machine. Takes some ten seconds; nothing else should run.",
        epilog="example: atoll bench --workers 8",
    )
    bench.add_argument(
        "--workers", metavar="N", type=_count, help="of each pool (default: one a core)"
    )
    bench.add_argument(
        "--rounds", metavar="N", type=_count, default=5, help="measurements (default: 5)"
    )
    bench.add_argument("--json", action="store_true", help="for programs")
    bench.set_defaults(run=_run_bench)
    top = commands.add_parser(
        "top",
        help="watch a running process",
        description="Show what the interpreters, pools and queues of a running process do, "
        "every second. It has to serve it: ATOLL_TOP=1 in its environment, or "
        "atoll.serve_stats(). Only the user that it runs as may look.",
        epilog="example: ATOLL_TOP=1 python crawl.py & atoll top",
    )
    top.add_argument(
        "pid", metavar="PID", nargs="?", type=_count, help="default: if one serves"
    )
    top.add_argument("--interval", metavar="S", type=_seconds, default=1.0, help="default: 1")
    top.add_argument("--once", action="store_true", help="once, and end")
    top.add_argument("--json", action="store_true", help="one line of JSON each time")
    top.set_defaults(run=_run_top)
    return parser


def _add_trace(commands: argparse._SubParsersAction[_map_cli.Parser]) -> None:
    run = commands.add_parser(
        "run",
        help="run a script, with a timeline of what its interpreters do",
        description="Run a script as python does, tracing it: see atoll.trace().",
        epilog="example: atoll run -o out.json crawl.py --depth 3; atoll trace report out.json",
    )
    run.add_argument(
        "-o", "--output", metavar="FILE", default="trace.json", help="default: trace.json"
    )
    run.add_argument("script", metavar="SCRIPT")
    run.add_argument("args", metavar="ARG", nargs=argparse.REMAINDER, help="the script's own")
    run.set_defaults(run=_run_script)
    trace = commands.add_parser("trace", help="what to do with a trace")
    report = trace.add_subparsers(metavar="COMMAND", required=True).add_parser(
        "report",
        help="draw it",
        description="Draw a trace that atoll.trace() has written, and say which tasks "
        "took longest. https://ui.perfetto.dev shows the same file, to zoom into.",
    )
    report.add_argument("file", metavar="FILE", help="what atoll.trace() has written")
    report.add_argument(
        "-o", "--output", metavar="SVG", help="default: FILE with the suffix .svg"
    )
    report.set_defaults(run=_run_report)


def _end(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _run_doctor(args: argparse.Namespace) -> int:
    from .._doctor import find as _doctor_find
    from . import doctor as _doctor_show

    # The children are in sessions of their own: nobody else ends them.
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _end)
    found: list[_doctor.Diagnosis] = []
    line = _doctor_show.Line(sys.stderr)

    def progress(news: _doctor.Progress) -> None:
        if news.diagnosis is not None:
            found.append(news.diagnosis)
        line(news)

    interrupted = False
    try:
        _doctor.doctor(
            args.packages or None, timeout=args.timeout, jobs=args.jobs, progress=progress
        )
    except KeyboardInterrupt:
        interrupted = True
    except _doctor_find.UnknownPackageError as exc:
        print(f"atoll doctor: error: {exc}", file=sys.stderr)
        return 2
    finally:
        line.clear()
    found.sort(key=lambda diagnosis: _doctor_find.normal(diagnosis.name))
    if args.json:
        _doctor_show.write_json(found, interrupted, sys.stdout)
    elif found or not interrupted:
        _doctor_show.show(found, args.all, sys.stdout)
    if interrupted:
        sys.stdout.flush()
        print("interrupted", file=sys.stderr)
        return 130
    # What is broken anyway counts only if somebody has asked for it.
    bad = {"fails", "main-fails"} if args.packages else {"fails"}
    return 1 if any(diagnosis.verdict in bad for diagnosis in found) else 0


def _run_top(args: argparse.Namespace) -> int:
    from . import top as _top_show

    try:
        return _top_show.run(args.pid, args.interval, args.once, args.json)
    except _top_show.CannotLookError as exc:
        print(f"atoll top: error: {exc}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 0 if not args.once else 130


def _run_bench(args: argparse.Namespace) -> int:
    from . import bench as _bench

    try:
        return _bench.run(args.workers, args.rounds, args.json, sys.stdout)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _forget_our_frames(exc: BaseException, ours: set[str]) -> None:
    """Have its traceback begin in the script, as if Python had run that itself.

    Where it passes from here on is left out as well: whoever shows it gets it as it is
    now, also a hook of the script's.
    """
    traceback = exc.__traceback__
    while traceback is not None and traceback.tb_frame.f_code.co_filename in ours:
        traceback = traceback.tb_next
    show = sys.excepthook

    def hook(
        kind: type[BaseException], value: BaseException, full: TracebackType | None
    ) -> None:
        show(kind, value.with_traceback(traceback), traceback)

    sys.excepthook = hook


def _run_script(args: argparse.Namespace) -> int:
    import runpy

    from .._look.trace import trace

    if not os.path.isfile(args.script):
        print(f"atoll run: error: no such script: {args.script}", file=sys.stderr)
        return 2
    try:
        tracing = trace(args.output)
    except OSError as exc:
        print(f"atoll run: error: cannot write the trace: {exc}", file=sys.stderr)
        return 2
    sys.argv = [args.script, *args.args]
    sys.path.insert(0, os.path.dirname(os.path.abspath(args.script)))
    try:
        runpy.run_path(args.script, run_name="__main__")
    except BaseException as exc:
        _forget_our_frames(exc, {__file__, runpy.run_path.__code__.co_filename})
        raise
    finally:
        count = tracing.stop()
        print(f"atoll run: {count} events in {args.output}", file=sys.stderr)
    return 0


def _run_report(args: argparse.Namespace) -> int:
    from . import report as _trace_report

    output = args.output or os.path.splitext(args.file)[0] + ".svg"
    try:
        with open(args.file, encoding="utf-8") as file:
            timeline = _trace_report.read(file)
        with open(output, "w", encoding="utf-8") as file:
            _trace_report.write_svg(timeline, file)
    except (OSError, _trace_report.TraceFileError) as exc:
        print(f"atoll trace report: error: {exc}", file=sys.stderr)
        return 2
    tracks, seconds = len(timeline.tracks), timeline.length / 1e6
    print(f"{output}: {tracks} threads, {seconds:.3f} s")
    table = _trace_report.rows(timeline)
    if table:
        print(f"{'runs':>8} {'in all':>10} {'longest':>10}  task")
    for name, count, total, longest in table[:20]:
        print(f"{count:8} {total:8.3f} s {longest:8.3f} s  {name}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (list of str; None: the process's). Returns the
    exit status (int); wrong usage raises SystemExit(2), as argparse does."""
    args = _parser().parse_args(argv)
    try:
        status: int = args.run(args)
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read it has seen enough. Python flushes once more at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return status
