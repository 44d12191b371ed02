"""The dispatcher: one thread of an interpreter that completes watched futures.

It is started when the first future is watched, and ends when none has been for a
second.
"""

from __future__ import annotations

import threading

from . import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._future import Future

_IDLE = 1.0  # seconds


class Dispatcher:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._queue: _core.CompletionQueue | None = None
        self._watched = 0
        self._stopping = False

    def watch(self, future: Future) -> bool:
        """Have ``future._completed()`` called when it is done; False if it is."""
        with self._lock:
            if self._queue is None:
                self._queue = _core.CompletionQueue()
            if not future._watch(self._queue):
                return False
            self._watched += 1
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="atoll-dispatcher", daemon=False
                )
                self._thread.start()
        return True

    def _run(self) -> None:
        while True:
            timeout = _IDLE if self._watched == 0 else None
            there = self._queue.wait(0 if self._stopping and not self._watched else timeout)
            done = self._queue.drain()
            with self._lock:
                self._watched -= len(done)
                if not there and not done and not self._watched:
                    self._thread = None
                    return
            for future, *_ in done:
                future._completed()
                del future

    def stop(self) -> None:
        """At exit: it ends when all that is watched is done."""
        with self._lock:
            self._stopping = True
            thread = self._thread
        if thread is not None:
            self._queue.wake()
            thread.join()


dispatcher = Dispatcher()
