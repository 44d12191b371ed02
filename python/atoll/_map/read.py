"""atoll map's input: a thread that reads blocks, and what cuts them into batches.

Main waits for results and for input at the same time, so what blocks in a read is a
thread. It is no more than a few blocks ahead. Nothing is decoded here, and lines are not
looked at one by one: a batch is cut where the first record ends after so many bytes.
"""

from __future__ import annotations

import csv
import os
import select
import stat
import threading
from dataclasses import dataclass
from io import StringIO

from .._core import Queue, create_queue
from .rows import read_rows
from .work import Problem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

STDIN = "-"
BLOCK = 1 << 20
_AHEAD = 4  # blocks
#: Instead of a block: a file has ended, and with None the last one has.
END = b""
#: What some editors and spreadsheets begin text with: a byte order mark, in UTF-8.
MARK = b"\xef\xbb\xbf"


def check(paths: Sequence[str]) -> int | None:
    """Look whether all files can be read; their size together (int), None if it is
    not known. Raises Problem."""
    total: int | None = 0
    for path in paths:
        try:
            status = os.fstat(0) if path == STDIN else os.stat(path)
        except OSError as exc:
            raise Problem(f"cannot read {name(path)}: {exc.strerror}") from None
        if stat.S_ISDIR(status.st_mode):
            raise Problem(f"{path} is a directory; give its files")
        if path != STDIN and not os.access(path, os.R_OK):
            raise Problem(f"cannot read {path}: Permission denied")
        if not stat.S_ISREG(status.st_mode) or path == STDIN:
            total = None
        elif total is not None:
            total += status.st_size
    return total


def name(path: str) -> str:
    """What to call it."""
    return "standard input" if path == STDIN else path


def start(paths: Sequence[str], first: int, offset: int) -> Queue:
    """Start the thread. Gives a queue of blocks (bytes), END after each file, None at
    the end, and a Problem in place of a block that cannot be read.

    Args:
      paths (sequence of str): the files.
      first, offset (int): where to begin: in which of them, and after how many bytes.
    """
    blocks = create_queue(_AHEAD)
    threading.Thread(
        target=_read, args=(paths, first, offset, blocks), name="atoll-map-read", daemon=True
    ).start()
    return blocks


def _read(paths: Sequence[str], first: int, offset: int, blocks: Queue) -> None:
    for path in paths[first:]:
        try:
            for block in _blocks(path, offset):
                blocks.put(block)
        except OSError as exc:
            text = f"cannot read {name(path)}: {exc.strerror}"
            blocks.put(Problem(text, 1))
            return
        except Problem as exc:
            blocks.put(exc)
            return
        blocks.put(END)
        offset = 0
    blocks.put(None)


def _blocks(path: str, offset: int) -> Iterator[bytes]:
    fd = 0 if path == STDIN else os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        skip = offset
        if path != STDIN and stat.S_ISREG(os.fstat(fd).st_mode):
            os.lseek(fd, offset, os.SEEK_SET)
            skip = 0
        while True:
            try:
                block = os.read(fd, BLOCK)
            except BlockingIOError:
                select.select([fd], [], [])
                continue
            if not block:
                break
            if skip:
                gone = min(skip, len(block))
                block = block[gone:]
                skip -= gone
            if block:
                yield block
        if skip:
            raise Problem(
                f"{name(path)} has ended {skip} bytes before the place to resume at: "
                "give the same input again"
            )
    finally:
        if path != STDIN:
            os.close(fd)


@dataclass
class Batch:
    """Whole records, one after the other.

    Attributes:
      data (bytes): the records.
      count (int): how many; of CSV, empty rows are counted.
      file, offset (int): where the next one begins, as in start().
      header (list of str | None): the names of the columns.
      size (int): bytes in `data`.
      first (int): records before it, in all files.
    """

    data: bytes
    count: int
    file: int
    offset: int
    header: list[str] | None
    size: int
    first: int = 0


class Cutter:
    """Cuts what feed() was given into batches.

    Args:
      mark (bytes): what ends a record, one byte.
      file, offset (int): where the input begins, as in start().
      text (bool): a byte order mark in front of a file belongs to no record.
    """

    def __init__(
        self, mark: bytes, file: int = 0, offset: int = 0, text: bool = True
    ) -> None:
        self._mark = mark
        self._text = text
        self._buffer = bytearray()
        self._seen = 0  # so far there is no mark
        self._file = file
        self._offset = offset
        self._ended = False
        self._header: list[str] | None = None

    def feed(self, block: bytes) -> None:
        """The next block, or END."""
        if block:
            self._buffer += block
        else:
            self._ended = True

    def cut(self, size: int, hungry: bool, exact: int | None = None) -> Batch | None:
        """A batch, or None: feed() first.

        Args:
          size (int): how many bytes it should have, or a bit more.
          hungry (bool): take less, if that is all there is.
          exact (int | None): the number of records instead.
        """
        batch = self._cut(size, hungry, exact) if self._prepare() else None
        if batch is None and self._ended and not self._buffer:
            self._file += 1
            self._offset = 0
            self._header = None
            self._ended = False
        return batch

    def _cut(self, size: int, hungry: bool, exact: int | None) -> Batch | None:
        if exact is not None:
            end, count = self._after(exact)
            if count < exact and not self._ended:
                return None
        elif len(self._buffer) < size and not hungry and not self._ended:
            return None
        else:
            end, count = self._boundary(size)
        if not end and self._ended:
            end, count = len(self._buffer), 1  # its last record is not ended
        if not end:
            return None
        with memoryview(self._buffer) as view, view[:end] as part:
            data = bytes(part)
        self._drop(end)
        return Batch(data, count, self._file, self._offset, self._header, end)

    def _prepare(self) -> bool:
        """Take what comes before the first record; whether it is there."""
        if self._text and self._offset == 0:
            begin = bytes(self._buffer[: len(MARK)])
            if begin == MARK:
                self._drop(len(MARK))
            elif MARK.startswith(begin) and not self._ended:
                return False
        return True

    def _drop(self, end: int) -> None:
        del self._buffer[:end]
        self._offset += end
        self._seen = 0

    def _boundary(self, size: int) -> tuple[int, int]:
        """The first end of a record after `size` bytes, or the last one there is, and
        the number of records; (0, 0) if there is none."""
        mark, buffer = self._mark, self._buffer
        end = 0
        if len(buffer) >= size:
            end = buffer.find(mark, max(size - 1, self._seen)) + 1
        if not end:
            end = buffer.rfind(mark, self._seen) + 1
        if not end:
            self._seen = len(buffer)
        return end, buffer.count(mark, 0, end)

    def _after(self, exact: int) -> tuple[int, int]:
        """The end of so many records, or of all there are, and their number."""
        mark, buffer = self._mark, self._buffer
        end = count = 0
        while count < exact and (next := buffer.find(mark, end) + 1):
            end = next
            count += 1
        if count < exact and self._ended and end < len(buffer):
            return len(buffer), count + 1
        return end, count


class RowCutter(Cutter):
    """For CSV, where a line may end within quotes.

    Args:
      named (bool): files begin with the names of their columns.
      header (list of str | None): those of the first file, if it begins within it.
    """

    def __init__(
        self,
        named: bool,
        file: int = 0,
        offset: int = 0,
        header: list[str] | None = None,
    ) -> None:
        super().__init__(b"\n", file, offset)
        self._named = named
        self._header = header
        self._tried = 0  # bytes that are one row at most

    def _prepare(self) -> bool:
        if not super()._prepare():
            return False
        if not self._named or self._header is not None:
            return True
        end, _ = self._after(1)
        if not end and self._ended:
            end = len(self._buffer)
        if not end:
            return False
        rows = read_rows(bytes(self._buffer[:end]))
        try:
            self._header = next(rows, [])
        except csv.Error as exc:
            raise Problem(f"the first row is no header: {exc}; try --no-header") from None
        self._drop(end)
        if not self._header:
            self._header = None  # an empty line
            return self._prepare()
        if len(set(self._header)) < len(self._header):
            raise Problem("the header has a name twice; try --no-header")
        return True

    def _drop(self, end: int) -> None:
        super()._drop(end)
        self._tried = 0

    def _boundary(self, size: int) -> tuple[int, int]:
        end, count = super()._boundary(size)
        if self._buffer.find(b'"', 0, end) < 0:
            return end, count
        while True:
            if end > self._tried or self._ended:
                size, count = self._scan(end, None)
                if size:
                    return size, count
                self._tried = 2 * end  # it is not looked through again for each block
            if end == len(self._buffer):
                return 0, 0
            # A long row: what is further on
            more = super()._boundary(2 * end)[0]
            if more <= end:
                return 0, 0
            end = more

    def _after(self, exact: int) -> tuple[int, int]:
        end, count = super()._after(exact)
        if self._buffer.find(b'"', 0, end) < 0:
            return end, count
        end = self._buffer.rfind(b"\n") + 1
        if end <= self._tried and not self._ended:
            return 0, 0
        found, count = self._scan(end, exact)
        if count < exact and self._ended and found < len(self._buffer):
            return len(self._buffer), count + 1
        if count < exact:
            self._tried = 2 * end
        return found, count

    def _scan(self, end: int, most: int | None) -> tuple[int, int]:
        """The end of the last whole row before `end`, and the number of rows."""
        text = bytes(self._buffer[:end]).decode("latin-1")  # a character for each byte
        begins = 0  # of the row that is read next
        place = count = 0

        def lines() -> Iterator[str]:
            nonlocal place
            for line in StringIO(text, newline="\n"):
                place += len(line)
                yield line
            raise EOFError  # in the middle of a row, or not: `begins` says it

        csv.field_size_limit(1 << 62)
        rows = csv.reader(lines())
        try:
            while count != most:
                try:
                    next(rows)
                except csv.Error:
                    pass
                begins = place
                count += 1
        except EOFError:
            pass
        return begins, count
