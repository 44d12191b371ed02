"""``atoll top``: asks a process what it does, and shows it."""

from __future__ import annotations

import json
import os
import select
import socket
import sys

from .._look import top as _top

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_CLEAR = "\x1b[H\x1b[J"
_MOST_ROWS = 15


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
            text = "\n".join(lines(now, before))
            print(_CLEAR + text if live else text, flush=True)
        if once:
            return 0
        before = now
        link.pause(interval)


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


def lines(now: dict[str, Any], before: dict[str, Any] | None) -> Iterator[str]:
    """A page of text. `before`: the look before, for rates; or None."""
    took = now["time"] - before["time"] if before else 0.0
    load = ""
    if before and took > 0:
        load = f", {100 * (now['cpu'] - before['cpu']) / took:.0f} % CPU"
    command = " ".join(now["command"])[:60]
    yield f"atoll top: process {now['pid']} {command}"
    yield (
        f"{_size(now['memory'])}{load}, {len(now['interpreters'])} interpreters, "
        f"{len(now['waits'])} threads wait"
    )
    if now["pools"]:
        yield ""
        yield (
            f"{'POOL':24} {'WORKERS':>7} {'BUSY':>5} {'QUEUED':>7} {'DONE':>10} {'RATE':>10}"
        )
        yield from _cut(_pools(now, before, took))
    yield ""
    yield f"{'INTERPRETER':24} {'MEMORY':>9}  DOES"
    yield from _cut(_interpreters(now))
    rows = [("queue", row) for row in now["queues"]]
    rows += [("channel", row) for row in now["channels"]]
    if rows:
        yield ""
        yield f"{'QUEUE, CHANNEL':24} {'LENGTH':>9} {'OF':>8}  WAITING"
        yield from _cut(_channels(rows))


def _cut(rows: Iterator[str]) -> Iterator[str]:
    found = list(rows)
    yield from found[:_MOST_ROWS]
    if len(found) > _MOST_ROWS:
        yield f"… and {len(found) - _MOST_ROWS} more"


def _pools(now: dict[str, Any], before: dict[str, Any] | None, took: float) -> Iterator[str]:
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
        yield (
            f"{pool['name'][:24]:24} {len(pool['workers']):>3}/{pool['places']:<3} {busy:>5} "
            f"{pool['queued']:>7} {done:>10} {rate:>10}"
        )


def _interpreters(now: dict[str, Any]) -> Iterator[str]:
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
        name = f"{id} {interp['name']}"[:24]
        memory = _size(interp["memory"]) if interp["memory"] else ""
        yield f"{name:24} {memory:>9}  {'; '.join(does) or interp['state'] or 'runs'}"


def _channels(rows: list[tuple[str, dict[str, Any]]]) -> Iterator[str]:
    for kind, row in rows:
        room = "any" if row["capacity"] is None else row["capacity"]
        waiting = [
            f"{row[way]} to {word}"
            for way, word in (("receiving", "receive"), ("sending", "send"))
            if row[way]
        ]
        if row["closed"]:
            waiting.append("closed")
        name = f"{kind} {row['id']}"
        yield f"{name:24} {row['length']:>9} {room:>8}  {', '.join(waiting)}"
