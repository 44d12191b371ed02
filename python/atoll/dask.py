"""Workers of dask.distributed that run their tasks in interpreters.

``dask worker --worker-class atoll.dask.Worker SCHEDULER``, or, in a program,
``LocalCluster(worker_class=atoll.dask.Nanny)``. Dask's schedulers for one machine need
nothing of this: ``dask.config.set(scheduler=atoll.InterpreterPoolExecutor())``.
distributed is no dependency of atoll's: it is imported here alone.
"""

from __future__ import annotations

import distributed

from .executor import InterpreterPoolExecutor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Nanny", "Worker"]


class Worker(distributed.Worker):
    """A distributed.Worker with interpreters where others have threads.

    Args:
      *args, **kwargs: as of distributed.Worker. `nthreads` is the number of
        interpreters; None: one for each core. `executor` is refused.

    What a task takes and returns is copied between the worker, which keeps it, and the
    interpreter. In a task there is no worker (get_worker, worker_client, secede): that
    lives in main, as for a ProcessPoolExecutor. Actors and coroutines run in main.
    """

    def __init__(self, *args: Any, nthreads: int | None = None, **kwargs: Any) -> None:
        if "executor" in kwargs:
            raise TypeError("atoll.dask.Worker has an executor of its own")
        # Each interpreter needs distributed for its first task: it has it before.
        pool = InterpreterPoolExecutor(
            nthreads, "Dask-Interpreters", preload=("distributed.worker",)
        )
        super().__init__(*args, nthreads=pool._max_workers, executor=pool, **kwargs)


class Nanny(distributed.Nanny):
    """A distributed.Nanny, the parent of a worker's process, for a Worker of ours."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"worker_class": Worker, **kwargs})
