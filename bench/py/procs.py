"""The memory of this process and of all that it has started."""

import os


def family(pid):
    """Process ids: `pid` (str) and its children, grandchildren and so on."""
    yield pid
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/children") as file:
            for child in file.read().split():
                yield from family(child)


def pss():
    """MiB of all of them; what they share counts once."""
    total = 0
    for pid in family(str(os.getpid())):
        with open(f"/proc/{pid}/smaps_rollup") as file:
            total += sum(int(line.split()[1]) for line in file if line.startswith("Pss:"))
    return total / 1024
