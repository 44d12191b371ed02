"""``atoll bench``: what atoll costs on this machine, beside what it would replace.

Everything is measured in turns, and the median shown: what disturbs the machine hits all.
The project's own benchmarks (``make bench``) are others, and more exact."""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import asdict
from time import perf_counter

from .load import Share, between, look

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Executor
    from typing import Any, TextIO

#: Of the JSON; a change that could break a reader raises it.
SCHEMA = 1

_RECORDS = {f"key {n}": n for n in range(1000)}


def nothing(value: object) -> object:
    """A task that costs nothing."""
    return value


def primes(limit: int) -> int:
    """A task of pure Python: how many primes are below `limit`."""
    return sum(all(n % d for d in range(2, int(n**0.5) + 1)) for n in range(2, limit))


def _first(make: Callable[[], Executor], pool: Executor, size: int) -> float:
    begin = perf_counter()
    with make() as new:
        new.submit(nothing, 1).result()
        return perf_counter() - begin


def _one(make: Callable[[], Executor], pool: Executor, size: int) -> float:
    begin = perf_counter()
    for n in range(size):
        pool.submit(nothing, n).result()
    return (perf_counter() - begin) / size


def _many(make: Callable[[], Executor], pool: Executor, size: int) -> float:
    begin = perf_counter()
    for _ in pool.map(nothing, range(size)):
        pass
    return (perf_counter() - begin) / size


def _records(make: Callable[[], Executor], pool: Executor, size: int) -> float:
    begin = perf_counter()
    for _ in range(size):
        pool.submit(nothing, _RECORDS).result()
    return (perf_counter() - begin) / size


#: What is measured: name, unit, what one is in seconds, how, and how many.
_ROWS = (
    ("first task of a new pool", "ms", 1e-3, _first, 1),
    ("a task, from submit to its result", "µs", 1e-6, _one, 300),
    ("a task of many, by map", "µs", 1e-6, _many, 2000),
    ("a dict of 1,000 items there and back", "µs", 1e-6, _records, 50),
)
_SPEED_UP = "pure Python, against one core"
_PIECES = 24


class _SpeedUp:
    """How many times as fast as one core a pool is, and what the machine gave for it."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._values: list[float] = []
        self._alone: Share | None = None
        self._together: Share | None = None

    def measure(self, pool: Executor) -> None:
        begin = look()
        for _ in range(_PIECES):
            primes(8000)
        middle = look()
        for _ in pool.map(primes, [8000] * _PIECES):
            pass
        alone, together = between(begin, middle), between(middle, look())
        self._values.append(alone.seconds / together.seconds)
        self._alone = alone if self._alone is None else self._alone + alone
        self._together = together if self._together is None else self._together + together

    def value(self) -> float:
        return statistics.median(self._values)

    def lack(self) -> str | None:
        """The reason why it says nothing of the pool, if there is one."""
        assert self._alone is not None and self._together is not None
        return self._together.lack(self._workers) or self._alone.lack(1)

    def slower(self) -> float | None:
        assert self._alone is not None and self._together is not None
        return None if self._workers == 1 else self._together.slower(self._alone)


def _contenders(workers: int) -> dict[str, Callable[[], Executor]]:
    import concurrent.futures
    import multiprocessing

    from ..executor import InterpreterPoolExecutor

    makers: dict[str, Callable[[], Executor]] = {
        "atoll": lambda: InterpreterPoolExecutor(workers),
        "threads": lambda: concurrent.futures.ThreadPoolExecutor(workers),
        "processes": lambda: concurrent.futures.ProcessPoolExecutor(
            workers, multiprocessing.get_context("forkserver")
        ),
    }
    theirs = getattr(concurrent.futures, "InterpreterPoolExecutor", None)
    if theirs is not None:
        makers["interpreters"] = lambda: theirs(workers)
    return makers


def measure(workers: int, rounds: int) -> Iterator[tuple[str, dict[str, Any] | None]]:
    """Measure, one row after the other.

    Args:
      workers (int): of each pool.
      rounds (int): how often each is measured.

    Yields:
      tuple of str and dict: what is measured now, and None; or the row that is complete,
      with "what", "unit" and "values" (float by contender); that of the speed-up also with
      "lack" (what the machine did not give, in words) and "slower" (times the CPU time that
      all cores took at once), of those where it is so.
    """
    makers = _contenders(workers)
    with ExitStack() as stack:
        pools = {name: stack.enter_context(make()) for name, make in makers.items()}
        for name, pool in pools.items():
            yield f"starting {name}", None
            list(pool.map(nothing, range(8 * workers)))
        for what, unit, second, function, size in _ROWS:
            taken: dict[str, list[float]] = defaultdict(list)
            for n in range(rounds):
                for name, make in makers.items():
                    yield f"{what}: {name}, {n + 1} of {rounds}", None
                    taken[name].append(function(make, pools[name], size) / second)
            medians = {name: statistics.median(values) for name, values in taken.items()}
            yield what, {"what": what, "unit": unit, "values": medians}
        # Threads of one interpreter take turns.
        ups = {name: _SpeedUp(1 if name == "threads" else workers) for name in pools}
        for n in range(rounds):
            for name, up in ups.items():
                yield f"{_SPEED_UP}: {name}, {n + 1} of {rounds}", None
                up.measure(pools[name])
        yield _SPEED_UP, {
            "what": _SPEED_UP,
            "unit": "×",
            "values": {name: up.value() for name, up in ups.items()},
            "lack": {name: lack for name, up in ups.items() if (lack := up.lack())},
            "slower": {name: times for name, up in ups.items() if (times := up.slower())},
        }


def run(workers: int | None, rounds: int, as_json: bool, file: TextIO) -> int:
    """Measure and show; the exit status (int)."""
    count = workers or len(os.sched_getaffinity(0))
    rows = []
    begin = look()
    for what, row in measure(count, rounds):
        _progress(what if row is None else "")
        if row is not None:
            rows.append(row)
    report = {
        "schema": SCHEMA,
        "atoll": _version(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": len(os.sched_getaffinity(0)),
        "workers": count,
        "rounds": rounds,
        "rows": rows,
        "cpu": asdict(between(begin, look())),
    }
    if as_json:
        print(json.dumps(report, ensure_ascii=False), file=file)
    else:
        _show(report, file)
    return 0


def _version() -> str:
    from .. import __version__

    return __version__


def _progress(text: str) -> None:
    if sys.stderr is not None and sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def _number(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:,.0f}"


def _show(report: dict[str, Any], file: TextIO) -> None:
    names = list(report["rows"][0]["values"])
    head = ["", "", *names]
    lines = [
        [row["what"], row["unit"], *(_cell(row, name) for name in names)]
        for row in report["rows"]
    ]
    if not (file.isatty() and _rich_table(head, lines, file)):
        widths = [max(map(len, column)) for column in zip(head, *lines, strict=True)]
        for line in (head, *lines):
            cells = [
                cell.ljust(width) if n < 2 else cell.rjust(width)
                for n, (cell, width) in enumerate(zip(line, widths, strict=True))
            ]
            print("  ".join(cells).rstrip(), file=file)
    print(
        f"\natoll {report['atoll']}, CPython {report['python']}, {report['cores']} cores, "
        f"pools of {report['workers']}, median of {report['rounds']}. {_WORDS}",
        file=file,
    )
    for doubt in _doubts(report):
        print(f"\n{doubt}", file=file)


def _cell(row: dict[str, Any], name: str) -> str:
    return _NONE if name in row.get("lack", ()) else _number(row["values"][name])


def _doubts(report: dict[str, Any]) -> Iterator[str]:
    """What the machine did that makes these figures other than they should be."""
    share = Share(**report["cpu"])
    taken = (share.others + share.stolen) / share.seconds
    if taken >= 0.1 * share.cores:
        yield (
            f"The machine was busy: others took {taken:.1f} of its {share.cores} cores "
            "meanwhile, so all of this takes longer than it would."
        )
    row = report["rows"][-1]
    if row["lack"]:
        lacks = "; ".join(f"{name}: {lack}" for name, lack in row["lack"].items())
        yield (
            f"{_NONE}  There was too little CPU to say how much faster it is. There were, "
            f"for {lacks}. Try again when nothing else runs."
        )
    slower = {name: times for name, times in row["slower"].items() if name not in row["lack"]}
    if slower:
        times = ", ".join(f"{name} {value:.1f} ×" for name, value in slower.items())
        yield (
            "The cores are slower when all of them work: the same work took more CPU time "
            f"then than on one alone ({times}). They may share hardware, or the host may "
            "use them for others without saying so."
        )


_NONE = "–"


_WORDS = (
    "Less is better, but for the last row. `interpreters` is the standard library's "
    "pool of them, from 3.14 on; processes are those of a fork server."
)


def _rich_table(head: list[str], lines: list[list[str]], file: TextIO) -> bool:
    try:
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        return False
    table = Table(box=None, pad_edge=False)
    for n, name in enumerate(head):
        table.add_column(
            name,
            justify="left" if n < 2 else "right",
            style="bold" if name == "atoll" else None,
        )
    for line in lines:
        table.add_row(*line)
    Console(file=file).print(table)
    return True
