"""The arguments of atoll map."""

from __future__ import annotations

import argparse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_EXAMPLE = """\
example: the number of words of each line, counted on all cores

    $ cat words.py
    def count(line):
        return len(line.split())
    $ atoll map words.py:count book.txt > counts.txt
    $ tail -f access.log | atoll map mymodule:parse | head

"""

_ABOUT = """\
Put each record of the files through a function, in interpreters on all cores, and
write the results in the order of the records.
"""

_MORE = """\
The function gets one record: a str without its line end, with --jsonl what the line
says, with --csv a dict (--no-header: a list). What it returns is written in the same
format; None is written as nothing, and of a generator function all that it yields is
written. MODULE is also looked for in the current directory. What functions print goes
to standard error.

exit status: 0 done; 1 a record has failed (--on-error skip: is left out), or something
could not be read or written; 2 wrong usage, or the function cannot be imported; 130
interrupted
"""


class Parser(argparse.ArgumentParser):
    """A parser whose help begins with an example, if it has one, and which takes files
    before, between and after options if it is `intermixed`."""

    example = ""
    intermixed = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if not self.intermixed:
            return super().parse_known_args(args, namespace)
        self.intermixed = False  # it may come here again
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self.intermixed = True

    def format_help(self) -> str:
        return self.example + super().format_help()


def _seconds(text: str) -> float:
    value = float(text)
    if not value >= 0:
        raise ValueError
    return value


_seconds.__name__ = "number of seconds"


def _batch(text: str) -> int | None:
    if text == "auto":
        return None
    value = int(text)
    if value < 1:
        raise ValueError
    return value


_batch.__name__ = "number of records"


def add(commands: argparse._SubParsersAction[Parser], count: Callable[[str], int]) -> None:
    """Add the command to those of atoll. `count` makes a positive int of a str."""
    parser = commands.add_parser(
        "map",
        help="a Python function on every line of files, on all cores",
        description=_ABOUT,
        epilog=_MORE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.example = _EXAMPLE
    parser.intermixed = True
    option: Any = parser.add_argument
    option("function", metavar="MODULE:FUNCTION", help="also path/to/file.py:FUNCTION")
    option("files", metavar="FILE", nargs="*", help='default, and "-": standard input')
    option("-j", "--jobs", metavar="N", type=count, help="interpreters (default: cores)")
    option("-o", "--output", metavar="FILE", help="instead of standard output")
    records = parser.add_argument_group("records")
    kind: Any = records.add_mutually_exclusive_group().add_argument
    kind("-0", "--null", dest="format", action="store_const", const="null", help="end with NUL")
    kind("--jsonl", dest="format", action="store_const", const="jsonl", help="JSON lines")
    kind("--csv", dest="format", action="store_const", const="csv", help="rows of CSV")
    option = records.add_argument
    option("--no-header", action="store_true", help="the first row of CSV is no header")
    option("--bytes", action="store_true", help="records are bytes instead of str")
    option("--unordered", action="store_true", help="write results as they come")
    option(
        "--batch",
        metavar="N",
        type=_batch,
        help="send N records at a time (default: auto, as many as take 10 ms)",
    )
    option = parser.add_argument_group("workers").add_argument
    option(
        "--preload",
        metavar="MODULES",
        action="append",
        default=[],
        help="modules that each interpreter imports first, with commas between them",
    )
    option("--setup", metavar="MODULE:FUNCTION", default="", help="called in each first")
    option = parser.add_argument_group("failures").add_argument
    option(
        "--on-error",
        choices=("stop", "skip", "report"),
        help="at a record that fails (default: stop; with --errors: report)",
    )
    option("--errors", metavar="FILE", help="write those that failed there, as JSON lines")
    option(
        "--resume",
        metavar="FILE",
        help="keep a journal in FILE; if there is one, go on where it ends (needs -o)",
    )
    option(
        "--checkpoint",
        metavar="S",
        type=_seconds,
        default=1.0,
        help="seconds between two entries of the journal (default: 1)",
    )
    option("--no-progress", action="store_true", help="no bar, also on a terminal")
    parser.set_defaults(run=_run, format="lines", error=parser.error)


def _run(args: argparse.Namespace) -> int:
    import os

    from .._map.loop import Options, run
    from .._map.work import Plan

    on_error = args.on_error or ("report" if args.errors else "stop")
    if args.resume and not args.output:
        args.error("--resume needs -o FILE: only of a file is known what was written")
    if args.resume and args.unordered:
        args.error("--resume goes by the order of the records: not with --unordered")
    if args.errors and on_error == "skip":
        args.error("--errors writes what --on-error skip drops: give one of them")
    if args.no_header and args.format != "csv":
        args.error("--no-header is for --csv")
    if args.bytes and args.format not in ("lines", "null"):
        args.error("--bytes is for lines, and records that end with NUL")
    preload = [name for names in args.preload for name in names.split(",") if name]
    plan = Plan(
        function=args.function,
        setup=args.setup,
        preload=tuple(preload),
        format=args.format,
        raw=args.bytes,
    )
    options = Options(
        plan=plan,
        files=tuple(args.files) or ("-",),
        workers=args.jobs or os.process_cpu_count() or 1,
        named=not args.no_header,
        ordered=not args.unordered,
        batch=args.batch,
        on_error=on_error,
        output=args.output,
        errors=args.errors,
        resume=args.resume,
        checkpoint=args.checkpoint,
        progress=not args.no_progress,
    )
    return run(options)
