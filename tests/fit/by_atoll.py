"""What the tests of joblib and loky run on: interpreters in the place of processes.

Imported by their packages (theirs.py), and by their tests as a plugin of pytest. What loky
is told, and says, is taken to what atoll has of the kind.
"""

import os
import time
import warnings
from concurrent.futures import CancelledError, Future

# What loky's tests take from here.
from pickle import PicklingError, UnpicklingError  # noqa: F401

BY_ATOLL = os.environ.get("RUN_BY") == "atoll"

if BY_ATOLL:
    import atoll

    PicklingError = atoll.NotShareableError


def pytest_make_parametrize_id(val):
    """The names of tests are those that they have with loky."""
    if BY_ATOLL and val is atoll.NotShareableError:
        return "PicklingError"
    return "BrokenProcessPool" if BY_ATOLL and val is atoll.BrokenInterpreterPool else None


# ----------------------------------------------------------------------- joblib

# What joblib tells its processes, beside its own options.
_OF_PROCESSES = (
    "context_id", "idle_worker_timeout", "max_nbytes", "mmap_mode", "prefer", "require",
    "temp_folder", "timeout",
)  # fmt: skip


def adapt_joblib():
    """Called by joblib when it is imported."""
    if not BY_ATOLL:
        return
    import atoll.joblib
    from joblib import _parallel_backends, parallel

    class LokyBackend(atoll.joblib.Backend):
        def __init__(self, **options):
            for name in _OF_PROCESSES:
                options.pop(name, None)
            super().__init__(**options)

    _parallel_backends.LokyBackend = LokyBackend
    parallel.BACKENDS["loky"] = LokyBackend
    del parallel.BACKENDS["atoll"]


# ------------------------------------------------------------------------- loky

event = None


def initialize(value):
    """In the place of their initializer, whose module takes a second to import."""
    global event
    event = value


def adapt_tests(mixin):
    """Called by the module that their tests derive from."""
    mixin.ExecutorMixin.worker_count = 2
    mixin.initializer_event = initialize
    mixin._test_event = event
    if BY_ATOLL:
        mixin._check_subprocesses_number = check_number
        mixin.ExecutorMixin.check_no_running_workers = classmethod(
            lambda cls, patience=5: check_number(None, 0, patience=patience)
        )


def check_number(executor=None, expected=None, expected_max_process_number=None, patience=5):
    """Interpreters are made when there is something to do: none is left, that is looked at."""
    end = time.monotonic() + patience
    while expected == 0 and len(atoll.list_all()) > 1:
        assert time.monotonic() < end, atoll.list_all()
        time.sleep(0.01)


def begin(env, initializer, initargs):
    os.environ.update(env)
    if initializer is not None:
        initializer(*initargs)


if BY_ATOLL:

    class Pool:
        """What there is in the place of processes, and of the thread that manages them."""

        def __init__(self, pool):
            self._pool = pool

        shutdown = property(lambda self: bool(self._pool.state()[3]))
        broken = property(lambda self: self._pool.state()[4])

        def join(self):
            self._pool.wait(None)

        join_thread = join

    class ProcessPoolExecutor(atoll.InterpreterPoolExecutor):
        def __init__(
            self,
            max_workers=None,
            job_reducers=None,
            result_reducers=None,
            timeout=None,
            context=None,
            initializer=None,
            initargs=(),
            env=None,
        ):
            if env:
                initializer, initargs = begin, (env, initializer, initargs)
            super().__init__(max_workers, initializer=initializer, initargs=initargs)
            self._timeout = timeout
            self._flags = self._call_queue = self._executor_manager_thread = Pool(self._pool)
            self._processes = dict.fromkeys(range(self._max_workers), self._flags)

        def submit(self, fn, /, *args, **kwargs):
            try:
                return super().submit(fn, *args, **kwargs)
            except atoll.NotShareableError as exc:  # loky's thread meets it, later
                future = Future()
                future.set_exception(exc)
                return future

        def map(self, fn, *iterables, timeout=None, chunksize=1, **others):
            return super().map(fn, *iterables, timeout=timeout, chunksize=chunksize)

        def shutdown(self, wait=True, kill_workers=False):
            if kill_workers:
                self.stop()
            super().shutdown(wait)


def adapt_loky():
    """Called by loky when it is imported."""
    if not BY_ATOLL:
        return
    import loky
    from loky import process_executor, reusable_executor
    from loky.backend.context import LokyContext

    atoll.RemoteTraceback.tb = property(lambda self: self.text)
    process_executor._RemoteTraceback = atoll.RemoteTraceback
    process_executor.BrokenProcessPool = loky.BrokenProcessPool = atoll.BrokenInterpreterPool
    process_executor.ShutdownExecutorError = (RuntimeError, CancelledError)
    process_executor.ProcessPoolExecutor = loky.ProcessPoolExecutor = ProcessPoolExecutor
    LokyContext.Event = lambda self: atoll.Event()
    theirs = vars(reusable_executor._ReusablePoolExecutor)

    class _ReusablePoolExecutor(ProcessPoolExecutor):
        queue_size = float("inf")
        # loky's own: it looks for that of the last call, and what has changed since.
        get_reusable_executor = theirs["get_reusable_executor"]

        def __init__(self, executor_id=0, **options):
            super().__init__(**options)
            self._options = options

        def _resize(self, max_workers):
            if max_workers is None:
                raise ValueError("max_workers is None")
            if max_workers == self._max_workers:
                return
            state = self.stats()
            if state.queued or any(worker.running for worker in state.workers):
                warnings.warn(
                    "Trying to resize an executor with running jobs: "
                    "waiting for jobs completion before resizing.",
                    stacklevel=2,
                )
            self.shutdown()
            self.__init__(**{**self._options, "max_workers": max_workers})

    reusable_executor._ReusablePoolExecutor = _ReusablePoolExecutor
