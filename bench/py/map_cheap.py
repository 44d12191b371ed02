"""atoll map on functions that cost next to nothing, beside a loop: from where on it pays.

The text is that of mapping.py, 50 MB. A function that returns the line, and two that take a
microsecond or five more; both ways write the same file. What it takes to start is measured
with an empty file.
"""

import statistics
import tempfile
from pathlib import Path

import common
import mapping

#: Microseconds that the function takes, beside being called, and megabytes of text.
COSTS = {"0": 50, "1": 50, "5": 10}
WAYS = ("loop", "atoll")


def commands(source):
    found = mapping.ways(source)
    return {"loop": found["serial"], "atoll": found["atoll"]}


def in_turns(commands, env, folder, rounds):
    """Seconds of each way (dict of lists)."""
    taken = {way: [] for way in commands}
    for _ in range(rounds):
        for way, command in commands.items():
            elapsed, _ = mapping.timed(command, env, "/dev/null", folder / way)
            taken[way].append(elapsed)
        if (folder / "loop").read_bytes() != (folder / "atoll").read_bytes():
            raise RuntimeError("atoll map: another result")
    return taken


def run(args):
    results = common.Results()
    rounds = 1 if args.quick else 7
    each = mapping.loops() / 20  # loops in a microsecond
    environment = common.python_environment()
    with tempfile.TemporaryDirectory(prefix="atoll-map-") as name:
        folder = Path(name)
        (folder / "empty").touch()
        begins = in_turns(
            commands(folder / "empty"), {**environment, "MAP_LOOPS": "0"}, folder, rounds
        )
        later = [b - a for a, b in zip(begins["loop"], begins["atoll"], strict=True)]
        start = {way: statistics.median(begins[way]) for way in WAYS}
        results.number(
            "map_cheap.start", [1000 * s for s in later], "ms", "map: it starts later by"
        )
        for cost, megabytes in COSTS.items():
            text = folder / f"text-{cost}"
            count = mapping.make_text(text, (0.5 if args.quick else megabytes) * 1e6)
            env = {**environment, "MAP_LOOPS": str(round(float(cost) * each))}
            taken = in_turns(commands(text), env, folder, rounds)
            line = {}
            for way in WAYS:
                values = [1e6 * (seconds - start[way]) / count for seconds in taken[way]]
                what = "a loop" if way == "loop" else "atoll map -j 2"
                line[way] = results.number(
                    f"map_cheap.{cost}.{way}", values, "µs", f"map: a line, {cost} µs, {what}"
                )
            gain = line["loop"] - line["atoll"]
            if gain > 0:
                lines = 1e6 * statistics.median(later) / gain
                results.number(
                    f"map_cheap.{cost}.lines", [lines], "lines", f"map: pays from, {cost} µs"
                )
            if cost == "0":
                loop, ours = (statistics.median(taken[way]) for way in WAYS)
                results.goal(
                    "atoll map with a function that costs nothing, beside a loop",
                    "≥ 1 ×",
                    f"{loop / ours:.2f} ×",
                    f"{megabytes} MB, {count:,} lines, the start included",
                    loop >= ours,
                )
            text.unlink()
    return results


if __name__ == "__main__":
    common.main(run, __doc__)
