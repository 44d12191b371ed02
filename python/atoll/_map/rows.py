"""Rows of CSV in atoll map: read, put through the function, and written."""

from __future__ import annotations

import csv
import sys
from io import StringIO
from types import GeneratorType

from .work import CODEC, failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from .work import Failure, Plan

#: Rows with the columns they have (None: rows that are no dicts), and the places of their
#: records in the batch.
Segment = tuple[tuple[str, ...] | None, list[int], bytes]



class _Echo:
    """A file for csv.writer, whose writerow() returns what write() does."""

    def write(self, text: str) -> str:
        return text


def write_row(row: Iterable[Any]) -> bytes:
    """A row of CSV, with its end."""
    text: Any = csv.writer(_Echo(), lineterminator="\n").writerow(row)
    return str(text).encode(*CODEC)


def read_rows(data: bytes) -> Iterator[list[str]]:
    """The rows in `data`. Raises csv.Error for one that is none, and can go on."""
    csv.field_size_limit(sys.maxsize)
    return csv.reader(StringIO(data.decode(*CODEC), newline="\n"))


def arrange(row: dict[Any, Any], columns: tuple[str, ...]) -> list[Any]:
    """The values of a row in the order of `columns`. Raises ValueError."""
    if len(row) > len(columns) or not row.keys() <= set(columns):
        odd = ", ".join(repr(key) for key in row if key not in columns)
        raise ValueError(f"no such columns in the first result: {odd}")
    return [row.get(column) for column in columns]


class Csv:
    """Rows, as dicts if there is a header, else as lists.

    Which columns the output has is known when its first row is written, in main. Until
    a worker is told, it says which columns its rows have.
    """

    def __init__(self, plan: Plan, function: Callable[..., Any]) -> None:
        self._plan = plan
        self._function = function

    def __call__(
        self, data: bytes, header: list[str] | None, columns: tuple[str, ...] | None
    ) -> tuple[list[Segment], list[Failure]]:
        segments: list[Segment] = []
        failures: list[Failure] = []
        parts: list[bytes] = []
        places: list[int] = []
        known: tuple[str, ...] | None = None
        for place, record, error in _each(data, header):
            try:
                if error is not None:
                    raise error
                value = self._function(record)
                values = value if value.__class__ is GeneratorType else (value,)
                rows = [
                    _row(value, columns, header is not None)
                    for value in values
                    if value is not None
                ]
            except (Exception, SystemExit) as exc:
                failures.append(failure(self._plan, place, record, exc))
                if self._plan.stop:
                    break
                continue
            for keys, row in rows:
                if keys != known and parts:
                    segments.append((known, places, b"".join(parts)))
                    parts, places = [], []
                known = keys
                parts.append(row)
                places.append(place)
        if parts:
            segments.append((known, places, b"".join(parts)))
        return segments, failures


def _each(
    data: bytes, header: list[str] | None
) -> Iterator[tuple[int, Any, Exception | None]]:
    """Place, record and what is wrong with it. Empty rows are left out."""
    rows = read_rows(data)
    place = -1
    while True:
        place += 1
        try:
            row = next(rows, None)
        except csv.Error as exc:
            yield place, None, exc
            continue
        if row is None:
            return
        if not row:
            continue
        if header is None:
            yield place, row, None
        elif len(row) > len(header):
            text = f"{len(row)} fields, and the header has {len(header)}"
            yield place, row, ValueError(text)
        else:
            row += [None] * (len(header) - len(row))  # type: ignore[list-item]
            yield place, dict(zip(header, row, strict=True)), None


def _row(
    value: Any, columns: tuple[str, ...] | None, named: bool
) -> tuple[tuple[str, ...] | None, bytes]:
    """What a function has returned as a row, and the names of its columns."""
    if isinstance(value, dict):
        if not named:
            return None, write_row(value.values())
        keys = tuple(map(str, value))
        if columns is not None and keys != columns:
            row = dict(zip(keys, value.values(), strict=True))
            return columns, write_row(arrange(row, columns))
        return keys, write_row(value.values())
    if isinstance(value, (list, tuple)):
        return None, write_row(value)
    if isinstance(value, bytes):
        value = value.decode(*CODEC)
    return None, write_row((value,))
