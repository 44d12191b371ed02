"""atoll map's output, and the journal from which a run that was killed is resumed.

Lines of the journal say how far the files were when everything before was on the disk:
the output is synced first, and then the line. What was written after the last line is
cut off when the run is resumed, and done again; so no record is lost or doubled.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import select
import stat
import sys
from dataclasses import asdict, dataclass

from .work import Problem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_VERSION = 1


class WriteError(Exception):
    """A file cannot be written: its text says which, and why."""


class Output:
    """A file that is written to without a buffer.

    Args:
      path (str | None): None is standard output.
      keep (int | None): with how many bytes of the file to begin; None: as it is.
    """

    def __init__(self, path: str | None, keep: int | None = 0) -> None:
        self.path = path or "/dev/stdout"
        self._name = "standard output" if path is None else path
        self.length = keep or 0
        try:
            if path is None:
                if sys.__stdout__ is None:  # closed: another file may have its number
                    raise OSError(errno.EBADF, os.strerror(errno.EBADF))
                self.fd = 1
                return
            self.fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
            status = os.fstat(self.fd)
            if stat.S_ISREG(status.st_mode):
                if status.st_size < self.length:
                    raise Problem(
                        f"{path} is shorter than when the run was stopped; delete the "
                        "journal to begin again"
                    )
                os.ftruncate(self.fd, self.length)
                os.lseek(self.fd, 0, os.SEEK_END)
        except OSError as exc:
            raise Problem(f"cannot write {self._name}: {exc.strerror}") from None

    def write(self, data: bytes) -> None:
        """Write all of it; blocks. Raises BrokenPipeError, WriteError."""
        view = memoryview(data)
        while view:
            try:
                done = os.write(self.fd, view)
            except BlockingIOError:
                select.select([], [self.fd], [])
                continue
            except BrokenPipeError:
                raise
            except OSError as exc:
                raise WriteError(f"cannot write {self._name}: {exc.strerror}") from None
            self.length += done
            view = view[done:]

    def sync(self) -> None:
        """Until it is on the disk, if it is a file. Raises WriteError."""
        try:
            os.fsync(self.fd)
        except OSError as exc:
            if stat.S_ISREG(os.fstat(self.fd).st_mode):
                raise WriteError(f"cannot write {self._name}: {exc.strerror}") from None

    def close(self) -> None:
        """Raises WriteError: what was written may be lost after all."""
        try:
            os.close(self.fd)
        except OSError as exc:
            raise WriteError(f"cannot write {self._name}: {exc.strerror}") from None


@dataclass
class Position:
    """How far a run is.

    Attributes:
      records, failed (int): how many were done, and of these have failed.
      file, offset (int): where the next record begins: in which file, at which byte.
      header (list of str | None): of that file, if it is CSV.
      columns (list of str | None): of the output.
      output, errors (int): bytes in these files.
      done (bool): nothing is left.
    """

    records: int = 0
    failed: int = 0
    file: int = 0
    offset: int = 0
    header: list[str] | None = None
    columns: list[str] | None = None
    output: int = 0
    errors: int = 0
    done: bool = False


class Journal:
    """The file of --resume. One process at a time can have it open.

    Args:
      path (str): of the journal.
      identity (dict): what has to be the same when the run is resumed.
    """

    def __init__(self, path: str, identity: dict[str, Any]) -> None:
        self.path = path
        self._identity = {"atoll map": _VERSION, **identity}
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            if not stat.S_ISREG(os.fstat(self._fd).st_mode):
                raise Problem(f"{path} is not a regular file")
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Problem(f"another run uses {path}; wait for it") from None
            self.position = self._load()
        except OSError as exc:
            raise Problem(f"cannot use {path}: {exc.strerror}") from None

    def _load(self) -> Position:
        """Raises Problem if the journal is of another run."""
        with open(self._fd, "rb", closefd=False) as file:
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]  # the last line may not be
        position = self._parse(data, whole.splitlines())
        os.ftruncate(self._fd, len(whole))
        os.lseek(self._fd, 0, os.SEEK_END)
        return position

    def _parse(self, data: bytes, lines: list[bytes]) -> Position:
        self._new = not lines
        foreign = Problem(f"{self.path} is no journal of atoll map")
        if self._new:
            begin = b'{"atoll map"'
            if data[: len(begin)] != begin[: len(data)]:
                raise foreign
            return Position()
        try:
            first = json.loads(lines[0])
            same = first.keys() == self._identity.keys() and first["atoll map"] == _VERSION
            position = Position(**json.loads(lines[-1])) if len(lines) > 1 else Position()
        except (ValueError, AttributeError, KeyError, TypeError):
            raise foreign from None
        if not same:
            raise foreign
        other = [key for key in self._identity if first[key] != self._identity[key]]
        if other:
            raise Problem(
                f"{self.path} is of another run (other {', '.join(other)}); "
                "delete it to begin again"
            )
        return position

    def begin(self) -> None:
        """Write the first line, if there is none; when the output has been opened."""
        if self._new:
            self._append(self._identity)
            folder = os.open(os.path.dirname(os.path.abspath(self.path)), os.O_RDONLY)
            try:
                os.fsync(folder)  # the name of the file, and mostly the output's as well
            finally:
                os.close(folder)

    def write(self, position: Position) -> None:
        """Say how far it is. What `position` speaks of must be on the disk."""
        self._append(asdict(position))

    def _append(self, entry: dict[str, Any]) -> None:
        data = memoryview(json.dumps(entry).encode() + b"\n")
        try:
            while data:
                data = data[os.write(self._fd, data) :]
            os.fsync(self._fd)
        except OSError as exc:
            raise WriteError(f"cannot write {self.path}: {exc.strerror}") from None
