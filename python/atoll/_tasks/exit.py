"""The end of the program: what pools still have to do, and what they are given for it.

As in concurrent.futures, before the threads of the program are waited for. What is
queued is done; a task that runs longer than its pool's grace from then on is stopped, and
so is what Interpreter.call_in_thread() has begun. Ctrl-C stops all at once.
"""

from __future__ import annotations

import itertools
import sys
import threading
import weakref
from time import monotonic

from .. import _core
from ..errors import ForkedError
from .dispatch import dispatcher

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    # A pool, what to call it, and the seconds that a task of it gets, or None.
    Left = tuple[_core.Pool, str, float | None]

_sources: list[Callable[[], list[Left]]] = []
_exiting = False
# Pools that nobody else may know; those that have ended are taken out now and then.
# No lock: an executor may be dropped, and so come here, in the middle of anything.
_kept: dict[int, Left] = {}
_numbers = itertools.count()
_look_at = 16  # how many there may be before the next time


def register(source: Callable[[], list[Left]]) -> None:
    """Have it asked at the end which pools are left."""
    _sources.append(source)


def keep(pool: _core.Pool, name: str, grace: float | None) -> None:
    """Remember it for the end, whoever drops what it is part of."""
    global _look_at
    if len(_kept) >= _look_at:
        for number, entry in list(_kept.items()):
            try:
                over = entry[0].wait(0)
            except ForkedError:
                over = True  # the parent's
            if over:
                _kept.pop(number, None)
        _look_at = max(16, 2 * len(_kept))
    _kept[next(_numbers)] = (pool, name, grace)


def drop(pool: _core.Pool, name: str, grace: float | None) -> None:
    """Close the pool of an executor that nobody has any more."""
    if _exiting is not False:  # or None: this module is being taken apart
        return
    try:
        pool.close(False)
        if not pool.wait(0):
            keep(pool, name, grace)
    except ForkedError:
        pass


def check(what: str) -> None:
    """RuntimeError when it is too late to make one."""
    if _exiting:
        raise RuntimeError(f"cannot {what} at interpreter shutdown")


def call_in_thread(
    interp: Any, function: Callable[..., object], args: Any, kwargs: Any
) -> threading.Thread:
    """See Interpreter.call_in_thread."""

    def run() -> None:
        try:
            interp.call(function, *args, **kwargs)
        except Exception:
            if thread not in _stopped:  # else that has been said
                raise

    name = f"{interp.name or f'interpreter-{interp.id}'}.call"
    thread = threading.Thread(target=run, name=name)
    _calls[thread] = interp
    thread.start()
    return thread


_calls: weakref.WeakKeyDictionary[threading.Thread, Any] = weakref.WeakKeyDictionary()
_stopped: set[threading.Thread] = set()
_OBEY = 1.0  # seconds


def _end_calls(begin: float) -> None:
    """Wait for the threads of call_in_thread() within the limit of all closes, and then
    stop what they run."""
    limit = _core._close_limit()
    calls = {thread: interp for thread, interp in _calls.items() if thread.is_alive()}
    _join(calls, None if limit is None else begin + limit)
    for thread, interp in calls.items():
        if thread.is_alive():
            _stopped.add(thread)
            _say(f"{thread.name}: the call is stopped, {limit:g} s", "join()")
            interp._own().interrupt()
    _join(calls, monotonic() + _OBEY)
    for thread, interp in calls.items():
        if thread.is_alive():
            interp._own().forsake()


def _join(threads: Iterable[threading.Thread], end: float | None) -> None:
    for thread in threads:
        thread.join(None if end is None else max(0, end - monotonic()))


def _say(what: str, instead: str) -> None:
    print(
        f"atoll: {what} after the end of the program; {instead} would have waited for it",
        file=sys.stderr,
    )


def _finish() -> None:
    try:
        _finish_pools()
    except KeyboardInterrupt:
        _core._hurry()
        raise


def _finish_pools() -> None:
    global _exiting
    _exiting = True
    begin = monotonic()
    left: list[Left] = []
    for entry in [*(pool for source in _sources for pool in source()), *_kept.values()]:
        try:
            entry[0].close(False)
        except ForkedError:
            continue  # the parent's, which sees to it
        left.append(entry)
    late = [pool for pool, name, grace in left if not _wait(pool, name, grace, begin)]
    for pool in late:  # all at once: their graces pass together
        pool.close(True)
        pool.stop()
    for pool in late:
        pool.wait(None)
    _end_calls(begin)
    dispatcher.stop()


def _wait(pool: _core.Pool, name: str, grace: float | None, begin: float) -> bool:
    """Until its tasks are done; False if one takes too long, which is said."""
    while True:
        queued, _, _, _, _, workers = pool.state()
        runs = [worker[4] for worker in workers if worker[4] is not None]
        left = grace
        if grace is not None and runs:
            # what began before the end counts from the end
            left = grace - min(max(runs), monotonic() - begin)
            if left <= 0:
                break
        if pool.wait(left):
            return True
    tasks = f"{len(runs)} running and {queued} queued tasks are stopped"
    _say(f"{name}: {tasks}, {grace:g} s", "shutdown() or join()")
    return False


threading._register_atexit(_finish)  # type: ignore[attr-defined]
