"""Connections to SQLite databases in memory that interpreters share.

An ordinary ``sqlite3.Connection`` to a file can be sent to another interpreter,
which opens the file again. One to a database in memory does not tell which
database that is; these do.
"""

from __future__ import annotations

import sqlite3

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Connection", "connect"]


class Connection(sqlite3.Connection):
    """A ``sqlite3.Connection`` that remembers how it was opened.

    Sent to another interpreter it arrives as a connection of its own to the same
    database.
    """

    def __init__(self, database: str, *args: Any, **kwargs: Any) -> None:
        super().__init__(database, *args, **kwargs)
        self._opened = (database, args, kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        database, args, kwargs = self._opened
        if database == ":memory:":
            raise TypeError("a database ':memory:' belongs to its connection alone")
        return _reopen, (type(self), database, args, kwargs)


def _reopen(
    cls: type[Connection], database: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Connection:
    return cls(database, *args, **kwargs)


def connect(name: str, **kwargs: Any) -> Connection:
    """Open the database in memory called `name`, making it if there is none.

    Args:
      name (str): of this process's databases; letters, digits and the like.
      **kwargs: as of ``sqlite3.connect``, but for `uri` and `factory`.

    The database lives as long as any connection to it, in any interpreter.
    Raises sqlite3.Error; ValueError for a name with one of ``? # / %``.
    """
    if not name or set(name) & set("?#/%"):
        raise ValueError(f"not a name for a database: {name!r}")
    return Connection(f"file:/{name}?vfs=memdb", uri=True, **kwargs)
