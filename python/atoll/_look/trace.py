"""A timeline of what happens in all interpreters: trace."""

from __future__ import annotations

import atexit
import json
import os
import struct
import sys
import threading
import time
from collections import defaultdict

from .. import _core
from .._check import check_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import TracebackType
    from typing import Any, TextIO

__all__ = ["Tracing", "trace"]

# core/include/atoll/trace.h: atoll_trace_event
_EVENT = struct.Struct("=qqQB39s")


class Tracing:
    """What trace() has begun. Ends with stop(), or as a context manager."""

    def __init__(self, file: str | os.PathLike[str] | TextIO) -> None:
        self._file = file
        self._began = time.time(), time.monotonic_ns()
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self.lost: int = 0
        self.written: int | None = None

    def stop(self) -> int:
        """End the tracing and write the file. The second time it does nothing.

        Writing takes some 5 µs an event, and the GIL of the calling interpreter.

        Returns:
          how many events were written (int); `lost` (int) is how many there was no
          room for.
        Raises OSError if the file cannot be written; what was logged is gone then.
        """
        if self._pid != os.getpid():
            return 0  # a forked child: the file is the parent's, which may hold the lock
        with self._lock:
            if self.written is None:
                self.written = 0
                atexit.unregister(self.stop)
                self.lost, logs = _core._trace_stop()
                self.written = self._write(logs)
                if self.lost:
                    print(
                        f"atoll.trace: {self.lost} events were not logged; limit= is "
                        "how many there is room for",
                        file=sys.stderr,
                    )
            return self.written

    def _write(self, logs: list[_core._Log]) -> int:
        if not isinstance(self._file, (str, os.PathLike)):
            return _write(self._file, logs, self._began, self.lost)
        with open(self._file, "w", encoding="utf-8") as file:
            return _write(file, logs, self._began, self.lost)

    def __enter__(self) -> Tracing:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


def trace(
    file: str | os.PathLike[str] | TextIO,
    *,
    messages: bool = True,
    limit: int = 1_000_000,
) -> Tracing:
    """Log what all interpreters and threads of this process do with atoll, for a
    timeline: which task ran where and when, from when it was submitted; who waited
    for what, if for more than 10 µs; each message sent and received.

    Written when it is stopped, or at the exit of the process, in the Trace Event
    Format, which https://ui.perfetto.dev and chrome://tracing show; ``atoll trace
    report`` makes a picture of it. With ATOLL_TRACE=file in the environment it begins
    when atoll is imported.

        with atoll.trace("out.json"):
            ...

    Args:
      file (str | PathLike | TextIO): where to; checked at once, written at the end.
      messages (bool): with the messages. Each costs some 0.1 µs while it is on.
      limit (int): how many events to keep; later ones are counted only. Each takes 64
        bytes of memory.
    Returns:
      Tracing: to stop it; a context manager.
    Raises RuntimeError if this process is traced already, OSError if the file cannot
    be written, ValueError for a limit that is no positive int. Does not block.
    """
    if not isinstance(limit, int) or limit < 1:
        raise ValueError(f"limit must be a positive int, not {limit!r}")
    if isinstance(file, (str, os.PathLike)):
        with open(file, "a", encoding="utf-8"):
            pass  # better to know it now than when the work is done
    else:
        check_file(file, "a path or a text file")
    tracing = Tracing(file)
    # A thread takes room for 511 at a time.
    if not _core._trace_start(max(limit, 511), messages):
        raise RuntimeError("this process is being traced already")
    atexit.register(tracing.stop)
    return tracing


def _name(raw: bytes) -> str:
    return raw.split(b"\0", 1)[0].decode("utf-8", "replace")


def _write(file: TextIO, logs: list[_core._Log], began: tuple[float, int], lost: int) -> int:
    clock, start = began
    count = 0
    file.write('{"displayTimeUnit":"ms","traceEvents":[\n')
    for number, event in enumerate(_events(logs, start)):
        count += event["ph"] in "Xi"
        file.write((",\n" if number else "") + json.dumps(event, separators=(",", ":")))
    about = {
        "began": time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(clock)),
        "command": sys.argv,
        "python": sys.version.split()[0],
        "lost": lost,
    }
    file.write(f'\n],"otherData":{json.dumps(about)}}}\n')
    file.flush()
    return count


def _events(logs: list[_core._Log], start: int) -> Iterator[dict[str, Any]]:
    pid = os.getpid()
    yield {"ph": "M", "pid": pid, "name": "process_name", "args": {"name": "atoll"}}
    threads: defaultdict[int, int] = defaultdict(int)
    for interp, tid, name, _ in sorted(logs, key=lambda log: (log[0], log[1])):
        threads[interp] += 1
        if interp == 0:
            text = "main"
        elif interp < 0:
            text = "no interpreter"
        else:
            text = f"interpreter {interp}" + (f" {name!r}" if name else "")
        if threads[interp] > 1:
            text += f", thread {threads[interp]}"
        track = {"pid": pid, "tid": tid}
        yield {"ph": "M", **track, "name": "thread_name", "args": {"name": text}}
        yield {
            "ph": "M",
            **track,
            "name": "thread_sort_index",
            "args": {"sort_index": interp * 1000 + threads[interp]},
        }
    for _, tid, _, chunks in logs:
        for chunk in chunks:
            yield from _of_chunk(_EVENT.iter_unpack(chunk), pid, tid, start)


def _of_chunk(
    events: Iterable[tuple[Any, ...]], pid: int, tid: int, start: int
) -> Iterator[dict[str, Any]]:
    for began, ended, id, kind, raw in events:
        event: dict[str, Any] = {"pid": pid, "tid": tid, "ts": (began - start) / 1000}
        if kind in (_core._TRACE_TASK, _core._TRACE_FAILED):
            if id:  # the arrow from where it was submitted
                yield {"ph": "f", "bp": "e", "name": "submit", "cat": "task", "id": id, **event}
            event |= {"ph": "X", "cat": "task", "name": _name(raw)}
            event["dur"] = (ended - began) / 1000
            event["args"] = {"task": id, "failed": kind == _core._TRACE_FAILED}
        elif kind == _core._TRACE_WAIT:
            what = _name(raw) + (f" or {id - 1} more" if id > 1 else "")
            event |= {"ph": "X", "cat": "wait", "name": f"waits for {what}"}
            event["dur"] = (ended - began) / 1000
        elif kind == _core._TRACE_SUBMIT:
            yield {"ph": "s", "name": "submit", "cat": "task", "id": id, **event}
            event |= {"ph": "i", "s": "t", "cat": "task", "name": "submit"}
            event["args"] = {"task": id}
        else:
            word = "send" if kind == _core._TRACE_SEND else "receive"
            event |= {
                "ph": "i",
                "s": "t",
                "cat": "message",
                "name": f"{word}: {_name(raw)} {id}",
            }
        yield event


def trace_from_environment() -> None:
    """ATOLL_TRACE: in main, when atoll is imported."""
    file = os.environ.get("ATOLL_TRACE")
    if file:
        try:
            trace(file)
        except (OSError, RuntimeError) as exc:
            print(f"atoll: ATOLL_TRACE={file}: {exc}", file=sys.stderr)
