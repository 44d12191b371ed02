"""How things of the operating system cross: sockets, pipes, files, databases.

Each by a duplicate of its descriptor, which the receiver owns; a database by
opening it again. The core asks here about objects that pickle refuses.
"""

from __future__ import annotations

import sys

from .._core import _Descriptor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def reduce(obj: Any) -> tuple[Any, ...] | None:
    """A reduce value for `obj`, or None if it is nothing of this kind.

    OSError or ValueError if it is closed.
    """
    for module, name, reducer in _REDUCERS:
        loaded = sys.modules.get(module)
        if loaded is not None and isinstance(obj, getattr(loaded, name, ())):
            value: tuple[Any, ...] | None = reducer(obj)
            return value
    return None


# -------------------------------------------------------- sockets and pipes


def _reduce_socket(sock: Any) -> tuple[Any, ...]:
    cls = type(sock)
    args = (cls, _Descriptor(sock.fileno()), sock.family, sock.type, sock.proto)
    return _rebuild_socket, (*args, sock.gettimeout())


def _rebuild_socket(
    cls: Any, fd: int, family: int, type: int, proto: int, timeout: float | None
) -> Any:
    sock = cls(family, type, proto, fileno=fd)
    sock.settimeout(timeout)
    return sock


def _reduce_connection(connection: Any) -> tuple[Any, ...]:
    fd = _Descriptor(connection.fileno())
    return type(connection), (fd, connection.readable, connection.writable)


# ------------------------------------------------------------------- files


def _reduce_raw(file: Any) -> tuple[Any, ...]:
    return _rebuild_raw, (type(file), _Descriptor(file.fileno()), file.mode, file.name)


def _rebuild_raw(cls: Any, fd: int, mode: str, name: Any) -> Any:
    # The file is there: a mode that makes or empties it must not do so again.
    file = cls(fd, mode.replace("x", "w"))
    return file


def _synchronise(file: Any) -> None:
    """The descriptors share one position: let it be the one that `file` shows."""
    if file.writable():
        file.flush()
    if file.readable() and file.seekable():
        file.seek(file.tell())


def _reduce_buffered(file: Any) -> tuple[Any, ...]:
    _synchronise(file)
    return type(file), (file.raw,)


def _reduce_text(file: Any) -> tuple[Any, ...]:
    _synchronise(file)
    args = (file.buffer, file.encoding, file.errors)
    newline = getattr(file, "_newline", None)  # not to be had from C's
    return type(file), (*args, newline, file.line_buffering, file.write_through)


# --------------------------------------------------------------- databases


def _reduce_database(connection: Any) -> tuple[Any, ...]:
    for _number, name, path in connection.execute("PRAGMA database_list"):
        if name == "main" and path:
            return _open_database, (type(connection), path)
    raise TypeError(
        "nothing but this connection knows its database; atoll.sqlite.connect() "
        "opens databases in memory that interpreters can share"
    )


def _open_database(cls: Any, path: str) -> Any:
    import sqlite3

    return sqlite3.connect(path, factory=cls)


# Most derived first. Modules that are not loaded have no instances.
_REDUCERS = (
    ("_socket", "socket", _reduce_socket),
    ("multiprocessing.connection", "Connection", _reduce_connection),
    ("_io", "FileIO", _reduce_raw),
    ("_io", "BufferedReader", _reduce_buffered),
    ("_io", "BufferedWriter", _reduce_buffered),
    ("_io", "BufferedRandom", _reduce_buffered),
    ("_io", "TextIOWrapper", _reduce_text),
    ("_sqlite3", "Connection", _reduce_database),
)
