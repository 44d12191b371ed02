"""How far atoll map is, on a terminal: with rich if it is there, else as a line."""

from __future__ import annotations

import os
import sys
from time import monotonic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_INTERVAL = 0.1  # the bar changes when results come, at most so often


def bar(total: int | None, fd: int) -> Bar | None:
    """A bar if standard error is a terminal, and results do not go to one.

    Args:
      total (int | None): bytes of the input, if that is known.
      fd (int): where the results go.
    """
    if sys.stderr is None or not sys.stderr.isatty() or os.isatty(fd):
        return None
    return Bar(total) if os.environ.get("TERM", "dumb") != "dumb" else None


class Bar:
    """Records, records in a second, and the time that is left."""

    def __init__(self, total: int | None) -> None:
        self._total = total
        self._begin = self._last = monotonic()
        self._first: tuple[int, int] | None = None
        self._task: Any = None
        self._rich = self._make()

    def _make(self) -> Any:
        try:
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                Progress,
                TaskProgressColumn,
                TextColumn,
                TimeElapsedColumn,
                TimeRemainingColumn,
            )
        except ImportError:
            return None
        known = (BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
        progress = Progress(
            *(known if self._total else (TimeElapsedColumn(),)),
            TextColumn("{task.fields[text]}"),
            console=Console(stderr=True),
            auto_refresh=False,  # a thread that wakes up ten times in a second
            transient=True,
        )
        self._task = progress.add_task("", total=self._total, text="")
        progress.start()
        return progress

    def __call__(self, records: int, nbytes: int, failed: int) -> None:
        """Show it: how many records, and bytes of the input, are done."""
        now = monotonic()
        if self._first is None:
            self._first = (records, nbytes)  # done by a run before this one
        if now - self._last < _INTERVAL:
            return
        self._last = now
        rate = (records - self._first[0]) / (now - self._begin)
        text = f"{records:,} records  {rate:,.0f}/s"
        if failed:
            text += f"  {failed:,} failed"
        if self._rich is not None:
            self._rich.update(self._task, completed=nbytes, text=text, refresh=True)
            return
        if self._total:
            speed = (nbytes - self._first[1]) / (now - self._begin)
            left = (self._total - nbytes) / speed if speed else 0.0
            text = f"{100 * nbytes // self._total} %  {text}  {left:,.0f} s left"
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()

    def close(self) -> None:
        """Take it away."""
        if self._rich is not None:
            self._rich.stop()
        else:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
