"""Which tests go to which worker, and when."""

from __future__ import annotations

from collections import deque

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping, Sequence

#: A batch is a share of what is left: one of this many for each worker. So the first are
#: large, which keeps tests together that share fixtures, and the last are small.
_SHARES = 4


def units(
    how: str, ids: Sequence[str], groups: Mapping[int, str], without: Iterable[int]
) -> list[list[int]]:
    """The tests by their numbers, in order; what stays together is one list.

    Args:
      how (str): the value of --atoll-dist.
      ids (sequence of str): the node ids.
      groups (mapping): the xdist_group of tests, by their numbers.
      without (iterable of int): those that are left out.
    """
    left_out = set(without)
    found: dict[Hashable, list[int]] = {}
    for number, id in enumerate(ids):
        if number in left_out:
            continue
        key: Hashable = number
        if how == "loadfile":
            key = id.split("::", 1)[0]
        elif how == "loadscope":
            key = _scope(id)
        elif how == "loadgroup":
            key = groups.get(number, number)
        found.setdefault(key, []).append(number)
    return list(found.values())


def _scope(id: str) -> str:
    return id.split("[", 1)[0].rpartition("::")[0] or id


class Schedule:
    """The tests that nobody has yet, and those that workers have and have not done."""

    def __init__(self, units: Iterable[list[int]], workers: int) -> None:
        self._waiting = deque(units)
        self._left = sum(map(len, self._waiting))
        self._shares = _SHARES * workers
        self._given: dict[int, list[int]] = {}

    def take(self, worker: int, late: int = 0) -> list[int] | None:
        """The next batch for the worker of this number.

        Returns None if all are given out, or as many are left as there are workers that
        are `late` (int): each of them is to have something.
        """
        batch: list[int] = []
        size = max(1, self._left // self._shares)
        while len(self._waiting) > late and len(batch) < size:
            batch += self._waiting.popleft()
        self._left -= len(batch)
        self._given.setdefault(worker, []).extend(batch)
        return batch or None

    def done(self, worker: int, number: int) -> None:
        """The worker has run this test."""
        self._given[worker].remove(number)

    def give_back(self, worker: int) -> None:
        """The worker is gone: what it has not run is for others."""
        left = self._given.pop(worker, [])
        self._waiting.extendleft([number] for number in reversed(left))
        self._left += len(left)

    def is_empty(self) -> bool:
        """Has everything been given out?"""
        return not self._waiting

    def is_done(self) -> bool:
        """Has everything been run?"""
        return not self._waiting and not any(self._given.values())
