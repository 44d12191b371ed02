"""The dispatcher: one thread of an interpreter that completes watched futures.

It is started when the first future is watched, and ends when none has been for a
second.
"""

from __future__ import annotations

import threading

from .. import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    class Watched(Protocol):
        """What is watched: a future."""

        def _event(self) -> Any: ...
        def _completed(self) -> None: ...

_IDLE = 1.0  # seconds


class Dispatcher:
    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """As it is made. In the child of a fork, where nothing of it works."""
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._cq: _core.CompletionQueue | None = None
        self._bell: _core.Queue | None = None
        self._watched = 0
        self._stopping = False

    def watch(self, future: Watched) -> bool:
        """Have ``future._completed()`` called when it is done; False if it is."""
        with self._lock:
            if self._cq is None:
                self._cq = _core.CompletionQueue()
                self._bell = _core.create_queue()
                self._cq.recv(self._bell, None)  # how stop() wakes the thread
            if self._cq.watch(future._event(), future) is None:
                return False
            self._watched += 1
            if self._thread is None and not self._stopping:
                self._thread = threading.Thread(
                    target=self._run, args=(self._cq,), name="atoll-dispatcher"
                )
                self._thread.start()
        return True

    def _run(self, cq: _core.CompletionQueue) -> None:
        while True:
            with self._lock:
                timeout = 0 if self._stopping else None if self._watched else _IDLE
            there = cq.wait(timeout)
            done: list[Any] = cq.drain()
            with self._lock:
                self._watched -= sum(future is not None for future in done)
                if not there and (self._stopping or not self._watched):
                    self._thread = None
                    return
            done.reverse()
            while done:
                future = done.pop()
                if future is not None:
                    future._completed()
                del future

    def stop(self) -> None:
        """At exit: end the thread, when it has called back for all that is done."""
        with self._lock:
            self._stopping = True
            thread = self._thread
        if thread is not None:
            assert self._bell is not None
            self._bell.put(None)
            thread.join()


dispatcher = Dispatcher()
