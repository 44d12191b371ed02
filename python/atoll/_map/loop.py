"""atoll map: records from files through a function in a pool of interpreters.

Main cuts the input into batches and writes what comes back, in order; splitting,
decoding and joining is done by the workers (work.py):

    reading thread -> blocks -> main -> jobs -> workers -> results -> main -> output

It waits for input and results at the same time. The number of batches under way is
limited, so a slow output stops the reading, and memory stays flat. How large a batch is
follows from how long the last ones took.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from dataclasses import dataclass, replace
from time import monotonic

from .._core import create_queue, select
from ..errors import BrokenInterpreterPool
from ..executor import InterpreterPoolExecutor
from ..interpreter import warm
from . import read
from .rows import arrange, read_rows, write_row
from .show import bar
from .work import PROBLEM, READY, Plan, Problem, serve, split_spec
from .write import Journal, Output, Position, WriteError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .rows import Segment
    from .show import Bar
    from .work import Failure

_TARGET = 0.01  # seconds that a batch should take; messages then cost next to nothing
_LARGEST = 1 << 17  # bytes in a batch, unless a record is longer: they stay in a cache
_GROWTH = 4  # of a batch over the one before, at most
_QUEUED = 3  # batches for each worker that have been sent, and have not come back
_EARLY = 64  # batches for each worker that may have come back before their turn
_EARLY_BYTES = 64 << 20  # and what is in them

STOPPED = 1  # the exit status: records have failed, or something could not be written


@dataclass(frozen=True)
class Options:
    """What to do.

    Attributes:
      plan (Plan): for the workers.
      files (tuple of str): the input; "-" is standard input.
      workers (int): how many.
      named (bool): CSV begins with the names of the columns.
      ordered (bool): results come in the order of the records.
      batch (int | None): records in a batch; None: as many as take a few ms.
      on_error (str): "stop", "skip" or "report".
      output, errors, resume (str | None): files; None: standard output, standard error,
        no journal.
      checkpoint (float): seconds between two lines of the journal.
      progress (bool): show it on a terminal.
    """

    plan: Plan
    files: tuple[str, ...]
    workers: int
    named: bool = True
    ordered: bool = True
    batch: int | None = None
    on_error: str = "stop"
    output: str | None = None
    errors: str | None = None
    resume: str | None = None
    checkpoint: float = 1.0
    progress: bool = True


def run(options: Options) -> int:
    """Do it; returns the exit status (int). What goes wrong is said on standard error.

    When nobody reads the output any more, the process ends by SIGPIPE, as others do.
    """
    # What functions print is not to get in between the results.
    with contextlib.redirect_stdout(sys.stderr):
        work = _Map(options)
        try:
            return work.run()
        except KeyboardInterrupt:
            status, text = 130, work.interrupted()
        except Problem as exc:
            status, text = exc.status, f"error: {exc}"
        except WriteError as exc:
            status, text = STOPPED, f"error: {exc}"
        except BrokenPipeError:
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGPIPE)
            raise  # it is blocked
        finally:
            work.close()
        _say(text)
        return status


def _say(text: str) -> None:
    if sys.stderr is not None:
        print(f"atoll map: {text}", file=sys.stderr)


class _StopError(Exception):
    """A record has failed, and that is the end."""


class _Map:
    def __init__(self, options: Options) -> None:
        self._options = options
        how = options.on_error
        self._plan = options.plan.but(stop=how == "stop", describe=how != "skip")
        self._pool: InterpreterPoolExecutor | None = None
        self._journal: Journal | None = None
        self._bar: Bar | None = None
        self._errors: Output | None = None
        self._begun = False
        self._at = Position()  # what was written
        self._columns: tuple[str, ...] | None = None  # of CSV
        self._records = 0  # that were sent
        self._bytes_done = 0
        self._jobs, self._results = create_queue(), create_queue()
        self._sent = 0  # batches; the number of the next one
        self._back = 0  # batches that are done
        self._written = 0
        self._under_way: dict[int, read.Batch] = {}  # sent, and not written
        self._early: dict[int, tuple[Any, list[Failure]]] = {}
        self._early_bytes = 0
        self._size = 1  # bytes in a batch: one record, until we know how long it takes
        self._rate = 0.0  # seconds for a byte
        self._no_more = False  # batches
        self._saved = monotonic()

    # ------------------------------------------------------------- begin and end

    def run(self) -> int:
        options = self._options
        total = self._check()
        if options.resume is not None:
            assert options.output is not None
            self._journal = Journal(options.resume, self._identity())
            self._at = at = self._journal.position
            self._columns = None if at.columns is None else tuple(at.columns)
            self._records = at.records
            if self._at.done:
                _say("nothing is left to do: the run was finished")
                return STOPPED if self._failed() else 0
        self._start()
        self._output = Output(options.output, self._at.output)
        if options.errors is not None:
            self._errors = Output(options.errors, self._at.errors)
        if self._journal is not None:
            if not os.path.isfile(self._output.path):
                raise Problem(f"{self._output.path} is no regular file: no --resume")
            self._journal.begin()
            self._begun = True
        if options.progress:
            self._bar = bar(total, self._output.fd)
        self._bytes_done = self._at.offset + sum(
            os.stat(path).st_size for path in options.files[: self._at.file] if path != "-"
        )
        blocks = read.start(options.files, self._at.file, self._at.offset)
        try:
            self._loop(blocks)
        except _StopError:
            return STOPPED
        self._jobs.shutdown()
        assert self._pool is not None
        self._pool.shutdown()
        self._save(done=True)
        self._output.close()
        if self._errors is not None:
            self._errors.close()
        self.close()
        if self._at.failed and not (options.on_error == "report" and options.errors is None):
            text = f"{self._at.failed:,} of {self._at.records:,} records failed"
            _say(text + (f": see {options.errors}" if options.errors else ""))
        return STOPPED if self._failed() else 0

    def close(self) -> None:
        """Whatever has happened: stop the workers, take the bar away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        if self._pool is not None:
            pool, self._pool = self._pool, None
            pool.stop()

    def interrupted(self) -> str:
        """After Ctrl-C: what to say."""
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # another one ends it at once
        self.close()
        try:
            self._save()
        except WriteError as exc:
            return f"interrupted; {exc}"
        return "interrupted" + ("; the same command goes on" if self._begun else "")

    def _failed(self) -> bool:
        return bool(self._at.failed) and self._options.on_error != "skip"

    def _check(self) -> int | None:
        options = self._options
        for spec in (options.plan.function, options.plan.setup):
            if spec:
                split_spec(spec)
        total = read.check(options.files)
        kinds = (options.output, options.errors, options.resume)
        others = [path for path in kinds if path is not None]
        for number, path in enumerate(others):
            for other in (*options.files, *others[:number]):
                if _same(path, other):
                    raise Problem(f"{path} would be written to while it is used as {other}")
        return total

    def _identity(self) -> dict[str, Any]:
        options = self._options
        inputs: list[Any] = []
        for path in options.files:
            status = None if path == read.STDIN else os.stat(path)
            about = None if status is None else (status.st_size, status.st_mtime_ns)
            inputs.append([path if status is None else os.path.abspath(path), about])
        return json.loads(  # type: ignore[no-any-return]
            json.dumps(
                {
                    "function": options.plan.function,
                    "setup": options.plan.setup,
                    "format": [options.plan.format, options.plan.raw, options.named],
                    "input": inputs,
                    "output": os.path.abspath(str(options.output)),
                    "errors": options.errors and os.path.abspath(options.errors),
                    "on-error": options.on_error,
                }
            )
        )

    def _start(self) -> None:
        """Start the workers, and wait until the first is ready."""
        warm(0)  # no spares: there is no other pool
        self._pool = InterpreterPoolExecutor(self._options.workers, name="map")
        try:
            for _ in range(self._options.workers):
                task = self._pool.submit(serve, self._plan, self._jobs, self._results)
                task.add_done_callback(self._on_done)
        except BrokenInterpreterPool as exc:
            raise Problem(str(exc), STOPPED) from None
        self._receive(self._results.get())

    def _on_done(self, task: Any) -> None:
        """An interpreter that could not be made has said nothing itself."""
        if not task.cancelled() and (exc := task.exception()) is not None:
            self._results.put((PROBLEM, f"a worker ended: {type(exc).__name__}: {exc}"))

    # ----------------------------------------------------------------- the loop

    def _loop(self, blocks: Any) -> None:
        options, at = self._options, self._at
        cutter: read.Cutter
        if options.plan.format == "csv":
            cutter = read.RowCutter(options.named, at.file, at.offset, at.header)
        else:
            mark = b"\0" if options.plan.format == "null" else b"\n"
            cutter = read.Cutter(mark, at.file, at.offset, not options.plan.raw)
        while True:
            hungry = self._send(cutter)
            if not hungry and self._written == self._sent and self._no_more:
                return
            which, value = select(blocks if hungry else None, self._results)
            if which:
                self._receive(value)
                self._write()
            elif value is None:
                self._no_more = True
            elif isinstance(value, Problem):
                raise value
            else:
                cutter.feed(value)

    def _send(self, cutter: read.Cutter) -> bool:
        """Send what may be sent; whether more input is wanted."""
        count = self._options.workers
        while (
            not self._no_more
            and self._sent - self._back < _QUEUED * count
            and self._sent - self._written < _EARLY * count
            and self._early_bytes < _EARLY_BYTES
        ):
            idle = self._sent - self._back < count
            batch = cutter.cut(self._size, idle, self._options.batch)
            if batch is None:
                return True
            self._jobs.put((self._sent, batch.data, batch.header, self._columns))
            batch.data = b""  # it is on its way
            batch.first = self._records
            self._records += batch.count
            self._under_way[self._sent] = batch
            self._sent += 1
        return False

    def _receive(self, message: tuple[Any, ...]) -> None:
        number = message[0]
        if number == READY:
            return
        if number == PROBLEM:
            raise Problem(message[1], 2 if not self._sent else STOPPED)
        _, seconds, out, failures = message
        self._back += 1
        batch = self._under_way[number]
        rate = seconds / batch.size
        self._rate = (self._rate + rate) / 2 if self._rate else rate
        fitting = _TARGET / self._rate if self._rate else _LARGEST
        self._size = int(max(1, min(_GROWTH * self._size, fitting, _LARGEST)))
        self._early[number] = (out, failures)
        self._early_bytes += _length(out)
        if failures and self._plan.stop:
            self._no_more = True

    def _write(self) -> None:
        """Write what is there, as far as it is its turn. Raises _StopError."""
        while self._early:
            number = self._written if self._options.ordered else next(iter(self._early))
            if number not in self._early:
                break
            out, failures = self._early.pop(number)
            self._early_bytes -= _length(out)
            batch = self._under_way.pop(number)
            self._written += 1
            self._put(batch, out, failures)

    def _put(self, batch: read.Batch, out: Any, failures: list[Failure]) -> None:
        data = out if isinstance(out, bytes) else self._rows(out, failures)
        if data:
            self._output.write(data)
        for failure in failures:
            self._report(batch.first + failure[0] + 1, failure)
            if self._plan.stop:
                raise _StopError
        at = self._at
        self._at = Position(
            records=at.records + batch.count,
            failed=at.failed + len(failures),
            file=batch.file,
            offset=batch.offset,
            header=batch.header,
            columns=None if self._columns is None else list(self._columns),
            output=self._output.length,
            errors=0 if self._errors is None else self._errors.length,
        )
        self._bytes_done += batch.size
        if self._bar is not None:
            self._bar(self._at.records, self._bytes_done, self._at.failed)
        if monotonic() - self._saved >= self._options.checkpoint:
            self._save()

    def _save(self, done: bool = False) -> None:
        """A line of the journal. Raises WriteError."""
        if self._journal is not None and self._begun:
            self._output.sync()
            if self._errors is not None:
                self._errors.sync()
            self._journal.write(replace(self._at, done=done))
        self._saved = monotonic()

    def _rows(self, segments: list[Segment], failures: list[Failure]) -> bytes:
        """Bring rows of CSV under the columns of the first one."""
        parts = []
        for keys, places, data in segments:
            if keys is not None and self._columns is None:
                self._columns = keys
                parts.append(write_row(keys))
            if keys is None or keys == self._columns:
                parts.append(data)
                continue
            assert self._columns is not None
            for place, values in zip(places, read_rows(data), strict=False):
                row = dict(zip(keys, values, strict=False))
                try:
                    parts.append(write_row(arrange(row, self._columns)))
                except ValueError as exc:
                    failures.append((place, json.dumps(row), f"ValueError: {exc}", ""))
                    failures.sort()
                    if self._plan.stop:
                        return b"".join(parts)
        return b"".join(parts)

    def _report(self, number: int, failure: Failure) -> None:
        """Say that a record has failed, as the options want it."""
        _, record, text, traceback = failure
        if self._options.on_error == "skip":
            return
        if self._options.on_error == "report" or self._errors is not None:
            entry = {
                "number": number,
                "record": json.loads(record),
                "exception": text,
                "traceback": traceback,
            }
            line = json.dumps(entry) + "\n"
            if self._errors is not None:
                self._errors.write(line.encode())
            elif sys.stderr is not None:
                sys.stderr.write(line)
        if self._plan.stop:
            self.close()
            self._save()
            _say(f"record {number:,} failed: {text}\n{traceback}".rstrip())


def _same(path: str, other: str) -> bool:
    if other == read.STDIN:
        return False
    try:
        return os.path.samefile(path, other) and os.path.isfile(path)
    except OSError:
        return os.path.abspath(path) == os.path.abspath(other)


def _length(out: Any) -> int:
    return len(out) if isinstance(out, bytes) else sum(len(data) for _, _, data in out)
