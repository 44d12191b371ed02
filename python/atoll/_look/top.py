"""What ``atoll top`` shows, served by the process that it is about: serve_stats."""

from __future__ import annotations

import atexit
import errno
import json
import os
import resource
import socket
import stat
import struct
import sys
import threading
import time

from .. import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any, TypeVar

    T = TypeVar("T")

__all__ = ["StatsServer", "serve_stats"]

_MOST_CLIENTS = 8

#: What the system lacks only for the moment: above all, descriptors.
_PASSING = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EPROTO}
#: Seconds until it is tried again: at first, and at the most. Nobody is told when a
#: descriptor can be had again.
_SOON, _LATE = 0.02, 1.0


def directory() -> str:
    """Where the sockets of this user's processes are."""
    base = os.environ.get("XDG_RUNTIME_DIR") or "/tmp"
    return os.path.join(base, f"atoll-{os.geteuid()}")


def check_directory(path: str) -> None:
    """Raises PermissionError unless it is the user's, and nobody else's."""
    found = os.lstat(path)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise PermissionError(f"{path} is not a directory of this user's")
    if found.st_mode & 0o077:
        raise PermissionError(f"others may use {path}; chmod 700 it")


def snapshot() -> dict[str, Any]:
    """What goes on now, as JSON has it; without stacks, so nobody is waited for."""
    parties, waits, _, pools, queues, channels = _core._survey(False)
    with open("/proc/self/statm", encoding="ascii") as file:
        rss = int(file.read().split()[1]) * resource.getpagesize()
    cpu = os.times()
    return {
        "pid": os.getpid(),
        "command": sys.argv,
        "time": time.monotonic(),
        "memory": rss,
        "cpu": cpu.user + cpu.system,
        "interpreters": [
            {
                "id": id,
                "name": "main" if is_main else name,
                "state": state,
                "memory": _core._memory(id),
            }
            for id, is_main, name, state, _, _ in sorted(parties)
        ],
        "waits": [
            {"interpreter": id, "seconds": since, "what": what}
            for id, _, since, _, what in waits
        ],
        "pools": [
            {
                "name": name,
                "queued": queued,
                "places": places,
                "left": strays,
                "closed": closed,
                "workers": [
                    {"interpreter": id, "runs": runs, "done": done}
                    for id, runs, done in workers
                ],
            }
            for name, queued, places, strays, closed, _, workers in pools
        ],
        "queues": [_row(row) for row in queues],
        "channels": [_row(row) for row in channels],
    }


def _row(row: _core._ChanRow) -> dict[str, Any]:
    id, capacity, length, closed, (receiving, sending), _, _ = row
    return {
        "id": id,
        "capacity": capacity,
        "length": length,
        "closed": closed,
        "receiving": receiving,
        "sending": sending,
    }


class StatsServer:
    """What serve_stats() has begun. Ends with close(), as a context manager, or with
    the process."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._pid = os.getpid()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.bind(path)
            os.chmod(path, 0o600)
            self._socket.listen(_MOST_CLIENTS)
        except BaseException:
            self._socket.close()
            raise
        self._places = threading.Semaphore(_MOST_CLIENTS)
        self._closed = threading.Event()
        threading.Thread(target=self._serve, name="atoll-top", daemon=True).start()

    def close(self) -> None:
        """Serve nobody any more. The second time it does nothing."""
        if self._socket.fileno() < 0:
            return
        if self._pid == os.getpid():  # not what a fork has inherited
            self._closed.set()
            try:
                self._socket.shutdown(socket.SHUT_RDWR)  # wakes the thread
            except OSError:
                pass
            try:
                os.unlink(self.path)
            except FileNotFoundError:
                pass
        self._socket.close()

    def __enter__(self) -> StatsServer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._patiently(lambda: self._socket.accept())
            except ConnectionAbortedError:
                continue  # that one has gone; the next is in line
            except OSError:
                return  # closed
            if not self._begin(client):
                client.close()

    def _patiently(self, call: Callable[[], T]) -> T:
        """Call until the system has what that takes, or the server is closed."""
        delay = _SOON
        while True:
            try:
                return call()
            except OSError as exc:
                if exc.errno not in _PASSING or self._closed.wait(delay):
                    raise
            delay = min(2 * delay, _LATE)

    def _begin(self, client: socket.socket) -> bool:
        """Have a thread answer, if it is the user who asks, and not too many do."""
        try:
            _, uid, _ = struct.unpack(
                "iII", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
            )
        except OSError:
            return False
        if uid not in (os.geteuid(), 0) or not self._places.acquire(blocking=False):
            return False
        try:
            threading.Thread(
                target=self._answer, args=(client,), name="atoll-top", daemon=True
            ).start()
        except (RuntimeError, MemoryError):  # the system has no thread to give
            self._places.release()
            return False
        return True

    def _answer(self, client: socket.socket) -> None:
        """A line for each byte that comes."""
        with client:
            try:
                while client.recv(1):
                    look = self._patiently(snapshot)
                    client.sendall(json.dumps(look).encode() + b"\n")
            except OSError:
                pass
            finally:
                self._places.release()


_server: StatsServer | None = None
_lock = threading.Lock()


def _forked() -> None:
    """In the child of a fork: a thread that is not there may hold it."""
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_forked)


def serve_stats() -> StatsServer:
    """Let ``atoll top`` of this user look at this process.

    Opens a socket in a directory that only this user may enter, and a daemon thread
    that waits for connections; each looks costs about as much as dump() without
    stacks. With ATOLL_TOP=1 in the environment it is called when atoll is imported.
    Again, it returns what is there already.

    Returns:
      StatsServer: to close() it; `path` (str) is the socket's.
    Raises OSError (PermissionError: the directory is not this user's alone),
    ValueError outside of the main interpreter. Does not block.
    """
    global _server
    from ..interpreter import get_current, get_main

    if get_current().id != get_main().id:
        raise ValueError("serve_stats() works in the main interpreter only")
    with _lock:
        if _server is not None and _server._socket.fileno() >= 0:
            return _server
        where = directory()
        try:
            os.mkdir(where, 0o700)
        except FileExistsError:
            pass
        check_directory(where)
        path = os.path.join(where, f"{os.getpid()}.sock")
        try:
            os.unlink(path)  # of a process that had this number, and was killed
        except FileNotFoundError:
            pass
        _server = StatsServer(path)
        atexit.register(_server.close)
        os.register_at_fork(after_in_child=_server.close)
        return _server


def serve_from_environment() -> None:
    """ATOLL_TOP=1: in main, when atoll is imported."""
    try:
        serve_stats()
    except OSError as exc:
        print(f"atoll: ATOLL_TOP: {exc}", file=sys.stderr)
