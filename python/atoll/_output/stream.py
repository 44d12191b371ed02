"""sys.stdout and sys.stderr of an interpreter of atoll's, its input() and its logging.

Imported in every interpreter that is made, so it does little. The lines that
are printed go to main (ext/output/output.h), which writes them to its own streams.
"""

from __future__ import annotations

import builtins
import sys
from _io import _BufferedIOBase, _TextIOBase

from .. import _core
from .._hook import after_import, look_again

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# What main's logging was set to: (disable, root's level, (name, level), ...)
logging_levels: tuple[Any, ...] | None = None
# The interpreter's own sys.stderr
_own_stderr: object = None


def _class(self: Any) -> Any:
    """For __class__: isinstance() finds what io has, io.TextIOBase say.

    Only when it asks, since importing io takes longer than all the rest here.
    """
    cls: Any = type(self)
    io = sys.modules.get("io")
    if io is not None:
        base = getattr(io, cls.__base__.__name__[1:], None)
        if base is not None and not issubclass(cls, base):
            base.register(cls)
    return cls


class Stream(_TextIOBase):
    """A text file whose lines main writes to its own stream.

    Each thread's text is collected until its line is complete.
    """

    __class__ = property(_class)
    mode = "w"
    line_buffering = True
    write_through = False

    def __init__(
        self,
        kind: int,
        fileno: int | None,
        isatty: bool | None,
        encoding: str | None,
        errors: str | None,
    ) -> None:
        self._kind = kind
        self._sink = sink = _core._sink(kind)
        self._fileno = fileno
        self._isatty = isatty is True
        self._buffer: _Buffer | None = None
        self.name = ("<stdout>", "<stderr>")[kind]
        self._encoding = encoding or "utf-8"
        self._errors = errors or ("strict", "backslashreplace")[kind]
        # In C, so that an interrupt cannot come in the middle.
        self.write = sink.write  # type: ignore[method-assign]
        self.flush = sink.flush  # type: ignore[method-assign]

    def __repr__(self) -> str:
        return f"<atoll stream name={self.name!r} encoding={self.encoding!r}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _find, (self._kind,)

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._encoding

    @property
    def errors(self) -> str:  # type: ignore[override]
        return self._errors

    @property
    def buffer(self) -> _Buffer:
        if self._buffer is None:
            self._buffer = _Buffer(self, self._sink)
        return self._buffer

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return self._isatty

    def fileno(self) -> int:
        """That of main's stream: what is written there bypasses main."""
        if self._fileno is None:
            return super().fileno()  # raises UnsupportedOperation
        return self._fileno

    def reconfigure(self, **options: object) -> None:
        """Main's stream decides; accepted for scripts that call it."""

    def close(self) -> None:
        if not self.closed:
            super().close()
            self.write = self._write_closed  # type: ignore[method-assign]

    def _write_closed(self, text: str) -> int:
        raise ValueError("I/O operation on closed file.")


class _Buffer(_BufferedIOBase):
    """Stream.buffer: the same for bytes."""

    __class__ = property(_class)
    mode = "wb"

    def __init__(self, stream: Stream, sink: _core.Sink) -> None:
        self._stream = stream
        self._sink = sink
        self.name = stream.name
        self.raw = self
        self.flush = sink.flush  # type: ignore[method-assign]

    def write(self, data: Any) -> int:
        if self.closed:
            raise ValueError("write to closed file")
        if isinstance(data, str):
            raise TypeError("a bytes-like object is required, not 'str'")
        return self._sink.write_bytes(data)

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()


def _find(kind: int) -> object:
    """Pickled, a stream is the one of whoever reads it."""
    return (sys.stdout, sys.stderr)[kind]


def _connect_logging() -> None:
    from . import logging as _logging

    _logging.connect(logging_levels, _own_stderr)


def _connect_warnings() -> None:
    from . import warnings as _warnings

    _warnings.connect(_own_stderr)


def follow_levels(old: tuple[Any, ...] | None, new: tuple[Any, ...] | None) -> None:
    """Main's levels of logging have changed."""
    global logging_levels
    logging_levels = new
    if "logging" in sys.modules:
        from . import logging as _logging

        _logging.follow(old, new)


# The interpreter's own sys.stdin and sys.stdout, and the function input() of builtins
_own: tuple[Any, Any] = (None, None)
_input = builtins.input


def _read_after_writing() -> None:
    """Have input() and sys.stdin.readline() wait until what was printed is written: who
    is asked has to have seen the question, and pdb's answer to the command before."""
    global _own
    stdin = sys.stdin
    _own = stdin, sys.stdout
    builtins.input = _ask
    if stdin is not None:
        read = stdin.readline

        def readline(size: int = -1, /) -> str:
            _core._wait_written()
            return read(size)

        stdin.readline = readline  # type: ignore[method-assign]


def _ask(prompt: object = "", /) -> str:
    """Read a line from standard input, as the built-in input() does where that is no
    terminal. On one, that writes the prompt past main, and may call the readline
    library, which is main's.

    Args:
      prompt (object): its str() is printed before.
    Returns:
      str: the line, without its end.
    Errors:
      EOFError: there is none.
    """
    stdin, stdout = _own
    if sys.stdin is not stdin or sys.stdout is not stdout or stdin is None:
        return _input(prompt)
    sys.audit("builtins.input", prompt)
    if sys.stderr is not None:
        sys.stderr.flush()
    stdout.write(str(prompt))
    stdout.flush()
    line: str = stdin.readline()
    if not line:
        raise EOFError("EOF when reading a line")
    line = line.removesuffix("\n")
    sys.audit("builtins.input/result", line)
    return line


def install(streams: tuple[tuple[Any, ...], ...], levels: tuple[Any, ...] | None) -> None:
    """Called by the core once the interpreter is made."""
    global logging_levels, _own_stderr
    logging_levels = levels
    sys.stdout = sys.__stdout__ = Stream(0, *streams[0])  # type: ignore
    sys.stderr = sys.__stderr__ = _own_stderr = Stream(1, *streams[1])  # type: ignore
    _read_after_writing()
    look_again()
    after_import("logging", _connect_logging)
    after_import("warnings", _connect_warnings)
