"""``atoll top``: asks a process what it does, and shows it."""

from __future__ import annotations

import json
import os
import select
import shutil
import socket
import sys
from typing import NamedTuple

from .._look import top as _top

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_CLEAR = "\x1b[H\x1b[J"
_MOST_ROWS = 15
#: Columns of a page that no terminal shows.
WIDE = 10_000


class CannotLookError(Exception):
    """There is no process that may be looked at; says what to do."""


def run(pid: int | None, interval: float, once: bool, as_json: bool) -> int:
    """Show process `pid` (None: the one that serves) until it ends. Exit status."""
    link = _Link(_connect(_choose() if pid is None else pid))
    before: dict[str, Any] | None = None
    live = sys.stdout.isatty() and not as_json and not once
    while True:
        now = link.ask()
        if now is None:
            if before is None:
                raise CannotLookError("it ended, or somebody else's processes are not shown")
            print("it has ended")
            return 0
        if as_json:
            print(json.dumps(now), flush=True)
        elif once and before is None:
            before = now
            link.pause(min(interval, 0.2))  # rates need two looks
            continue
        else:
            text = "\n".join(lines(now, before, _width()))
            print(_CLEAR + text if live else text, flush=True)
        if once:
            return 0
        before = now
        link.pause(interval)


def _width() -> int:
    """Of the terminal now; a file or a pipe gets all."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else WIDE


def _choose() -> int:
    """The process that serves, if it is one."""
    where = _top.directory()
    try:
        names = os.listdir(where)
    except FileNotFoundError:
        names = []
    pids = [int(name[:-5]) for name in names if name.endswith(".sock") and name[:-5].isdigit()]
    alive = sorted(pid for pid in pids if os.path.exists(f"/proc/{pid}"))
    if not alive:
        raise CannotLookError(
            "no process of this user serves; start it with ATOLL_TOP=1, or have it call "
            "atoll.serve_stats()"
        )
    if len(alive) > 1:
        raise CannotLookError(f"which of them? {' '.join(map(str, alive))}")
    return alive[0]


def _connect(pid: int) -> socket.socket:
    where = _top.directory()
    path = os.path.join(where, f"{pid}.sock")
    link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _top.check_directory(where)  # else anybody could answer
        link.connect(path)
    except (FileNotFoundError, ConnectionRefusedError):
        link.close()
        raise CannotLookError(
            f"process {pid} does not serve; start it with ATOLL_TOP=1, or have it call "
            "atoll.serve_stats()"
        ) from None
    except OSError as exc:
        link.close()
        raise CannotLookError(str(exc)) from None
    return link


class _Link:
    def __init__(self, link: socket.socket) -> None:
        self._socket = link
        self._file = link.makefile("rb")

    def pause(self, seconds: float) -> None:
        """So long, or until the process has gone: it says nothing by itself."""
        select.select([self._socket], [], [], seconds)

    def ask(self) -> dict[str, Any] | None:
        """None: it has gone."""
        try:
            self._socket.sendall(b"?")
            line = self._file.readline()
        except OSError:
            return None
        return json.loads(line) if line.endswith(b"\n") else None


# --------------------------------------------------------------------------- text


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def _seconds(value: float) -> str:
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s"


def lines(
    now: dict[str, Any], before: dict[str, Any] | None, width: int = WIDE
) -> Iterator[str]:
    """A page of text.

    Args:
      now (dict): what snapshot() has seen.
      before (dict | None): the look before, for rates.
      width (int): how many columns there are; no line is longer.
    """
    took = now["time"] - before["time"] if before else 0.0
    facts = [_size(now["memory"])]
    if before and took > 0:
        facts.append(f"{100 * (now['cpu'] - before['cpu']) / took:.0f} % CPU")
    facts.append(f"{len(now['interpreters'])} interpreters")
    facts.append(f"{len(now['waits'])} threads wait")
    command = " ".join(now["command"])[:60]
    yield _cut(f"atoll top: process {now['pid']} {command}", width)
    yield from _flow(facts, width)
    if now["pools"]:
        yield ""
        yield from _table(_POOLS, _pools(now, before, took), width)
    yield ""
    yield from _table(_INTERPRETERS, _interpreters(now), width)
    rows = [("queue", row) for row in now["queues"]]
    rows += [("channel", row) for row in now["channels"]]
    if rows:
        yield ""
        yield from _table(_CHANNELS, _channels(rows), width)


class _Column(NamedTuple):
    """Of a table: the first one has names, the others numbers, the last one may have text.

    Attributes:
      heading (str).
      size (int): characters, of text the least.
      rank (int): on a terminal that is too narrow, the highest goes first; 0 stays.
      text (bool).
    """

    heading: str
    size: int
    rank: int = 0
    text: bool = False


_POOLS = (
    _Column("POOL", 24),
    _Column("WORKERS", 7, 2),
    _Column("BUSY", 5),
    _Column("QUEUED", 7),
    _Column("DONE", 10, 3),
    _Column("RATE", 10, 1),
)
_INTERPRETERS = (
    _Column("INTERPRETER", 24),
    _Column("MEMORY", 9, 1),
    _Column(" DOES", 23, text=True),
)
_CHANNELS = (
    _Column("QUEUE, CHANNEL", 24),
    _Column("LENGTH", 9),
    _Column("OF", 8, 1),
    _Column(" WAITING", 14, text=True),
)
_SHORT_NAME = 12


def _table(
    columns: tuple[_Column, ...], rows: Iterator[list[str]], width: int
) -> Iterator[str]:
    found = list(rows)
    lines = [[column.heading for column in columns], *found[:_MOST_ROWS]]
    sizes = _fit(columns, lines, width)
    for line in lines:
        cells = [
            f"{_cut(line[n], size):{'<' if n == 0 or columns[n].text else '>'}{size}}"
            for n, size in sizes.items()
        ]
        yield " ".join(cells).rstrip()
    if len(found) > _MOST_ROWS:
        yield _cut(f"… and {len(found) - _MOST_ROWS} more", width)


def _fit(
    columns: tuple[_Column, ...], lines: list[list[str]], width: int
) -> dict[int, int]:
    """Which columns there is room for, and the size of each.

    First numbers take no more than they need, and names get shorter; then the columns go
    that can best be done without.
    """
    sizes = {n: column.size for n, column in enumerate(columns)}
    needed = {
        n: max(len(line[n]) for line in lines)
        for n, column in enumerate(columns)
        if n and not column.text
    }
    sizes.update({n: max(sizes[n], size) for n, size in needed.items()})
    while (left := width - sum(sizes.values()) - len(sizes) + 1) < 0:
        sizes.update({n: needed[n] for n in sizes if n in needed})
        left = width - sum(sizes.values()) - len(sizes) + 1
        name = min(sizes[0], sizes[0] + left)
        least = max(sizes, key=lambda n: columns[n].rank)
        if name >= _SHORT_NAME or columns[least].rank == 0:
            left -= name - sizes[0]
            sizes[0] = max(name, 1)
            break
        del sizes[least]
    last = len(columns) - 1
    if columns[last].text:
        sizes[last] = max(sizes[last] + left, 1)
    return sizes


def _cut(text: str, width: int) -> str:
    text = "".join(c if c.isprintable() else " " for c in text)
    return text if len(text) <= width else text[: max(width - 1, 0)] + "…"


def _flow(facts: list[str], width: int) -> Iterator[str]:
    """With commas between them, on as many lines as it takes."""
    line = facts[0]
    for fact in facts[1:]:
        if len(line) + 2 + len(fact) + 1 > width:
            yield _cut(f"{line},", width)
            line = fact
        else:
            line += f", {fact}"
    yield _cut(line, width)


def _pools(
    now: dict[str, Any], before: dict[str, Any] | None, took: float
) -> Iterator[list[str]]:
    old = {
        pool["name"]: sum(w["done"] for w in pool["workers"])
        for pool in (before["pools"] if before else ())
    }
    for pool in now["pools"]:
        done = sum(w["done"] for w in pool["workers"])
        rate = ""
        if pool["name"] in old and took > 0:
            rate = f"{max(0, done - old[pool['name']]) / took:.0f}/s"
        busy = sum(w["runs"] is not None for w in pool["workers"])
        workers = f"{len(pool['workers'])}/{pool['places']}"
        numbers = (busy, pool["queued"], done)
        yield [pool["name"], workers, *map(str, numbers), rate]


def _interpreters(now: dict[str, Any]) -> Iterator[list[str]]:
    waits: dict[int, list[str]] = {}
    for wait in now["waits"]:
        waits.setdefault(wait["interpreter"], []).append(
            f"waits for {wait['what']} since {_seconds(wait['seconds'])}"
        )
    runs = {
        w["interpreter"]: f"runs a task for {_seconds(w['runs'])}"
        for pool in now["pools"]
        for w in pool["workers"]
        if w["runs"] is not None
    }
    for interp in now["interpreters"]:
        id = interp["id"]
        does = [text for text in (runs.get(id), *waits.get(id, ())[:2]) if text]
        extra = len(waits.get(id, ())) - 2
        if extra > 0:
            does.append(f"and {extra} more")
        memory = _size(interp["memory"]) if interp["memory"] else ""
        text = "; ".join(does) or interp["state"] or "runs"
        yield [f"{id} {interp['name']}", memory, f" {text}"]


def _channels(rows: list[tuple[str, dict[str, Any]]]) -> Iterator[list[str]]:
    for kind, row in rows:
        room = "any" if row["capacity"] is None else row["capacity"]
        waiting = [
            f"{row[way]} to {word}"
            for way, word in (("receiving", "receive"), ("sending", "send"))
            if row[way]
        ]
        if row["closed"]:
            waiting.append("closed")
        length, text = row["length"], ", ".join(waiting)
        yield [f"{kind} {row['id']}", str(length), str(room), f" {text}"]
