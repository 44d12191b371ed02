"""How much CPU the machine gave to what is measured: for figures that say nothing else.

Two looks at what /proc tells make a Share. Ticks of the kernel are 10 ms, so it is right
for what takes some tenths of a second, or of many such together.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from time import monotonic, process_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_ENOUGH = 0.9  # of the cores that are needed
_SLOWER = 1.4  # times the CPU time for the same work


@dataclass(frozen=True)
class Moment:
    """What /proc told; seconds since some time.

    Attributes:
      time (float): that has passed.
      own (float): CPU time of this process and its descendants.
      busy (float): CPU time of everybody, on the CPUs that this process may use.
      stolen (float): what the host of a virtual machine used of these for others.
    """

    time: float
    own: float
    busy: float
    stolen: float


@dataclass(frozen=True)
class Share:
    """What this process could have between two moments.

    Attributes:
      seconds (float): that passed.
      own, others, stolen (float): CPU time that it used, that others used, that the
        host took.
      cores (int): CPUs that it may use.
      limit (float | None): how many its control group may use at a time.
    """

    seconds: float
    own: float
    others: float
    stolen: float
    cores: int
    limit: float | None

    def __add__(self, other: Share) -> Share:
        return Share(
            self.seconds + other.seconds,
            self.own + other.own,
            self.others + other.others,
            self.stolen + other.stolen,
            self.cores,
            self.limit,
        )

    def given(self) -> float:
        """How many cores were to be had, on average."""
        if not self.seconds:
            return float(self.cores)
        free = max(0.0, self.cores - (self.others + self.stolen) / self.seconds)
        return free if self.limit is None else min(free, self.limit)

    def lack(self, workers: int) -> str | None:
        """What to say if that were too few for so many who compute, else None."""
        needed = min(workers, self.cores)
        given = self.given()
        if given >= _ENOUGH * needed:
            return None
        reasons = [
            f"{who} {seconds / self.seconds:.1f}"
            for who, seconds in (
                ("other processes took", self.others),
                ("the host took", self.stolen),
            )
            if seconds / self.seconds >= 0.05
        ]
        if self.limit is not None and self.limit < _ENOUGH * needed:
            reasons.append(f"the limit of its control group is {self.limit:.1f}")
        core = "core" if needed == 1 else "cores"
        return f"{given:.1f} of the {needed} {core} that it needed ({', '.join(reasons)})"

    def slower(self, alone: Share) -> float | None:
        """How many times the CPU time it took of what took `alone` on one core, if that
        is so much more that the cores, working at once, cannot be whole ones."""
        times = self.own / alone.own if alone.own > 0 else 1.0
        return times if times >= _SLOWER else None


def look(root: str = "") -> Moment:
    """What goes on now. Takes a millisecond. `root` is what /proc is in, for tests."""
    busy = stolen = 0.0
    tick = os.sysconf("SC_CLK_TCK")
    mine = {f"cpu{n}" for n in os.sched_getaffinity(0)}
    for line in _lines(f"{root}/proc/stat"):
        name, *values = line.split()
        if name in mine:
            user, nice, system, _, _, irq, softirq, steal = map(int, values[:8])
            busy += (user + nice + system + irq + softirq) / tick
            stolen += steal / tick
    times = os.times()
    own = process_time() + times.children_user + times.children_system
    own += sum(_ticks(pid) for pid in _descendants(os.getpid())) / tick
    return Moment(monotonic(), own, busy, stolen)


def between(first: Moment, last: Moment) -> Share:
    """What there was between two looks."""
    own, busy = last.own - first.own, last.busy - first.busy
    return Share(
        seconds=last.time - first.time,
        own=own,
        others=max(0.0, busy - own),
        stolen=last.stolen - first.stolen,
        cores=len(os.sched_getaffinity(0)),
        limit=limit(),
    )


def limit(root: str = "") -> float | None:
    """How many CPUs the control groups of this process let it use at a time (float);
    None: as many as there are. `root` is what /proc and /sys are in, for tests."""
    found = []
    for line in _lines(f"{root}/proc/self/cgroup"):
        _, kinds, path = line.rstrip("\n").split(":", 2)
        if kinds and "cpu" not in kinds.split(","):
            continue
        folder = f"{root}/sys/fs/cgroup/{kinds}"
        for part in ("", *path.split("/")):
            folder = f"{folder}/{part}"
            words = " ".join(_lines(f"{folder}/cpu.max")).split()
            for name in ("quota", "period") if kinds else ():
                words += " ".join(_lines(f"{folder}/cpu.cfs_{name}_us")).split()
            if len(words) == 2 and words[0].isdigit() and int(words[1]) > 0:
                found.append(int(words[0]) / int(words[1]))
    return min(found, default=None)


def _descendants(pid: int) -> Iterator[int]:
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return  # it has ended
    for thread in threads:
        for child in " ".join(_lines(f"/proc/{pid}/task/{thread}/children")).split():
            yield int(child)
            yield from _descendants(int(child))


def _ticks(pid: int) -> int:
    """CPU time of a process and of those children of it that have ended."""
    fields = " ".join(_lines(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    return sum(map(int, fields[11:15]))


def _lines(path: str) -> list[str]:
    """None where there is no such file, or not any more."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.readlines()
    except OSError:
        return []
