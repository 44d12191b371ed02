"""joblib on interpreters: ``Parallel(n_jobs=-1, backend="atoll")``.

Importing this module registers the backend; scikit-learn and all that uses joblib
takes it from ``with joblib.parallel_config(backend="atoll"):``. joblib is no
dependency of atoll's: it is imported here alone.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from concurrent import futures
from concurrent.futures._base import LOGGER

from joblib import cpu_count, register_parallel_backend
from joblib.parallel import (
    AutoBatchingMixin,
    FallbackToBackend,
    ParallelBackendBase,
    SequentialBackend,
)

from .executor import InterpreterPoolExecutor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    _Call = tuple[Callable[[Any], object], futures.Future[Any]]

__all__ = ["Backend", "register", "shutdown"]

# What the executor is told; joblib also passes what is meant for its own processes.
_OPTIONS = (
    "initializer",
    "initargs",
    "preload",
    "max_tasks_per_child",
    "extensions",
    "grace",
    "nice",
    "follow",
)


class Backend(AutoBatchingMixin, ParallelBackendBase):
    """A joblib backend whose workers are interpreters of this process.

    What a call takes and returns crosses as through InterpreterPoolExecutor: copied,
    functions of ``__main__`` by value. The workers are kept for the next Parallel with
    the same number of jobs and options; see shutdown().

    Args (of ``parallel_config(backend="atoll", ...)`` or ``Parallel``):
      initializer, initargs, preload, max_tasks_per_child, extensions, grace, nice,
        follow: as of InterpreterPoolExecutor.
    """

    supports_retrieve_callback = True

    # joblib's 0.2 s hide the cost of reaching a process; an interpreter costs
    # microseconds, and small batches end together.
    MIN_IDEAL_BATCH_DURATION = 0.02
    MAX_IDEAL_BATCH_DURATION = 0.5

    def __init__(self, **options: Any) -> None:
        own = {"nesting_level", "inner_max_num_threads", *_OPTIONS}
        for name in options:
            if name not in own:
                raise TypeError(f"the backend 'atoll' has no option {name!r}")
        super().__init__(**options)
        self._pool: InterpreterPoolExecutor | None = None
        self._key: tuple[object, ...] = ()
        self._running: set[futures.Future[Any]] = set()

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """How many workers that is: 1 in a task of a worker, as if it were sequential."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None or self.nesting_level:
            return 1
        if n_jobs < 0:
            return max(int(cpu_count()) + 1 + n_jobs, 1)
        return n_jobs

    def configure(
        self, n_jobs: int | None = 1, parallel: Any = None, **options: Any
    ) -> int:
        """Called by Parallel when it begins: have workers."""
        count = self.effective_n_jobs(n_jobs)
        if count == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        self.parallel = parallel
        options = {**self.backend_kwargs, **options}
        options = {name: options[name] for name in _OPTIONS if name in options}
        for name in ("initargs", "preload"):
            if name in options:
                options[name] = tuple(options[name])
        if not isinstance(options.get("follow", True), bool | str):
            options["follow"] = frozenset(options["follow"])
        self._key = (count, tuple(sorted(options.items(), key=lambda item: item[0])))
        self._pool = _take(self._key)
        if self._pool is None:
            self._pool = InterpreterPoolExecutor(count, "joblib", **options)
        return count

    def submit(
        self, func: Callable[[], Any], callback: Callable[[Any], object] | None = None
    ) -> futures.Future[Any]:
        """Called by Parallel, in its thread and in callbacks: run a batch."""
        assert self._pool is not None
        future: futures.Future[Any]
        try:
            future = self._pool.submit(func)
        except Exception as error:
            # What cannot be sent is the batch's failure. Raised here, in a callback,
            # it would be logged, and Parallel would wait for ever.
            future = futures.Future()
            future.set_exception(error)
        self._running.add(future)
        future.add_done_callback(self._running.discard)
        if callback is not None:
            future.add_done_callback(lambda future: _call(callback, future))
        return future

    def retrieve_result_callback(self, future: futures.Future[Any]) -> Any:
        """Called by Parallel in the callback: the results of a batch, or its error."""
        return future.result()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Called by Parallel: cancel what is queued and stop what runs.

        The workers stay, with what they have imported; one that does not stop within
        the grace is replaced by the pool.
        """
        for future in list(self._running):
            future.cancel()
        # joblib 1.6 would begin the next call with what this one has left there.
        batches = getattr(self.parallel, "_ready_batches", None)
        while batches is not None and not batches.empty():
            batches.get_nowait()

    def terminate(self) -> None:
        """Called by Parallel when it has ended: keep the workers for the next."""
        pool, self._pool = self._pool, None
        self.reset_batch_stats()
        if pool is not None:
            _keep(self._key, pool)


# Callbacks submit the next batch. When that has ended before its callback is added, the
# callback is called at once, inside the first; and so on, for thousands of small
# batches. So what is called inside another is called after it instead.
_calls = threading.local()


def _call(callback: Callable[[Any], object], future: futures.Future[Any]) -> None:
    waiting: deque[_Call] | None = getattr(_calls, "waiting", None)
    if waiting is not None:
        waiting.append((callback, future))
        return
    waiting = _calls.waiting = deque([(callback, future)])
    stopped: BaseException | None = None
    try:
        while waiting:
            callback, future = waiting.popleft()
            try:
                callback(future)
            except Exception:
                LOGGER.exception("exception calling callback for %r", future)
            except BaseException as exc:  # Ctrl-C; the others are to be called yet
                stopped = exc
    finally:
        _calls.waiting = None
    if stopped is not None:
        raise stopped


# The workers of the last Parallel that has ended. Others may run in other threads: each
# has a pool to itself while it runs.
_idle: tuple[tuple[object, ...], InterpreterPoolExecutor] | None = None
_lock = threading.Lock()


def _take(key: tuple[object, ...]) -> InterpreterPoolExecutor | None:
    global _idle
    with _lock:
        if _idle is None or _idle[0] != key:
            return None
        pool, _idle = _idle[1], None
    if pool.stats().broken is not None:
        pool.shutdown(wait=False)
        return None
    return pool


def _keep(key: tuple[object, ...], pool: InterpreterPoolExecutor) -> None:
    global _idle
    with _lock:
        last, _idle = _idle, (key, pool)
    if last is not None:
        last[1].shutdown(wait=False)


def _forget() -> None:
    """In the child of a fork: it has no workers."""
    global _idle, _lock
    _idle, _lock = None, threading.Lock()


def shutdown() -> None:
    """Close the workers that are kept for the next Parallel, and wait for that.

    Does nothing if there are none. Those of a Parallel that runs are not touched.
    """
    global _idle
    with _lock:
        last, _idle = _idle, None
    if last is not None:
        last[1].shutdown()


def register(*, make_default: bool = False) -> None:
    """Make the backend known to joblib as "atoll"; importing this module does it.

    Args:
      make_default (bool): also for those who do not name a backend.
    """
    register_parallel_backend("atoll", Backend, make_default=make_default)


os.register_at_fork(after_in_child=_forget)
register()
