"""What atoll.doctor() has found out, and how far it is."""

from __future__ import annotations

from dataclasses import dataclass


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
