"""atoll map in a worker: finds the function, and puts batches of records through it.

A batch is one piece of bytes. It is split, decoded, worked on and joined again here, so
that the main interpreter only touches blocks. What goes wrong with a record is a
Failure; what goes wrong before the first one is a Problem, in one line.
"""

from __future__ import annotations

import csv
import json
import os
import sys
from dataclasses import dataclass
from io import StringIO
from time import monotonic
from types import GeneratorType

from ..errors import QueueShutDown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from .._core import Queue

#: Number of a message that is no result: the worker is ready; it cannot work.
READY, PROBLEM = -1, -2

#: Bytes that are no UTF-8 pass through text unchanged.
CODEC = ("utf-8", "surrogateescape")


class Problem(Exception):
    """What ends the program, in one line that says what to do.

    Args:
      text (str): the line.
      status (int): the exit status.
    """

    def __init__(self, text: str, status: int = 2) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True)
class Plan:
    """What all workers are to do; crosses once to each.

    Attributes:
      function, setup (str): MODULE:FUNCTION, or '' for no setup.
      preload (tuple of str): modules to import first.
      format (str): "lines", "null", "jsonl" or "csv".
      raw (bool): records are bytes, not str.
      stop (bool): a failure ends its batch.
      describe (bool): failures are described, and not only counted.
    """

    function: str
    setup: str = ""
    preload: tuple[str, ...] = ()
    format: str = "lines"
    raw: bool = False
    stop: bool = True
    describe: bool = True


#: Place in the batch, record as JSON, exception in a line, traceback: all that is said.
Failure = tuple[int, str, str, str]
#: Rows of CSV with the columns they have (None: rows that are no dicts), and the places
#: of their records in the batch.
Segment = tuple[tuple[str, ...] | None, list[int], bytes]


def serve(plan: Plan, jobs: Queue, results: Queue) -> None:
    """A worker's life: a task that takes batches until `jobs` is shut down.

    Jobs are (number, data, header, columns), results (number, seconds, out, failures).
    Blocks in `jobs`; `results` has no limit, main lets only so many be under way.
    """
    try:
        run = _worker(plan)
    except Problem as exc:
        results.put((PROBLEM, str(exc)))
        return
    results.put((READY,))
    try:
        while True:
            number, data, header, columns = jobs.get()
            begin = monotonic()
            out, failures = run(data, header, columns)
            results.put((number, monotonic() - begin, out, failures))
    except QueueShutDown:
        pass
    except BaseException as exc:
        results.put((PROBLEM, f"{plan.function} ended its worker: {_one_line(exc)}"))
        raise


# ----------------------------------------------------------- finding functions


def split_spec(spec: str) -> tuple[str, str]:
    """Module or file, and function, of MODULE:FUNCTION. Raises Problem."""
    place, _, name = spec.rpartition(":")
    if not place or not name:
        raise Problem(f"{spec!r} is not MODULE:FUNCTION or path/to/file.py:FUNCTION")
    return place, name


def find(spec: str) -> Callable[..., Any]:
    """Import what `spec` (str) names. Raises Problem."""
    place, path = split_spec(spec)
    try:
        module = _import_file(place) if place.endswith(".py") else _import(place)
    except Problem:
        raise
    except ModuleNotFoundError as exc:
        if exc.name and (place == exc.name or place.startswith(exc.name + ".")):
            raise Problem(
                f"no module {exc.name!r}: it is neither installed nor in {os.getcwd()}"
            ) from None
        raise Problem(f"cannot import {place}: {_one_line(exc)}; install it") from None
    except (Exception, SystemExit) as exc:
        raise Problem(f"cannot import {place}: {_one_line(exc)}") from None
    found: Callable[..., Any] = module
    for name in path.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            raise Problem(f"{place} has no {path!r}{_like(name, found)}") from None
    if not callable(found):
        raise Problem(f"{spec} is of type {type(found).__name__}, and not a function")
    return found


def _import(name: str) -> Any:
    from importlib import import_module

    if not all(part.isidentifier() for part in name.split(".")):
        raise Problem(f"{name!r} is no name of a module; a file's ends in .py")
    return import_module(name)


def _import_file(path: str) -> Any:
    from importlib import util

    if not os.path.isfile(path):
        raise Problem(f"no file {path}")
    path = os.path.abspath(path)
    folder, file = os.path.split(path)
    if folder not in sys.path:
        sys.path.insert(0, folder)  # as for a script
    name = file.removesuffix(".py")
    known = sys.modules.get(name)
    if known is not None:
        if getattr(known, "__file__", None) == path:
            return known  # --setup has had it imported
        name = f"_atoll_map_{name}"
    spec = util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    sys.modules[name] = module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _like(name: str, holder: object) -> str:
    from difflib import get_close_matches

    names = get_close_matches(name, [n for n in dir(holder) if n[:1] != "_"], 1)
    return f"; did you mean {names[0]!r}?" if names else ""


def _one_line(exc: BaseException) -> str:
    """The exception with the last line of the user's code that it came through."""
    try:
        text = " ".join(str(exc).split())
    except Exception:
        text = ""
    text = f"{type(exc).__name__}: {text}" if text else type(exc).__name__
    place = ""
    traceback = exc.__traceback__
    while traceback is not None:
        file = traceback.tb_frame.f_code.co_filename
        if file != __file__ and not file.startswith("<"):
            place = f" ({os.path.basename(file)}:{traceback.tb_lineno})"
        traceback = traceback.tb_next
    return text + ("" if isinstance(exc, ImportError) else place)


def _worker(plan: Plan) -> Callable[..., tuple[Any, list[Failure]]]:
    """Everything that comes before the first record."""
    if not sys.flags.safe_path:
        here = os.getcwd()
        if here not in sys.path:
            sys.path.insert(0, here)
    for name in plan.preload:
        try:
            _import(name)
        except (Exception, SystemExit) as exc:
            raise Problem(f"cannot preload {name}: {_one_line(exc)}") from None
    if plan.setup:
        setup = find(plan.setup)
        try:
            setup()
        except (Exception, SystemExit) as exc:
            raise Problem(f"the setup {plan.setup} failed: {_one_line(exc)}") from None
    function = find(plan.function)
    from inspect import iscoroutinefunction

    if iscoroutinefunction(function):
        raise Problem(f"{plan.function} is an async function; an ordinary one is needed")
    return _Csv(plan, function) if plan.format == "csv" else _Records(plan, function)


# -------------------------------------------------------------------- records


class _Records:
    """Lines, records that end with NUL, and JSON lines."""

    def __init__(self, plan: Plan, function: Callable[..., Any]) -> None:
        self._plan = plan
        self._function = function
        self._end = b"\0" if plan.format == "null" else b"\n"
        self._json = plan.format == "jsonl"

    def __call__(
        self, data: bytes, header: list[str] | None, columns: tuple[str, ...] | None
    ) -> tuple[bytes, list[Failure]]:
        out: list[bytes] = []
        failures: list[Failure] = []
        function = self._function
        for place, record in enumerate(self._split(data)):
            try:
                if self._json:
                    if not record.strip():
                        continue
                    record = json.loads(record)
                value = function(record)
                if value.__class__ is str and not self._json:
                    out.append(value.encode(*CODEC))
                elif value.__class__ is GeneratorType:
                    # All or nothing of a record
                    out.extend([self._encode(v) for v in value if v is not None])
                elif value is not None:
                    out.append(self._encode(value))
            except (Exception, SystemExit) as exc:
                failures.append(_failure(self._plan, place, record, exc))
                if self._plan.stop:
                    break
        if out:
            out.append(b"")
        return self._end.join(out), failures

    def _split(self, data: bytes) -> list[Any]:
        records: list[Any]
        if self._plan.raw:
            records = data.split(self._end)
        else:
            records = data.decode(*CODEC).split(self._end.decode())
        if not records[-1]:
            records.pop()
        return records

    def _encode(self, value: object) -> bytes:
        if self._json:
            try:
                return json.dumps(value, ensure_ascii=False).encode()
            except UnicodeEncodeError:
                return json.dumps(value).encode()
        if isinstance(value, (bytes, bytearray)):
            return bytes(value)
        return str(value).encode(*CODEC)


def _failure(plan: Plan, place: int, record: object, exc: BaseException) -> Failure:
    if not plan.describe:
        return place, "", "", ""
    from traceback import TracebackException

    if isinstance(record, bytes):
        record = record.decode(*CODEC)
    inner = exc.__traceback__ and exc.__traceback__.tb_next  # without this file's frame
    try:
        text = "".join(TracebackException(type(exc), exc, inner).format())
    except Exception:  # of the exception's own making
        text = ""
    return place, json.dumps(record, default=repr), _one_line(exc), text


# ------------------------------------------------------------------------ CSV


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


class _Csv:
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
                failures.append(_failure(self._plan, place, record, exc))
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
