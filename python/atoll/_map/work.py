"""atoll map in a worker: finds the function, and puts batches of records through it.

A batch is one piece of bytes. It is split, decoded, worked on and joined again here, so
that the main interpreter only touches blocks. What goes wrong with a record is a
Failure; what goes wrong before the first one is a Problem, in one line.

Nothing is imported here that takes as long as making a worker does; many inputs are short.
"""

from __future__ import annotations

import os
import sys
from time import monotonic
from types import GeneratorType

from ..errors import QueueShutDown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .._core import Queue

#: Number of a message that is no result: the worker is ready; it cannot work.
READY, PROBLEM = -1, -2

_CO_COROUTINE = 0x80  # inspect's
_PLAIN = (int, float)  # what most results are that are no text

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


class Plan:
    """What all workers are to do; crosses once to each.

    Args:
      function, setup (str): MODULE:FUNCTION, or '' for no setup.
      preload (tuple of str): modules to import first.
      format (str): "lines", "null", "jsonl" or "csv".
      raw (bool): records are bytes, not str.
      stop (bool): a failure ends its batch.
      describe (bool): failures are described, and not only counted.
    """

    def __init__(
        self,
        function: str,
        setup: str = "",
        preload: tuple[str, ...] = (),
        format: str = "lines",
        raw: bool = False,
        stop: bool = True,
        describe: bool = True,
    ) -> None:
        self.function = function
        self.setup = setup
        self.preload = preload
        self.format = format
        self.raw = raw
        self.stop = stop
        self.describe = describe

    def but(self, **changes: Any) -> Plan:
        """Another one, with some of these changed."""
        return Plan(**{**vars(self), **changes})


#: Place in the batch, record as JSON, exception in a line, traceback: all that is said.
Failure = tuple[int, str, str, str]


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
    if _is_async(function):
        raise Problem(f"{plan.function} is an async function; an ordinary one is needed")
    if plan.format == "csv":
        from .rows import Csv

        return Csv(plan, function)
    return _Records(plan, function)


def _is_async(function: Any) -> bool:
    """inspect.iscoroutinefunction(), without that module if nobody has it yet."""
    inspect = sys.modules.get("inspect")
    if inspect is not None:
        return bool(inspect.iscoroutinefunction(function))
    functools = sys.modules.get("functools")
    while functools is not None and isinstance(function, functools.partial):
        function = function.func
    code = getattr(getattr(function, "__func__", function), "__code__", None)
    return code is not None and bool(code.co_flags & _CO_COROUTINE)


# -------------------------------------------------------------------- records


class _Records:
    """Lines, records that end with NUL, and JSON lines.

    What is done for each record is what a loop would do that reads and writes a file. All
    of a batch is decoded at once, and its results are encoded at once.
    """

    def __init__(self, plan: Plan, function: Callable[..., Any]) -> None:
        self._plan = plan
        self._function = function
        self._end = b"\0" if plan.format == "null" else b"\n"
        self._json: Any = None
        if plan.format == "jsonl":
            import json

            self._json = json
        # What a batch is made of: results of this type are written as they are.
        self._type: type = bytes if plan.raw else str

    def __call__(
        self, data: bytes, header: list[str] | None, columns: tuple[str, ...] | None
    ) -> tuple[bytes, list[Failure]]:
        out: list[Any] = []  # of each record that has a result
        gone: list[int] = []  # places of those that have none
        failures: list[Failure] = []
        function, json, put = self._function, self._json, out.append
        written = self._type if json is None else None
        plain = _PLAIN if written is str else ()
        records = self._split(data)
        for place, record in enumerate(records):
            try:
                if json is not None:
                    if not record.strip():
                        gone.append(place)
                        continue
                    record = json.loads(record)
                value = function(record)
                if value.__class__ is written:
                    put(value)
                elif value is None:
                    gone.append(place)
                elif value.__class__ in plain:
                    put(str(value))
                elif value.__class__ is GeneratorType:
                    # All or nothing of a record
                    values = [self._text(v) for v in value if v is not None]
                    if values:
                        put(self._join(values))
                    else:
                        gone.append(place)
                else:
                    put(self._text(value))
            except (Exception, SystemExit) as exc:
                failures.append(failure(self._plan, place, record, exc))
                gone.append(place)
                if self._plan.stop:
                    break
        return self._encode(out, records, gone, failures), failures

    def _split(self, data: bytes) -> list[Any]:
        records: list[Any]
        if self._plan.raw:
            records = data.split(self._end)
        else:
            records = data.decode(*CODEC).split(self._end.decode())
        if not records[-1]:
            records.pop()
        return records

    def _text(self, value: Any) -> Any:
        """A result as what a batch is made of."""
        if self._json is not None:
            text = self._json.dumps(value, ensure_ascii=False)
            try:
                text.encode()
            except UnicodeEncodeError:
                return self._json.dumps(value)
            return text
        if isinstance(value, (bytes, bytearray)):
            return bytes(value) if self._plan.raw else value.decode(*CODEC)
        return str(value).encode(*CODEC) if self._plan.raw else str(value)

    def _join(self, values: list[Any]) -> Any:
        return (self._end if self._plan.raw else self._end.decode()).join(values)

    def _encode(
        self, out: list[Any], records: list[Any], gone: list[int], failures: list[Failure]
    ) -> bytes:
        """All of it; what cannot be written adds to `failures`."""
        if not out:
            return b""
        data = self._join([*out, self._type()])
        if self._plan.raw:
            return bytes(data)
        try:
            return bytes(data.encode(*CODEC))
        except UnicodeEncodeError:
            pass
        parts: list[bytes] = []
        missing = set(gone)
        places = [n for n in range(len(records)) if n not in missing]
        for place, text in zip(places, out, strict=False):
            try:
                parts.append(text.encode(*CODEC) + self._end)
            except UnicodeEncodeError as exc:
                bad = failure(self._plan, place, records[place], exc)
                if self._plan.stop:
                    failures[:] = [bad]
                    break
                failures.append(bad)
        failures.sort()
        return b"".join(parts)


def failure(plan: Plan, place: int, record: object, exc: BaseException) -> Failure:
    """What is said of a record, the exception being raised by a function of its caller."""
    if not plan.describe:
        return place, "", "", ""
    import json
    from traceback import TracebackException

    if isinstance(record, bytes):
        record = record.decode(*CODEC)
    inner = exc.__traceback__ and exc.__traceback__.tb_next  # without this file's frame
    try:
        text = "".join(TracebackException(type(exc), exc, inner).format())
    except Exception:  # of the exception's own making
        text = ""
    return place, json.dumps(record, default=repr), _one_line(exc), text
