"""The dispatcher of an interpreter: the threads that complete watched futures.

One, the *settler*, is told by the core when a watched future is done, and tells those
who wait in concurrent.futures and in event loops. It runs nobody's code, so nothing
holds it up, and a callback may wait for other futures. Callbacks are run by *callers*:
by one, as long as it gets on. When none has begun or returned for a moment although
others are due, all are taken to be blocked and one more comes; each time that moment is
twice as long, up to a second, so that callbacks that compute do not make threads
without end.

The settler comes with the first future that is watched, callers with the first
callback; all go when no future has been watched for a second.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from time import monotonic

from .. import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    Callback = Callable[[Any], object]

    class Watched(Protocol):
        """What is watched: a future."""

        def _event(self) -> Any: ...
        def _settle(self) -> bool: ...
        def _next_callback(self) -> Callback | None: ...
        def _call(self, callback: Callback, caught: type[BaseException]) -> None: ...

_IDLE = 1.0  # seconds that the threads stay with nothing to do
_BLOCKED = 0.02  # seconds after which one callback is taken to be blocked
_BLOCKED_MOST = 1.0  # and many


class _Line:
    """A completion queue where threads wait, and a bell that ends their wait.

    The watch for deadlocks knows that who waits in a completion queue is nobody
    whom others could hope for.
    """

    def __init__(self) -> None:
        self.cq = _core.CompletionQueue()
        self._bell = _core.create_queue()
        self._listen()

    def ring(self) -> None:
        """Wake all who wait; or the next who would."""
        self._bell.put(None)

    def _listen(self) -> None:
        self._ring = self.cq.recv(self._bell, None)
        while self._ring.done:
            self._ring.result()
            self._ring = self.cq.recv(self._bell, None)

    def heard(self) -> None:
        """The token None has come out of the queue: listen again."""
        self._ring.result()
        self._listen()


class Dispatcher:
    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """As it is made. In the child of a fork, where nothing of it works."""
        # One that a thread may take twice: a finalizer can watch a future, anywhere.
        self._lock = threading.RLock()
        self._told: _Line | None = None  # where the settler waits
        self._work: _Line | None = None  # where callers do
        self._settler: threading.Thread | None = None
        self._watched = 0
        self._callers: dict[threading.Thread, Callback | None] = {}  # what they run
        self._idle = 0  # how many of them wait
        self._due: deque[Watched] = deque()  # they have callbacks
        self._moved = 0.0  # when a callback last began or returned
        self._stopping = self._stopped = False

    # ------------------------------------------------------- for the futures

    def watch(self, future: Watched) -> bool:
        """Have ``future._settle()`` called when it is done; False if it is.

        Raises RuntimeError if no thread can be had: then nothing has happened, and
        the next who wants to watch one tries again.
        """
        event = future._event()
        while True:
            with self._lock:
                if self._told is None:
                    self._told = _Line()
                if self._settler is not None:
                    return self._add(self._told, event, future)
            self._start(self._settle_all, "atoll-dispatcher")

    def _add(self, told: _Line, event: Any, future: Watched) -> bool:
        # Before it may come: too many keep the settler, too few would let it go. So
        # it is if a KeyboardInterrupt comes here, too.
        self._watched += 1
        try:
            waits = told.cq.watch(event, future) is not None
        except Exception:
            self._watched -= 1
            raise
        if not waits:
            self._watched -= 1
        return waits

    def have_caller(self) -> None:
        """Have a thread for callbacks of futures that are watched; as watch()."""
        with self._lock:
            if self._work is None:
                self._work = _Line()
            if self._callers:
                return
        self._start(self._call_all, "atoll-callbacks")

    def take(self, future: Watched) -> None:
        """Have its callbacks called, though it has been settled before."""
        with self._lock:
            self._due.append(future)
            settled_by = self._settler
            told, work = self._told, self._work if self._idle else None
        if work is not None:
            work.ring()
        if settled_by is not None and told is not None:
            told.ring()  # it looks whether they get on
            return
        try:
            self._start(self._settle_all, "atoll-dispatcher")
        except (RuntimeError, MemoryError):
            pass  # the next that is watched starts it

    def _start(
        self,
        serve: Callable[[threading.Event], None],
        name: str,
        wait: bool = True,
    ) -> None:
        """Start a thread, and wait until it has made itself known.

        Without the lock: a finalizer may run in that thread before, and want it. So
        there may be two at once: one too many leaves again.
        """
        here = threading.Event()
        # Not to be waited for at the end: see stop().
        daemon = threading._daemon_threads_allowed()  # type: ignore[attr-defined]
        thread = threading.Thread(target=serve, args=(here,), name=name, daemon=daemon)
        thread.start()
        if wait:
            here.wait()

    # ----------------------------------------------------------- the settler

    def _settle_all(self, here: threading.Event) -> None:
        me = threading.current_thread()
        with self._lock:
            told = self._told if self._settler is None else None
            if told is not None:
                self._settler = me
        here.set()
        if told is None:
            return
        try:
            self._serve(told)
        finally:
            with self._lock:
                if self._settler is me:
                    self._settler = None

    def _serve(self, told: _Line) -> None:
        while True:
            there = True
            done: list[Any] = []
            try:
                there = told.cq.wait(self._patience())
                done = told.cq.drain()
            except MemoryError:
                pass  # nothing is lost by it: again
            done.reverse()
            while done:
                future = done.pop()
                if future is None:
                    told.heard()
                else:
                    self._settle_one(future)
                del future  # its last reference may be here
            if not there and self._is_over():
                return
            self._help()

    def _patience(self) -> float | None:
        """How long the settler is to wait."""
        with self._lock:
            if self._due:
                return max(0.0, self._moved + self._moment() - monotonic())
            if self._stopping and self._idle == len(self._callers):
                return 0
            if self._stopping or self._watched:
                return None
            return 0 if self._stopped else _IDLE

    def _settle_one(self, future: Watched) -> None:
        due = True
        try:
            due = future._settle()
        except BaseException:
            _report()
        with self._lock:
            self._watched -= 1
            if due:
                self._due.append(future)
            ring = due and self._idle > 0
        if ring and self._work is not None:
            self._work.ring()

    def _is_over(self) -> bool:
        """Nothing has come for as long as it was to wait: is the settler to go?"""
        with self._lock:
            if self._due or (self._watched and not self._stopping):
                return False
            if self._stopping and self._idle < len(self._callers):
                return False  # what is called may still wait for something
            self._settler = None
            ring = self._idle > 0
        if ring and self._work is not None:
            self._work.ring()  # they go, too
        return True

    def _moment(self) -> float:
        """After how long callers that do not get on are taken to be blocked."""
        count = min(len(self._callers), 16)
        return min(_BLOCKED * 2 ** (count - 1), _BLOCKED_MOST) if count else 0.0

    def _help(self) -> None:
        """One more caller, if those that there are do not get on."""
        with self._lock:
            now = monotonic()
            if not self._due or now < self._moved + self._moment():
                return
            self._moved = now
        try:
            self._start(self._call_all, "atoll-callbacks", wait=False)
        except (RuntimeError, MemoryError):
            pass  # none can be had: again in a moment

    # ----------------------------------------------------------- the callers

    def _call_all(self, here: threading.Event) -> None:
        me = threading.current_thread()
        with self._lock:
            work = self._work
            self._callers[me] = None
        here.set()
        assert work is not None
        try:
            while True:
                future, leave, ring = self._next(work, me)
                if ring:
                    work.ring()
                if leave:
                    return
                if future is None:
                    self._rest(work)
                else:
                    self._call_for(future, me)
                del future
        finally:
            self._callers.pop(me, None)

    def _next(
        self, work: _Line, me: threading.Thread
    ) -> tuple[Watched | None, bool, bool]:
        """What a caller is to do: (a future or None, leave, wake another one)."""
        told = None
        with self._lock:
            if self._work is not work:
                return None, True, False  # a callback has forked, and this is the child
            if self._due:
                future = self._due.popleft()
                return future, False, bool(self._due) and self._idle > 0
            leave = self._settler is None or self._idle > 0
            if leave:
                del self._callers[me]
            else:
                self._idle += 1
            if self._stopping:
                told = self._told
            ring = self._settler is None and self._idle > 0
        if told is not None:
            told.ring()
        return None, leave, ring

    def _rest(self, work: _Line) -> None:
        tokens: list[None] = []
        try:
            work.cq.wait(None)
            tokens = work.cq.drain()
        except MemoryError:
            pass  # there is something; it looks again
        finally:
            with self._lock:
                self._idle -= 1
                if tokens:
                    work.heard()

    def _call_for(self, future: Watched, me: threading.Thread) -> None:
        try:
            while (callback := future._next_callback()) is not None:
                self._callers[me] = callback
                self._moved = monotonic()
                future._call(callback, BaseException)
                del callback
        except BaseException:
            _report()
        self._moved = monotonic()
        if me in self._callers:  # else this is the child of a fork
            self._callers[me] = None

    # --------------------------------------------------------------- the end

    def stop(self) -> None:
        """At exit: end the threads, when all that is done has been called back.

        Callbacks that take longer from now than a close may are left to themselves.
        """
        limit = _core._close_limit()
        with self._lock:
            self._stopping = True
            if self._told is not None and self._settler is not None:
                self._told.ring()
        end = None if limit is None else monotonic() + limit
        me = threading.current_thread()
        while True:
            with self._lock:
                threads = {self._settler, *self._callers} - {None, me}
            if not threads or (end is not None and monotonic() >= end):
                break
            for thread in threads:
                assert thread is not None
                thread.join(None if end is None else max(0.0, end - monotonic()))
        with self._lock:
            self._stopping = False
            self._stopped = True
            left = [callback for callback in self._callers.values() if callback is not None]
        if left:
            names = ", ".join(getattr(fn, "__qualname__", type(fn).__name__) for fn in left)
            print(
                f"atoll: {len(left)} callbacks of futures that still run {limit:g} s after "
                f"the end of the program are left to themselves: {names}",
                file=sys.stderr,
            )


def _report() -> None:
    """An exception that nobody else could report; threads go on."""
    try:
        threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), None)))
    except BaseException:
        pass  # there is nobody left to tell


dispatcher = Dispatcher()
