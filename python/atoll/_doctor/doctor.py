"""Which installed packages work in interpreters: atoll.doctor.

Here is what is public; finding packages, running children and showing results
are modules of their own, imported when they are needed.
"""

from __future__ import annotations

from .._check import check_int, check_iterable, check_number
from .diagnosis import Diagnosis, ModuleDiagnosis, Progress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["Diagnosis", "ModuleDiagnosis", "Progress", "doctor"]


def doctor(
    packages: Iterable[str] | None = None,
    *,
    timeout: float = 60.0,
    jobs: int | None = None,
    progress: Callable[[Progress], object] | None = None,
) -> list[Diagnosis]:
    """Find out which installed packages work in interpreters.

    Each extension module is imported, in child processes, in the main
    interpreter, in one that refuses what does not declare support
    (extensions="strict"), in an isolated one and in two at once. A crash ends only
    the child, and is a result like others.

    Args:
      packages (iterable of str, or None): distributions, or names to import. None:
        all that have extension modules.
      timeout (float): seconds that one import may take.
      jobs (int | None): children at a time; None: one for each processor, 4 at
        most.
      progress (callable | None): called with a Progress for every step, in this
        thread. If it raises, so does doctor().

    Returns a Diagnosis for each package, sorted by name (list).

    Blocks until all are done, minutes for large packages; a signal handler that
    raises (Ctrl-C) ends the children at once. Imports nothing of the packages
    here.

    Raises:
      LookupError: a name is of no installed package; with close matches.
      TypeError: a name is no str, or `packages` is one.
      ValueError: `timeout` or `jobs` is not positive.
      RuntimeError: a child process cannot be started.
      OSError: the system refused.
    """
    from .find import find
    from .run import run

    if isinstance(packages, str):
        raise TypeError("packages must be an iterable of str, not a str")
    if packages is not None:
        check_iterable(packages, "packages", "an iterable of str or None")
    check_number(timeout, "timeout")
    if timeout is None or not timeout > 0:
        raise ValueError(f"timeout must be positive, not {timeout!r}")
    if jobs is None:
        import os

        jobs = min(os.process_cpu_count() or 1, 4)
    jobs = check_int(jobs, "jobs", "an int or None")
    if jobs < 1:
        raise ValueError(f"jobs must be 1 or more, not {jobs!r}")
    return run(find(packages), float(timeout), jobs, progress)
