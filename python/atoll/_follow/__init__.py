"""Surroundings that follow tasks to their workers. See ext/follow/follow.h."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

# In the order of follow_part in ext/follow/follow.h.
ENVIRON, PATH, RECURSION, WARNINGS, LOGGING, DECIMAL, MULTIPROCESSING = range(7)
NAMES = (
    "environ",
    "path",
    "recursionlimit",
    "warnings",
    "logging",
    "decimal",
    "multiprocessing",
)
FOLLOWS = frozenset(NAMES)


def parse(follow: bool | Iterable[str]) -> int:
    """The bits of what is not followed."""
    if isinstance(follow, bool):
        return 0 if follow else (1 << len(NAMES)) - 1
    if isinstance(follow, str):
        raise TypeError("follow must be a bool or a set of names, not one str")
    try:
        wanted = set(follow)
    except TypeError:
        kind = type(follow).__name__
        raise TypeError(f"follow must be a bool or a set of names, not {kind}") from None
    unknown = sorted(map(repr, wanted - FOLLOWS))
    if unknown:
        raise ValueError(
            f"follow has no {', '.join(unknown)}; the names are {', '.join(NAMES)}"
        )
    return sum(1 << i for i, name in enumerate(NAMES) if name not in wanted)
