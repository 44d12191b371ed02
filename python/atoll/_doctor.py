"""Which installed packages work in interpreters: atoll.doctor.

Here is what is public; finding packages, running children and showing results
are modules of their own, imported when they are needed.
"""

from __future__ import annotations

from dataclasses import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["Diagnosis", "ModuleDiagnosis", "Progress", "doctor"]


@dataclass(frozen=True)
class Diagnosis:
    """What atoll.doctor() has found out about a distribution.

    Attributes:
      name, version (str): the distribution's.
      verdict (str): 'native', 'isolated', 'fails' or 'main-fails': what the worst
        of its modules is, without those that are there for its tests and those
        that do not even import in main.
      reason (str | None): why, if it fails.
      imports (tuple of ModuleDiagnosis): its top-level names in Python.
      modules (tuple of ModuleDiagnosis): its extension modules.
      notes (tuple of str): what happened when no module was being imported, as at
        the closing of an interpreter.
    """

    name: str
    version: str
    verdict: str
    reason: str | None
    imports: tuple[ModuleDiagnosis, ...]
    modules: tuple[ModuleDiagnosis, ...]
    notes: tuple[str, ...]

    @property
    def works(self) -> bool:
        """Does it work in interpreters, isolated or as it is? (bool)"""
        return self.verdict in ("native", "isolated")


@dataclass(frozen=True)
class ModuleDiagnosis:
    """What atoll.doctor() has found out about a module.

    Attributes:
      name (str): its dotted name.
      file (str | None): its shared object; None: it is written in Python.
      test (bool): it is there for tests or benchmarks of its package.
      verdict (str): 'native': it loads as it is in an interpreter with its own
        GIL. 'isolated': in a private copy. 'fails': in no interpreter.
        'main-fails': not even in the main interpreter.
      reason (str | None): why, if it fails.
      tried (dict): where it was imported ('main', 'strict', 'isolated', 'both':
        in two isolated interpreters at once) -> 'ok', or why it failed.
    """

    name: str
    file: str | None
    test: bool
    verdict: str
    reason: str | None
    tried: dict[str, str]


@dataclass(frozen=True)
class Progress:
    """How far atoll.doctor() is.

    Attributes:
      package (str): the package of which there is news.
      doing (str): what is being done with it, for people.
      done, total (int): of packages.
      diagnosis (Diagnosis | None): it is finished, with this result.
    """

    package: str
    doing: str
    done: int
    total: int
    diagnosis: Diagnosis | None


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
    from ._doctor_find import find
    from ._doctor_run import run

    if isinstance(packages, str):
        raise TypeError("packages must be an iterable of str, not a str")
    if not timeout > 0:
        raise ValueError(f"timeout must be positive, not {timeout!r}")
    if jobs is None:
        import os

        jobs = min(os.process_cpu_count() or 1, 4)
    elif jobs < 1:
        raise ValueError(f"jobs must be 1 or more, not {jobs!r}")
    return run(find(packages), float(timeout), jobs, progress)
