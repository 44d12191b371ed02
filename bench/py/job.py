"""The job of `make demo`: the standard library's source, in four ways.

Each way three times in turns, in a fresh Python; see examples/ways.py.
"""

import sys

import common

sys.path.insert(0, str(common.REPOSITORY / "examples"))

import demo


def run(args):
    results = common.Results()
    workers, limit, rounds = (2, 60, 1) if args.quick else (2, None, 3)
    times = {way: [] for way in demo.NAMES}
    speedups = {way: [] for way in demo.NAMES}
    memory = {way: [] for way in demo.NAMES}
    tallies = []
    for _ in range(rounds):
        for way in demo.NAMES:
            outcome = demo.measure(way, workers, limit)
            times[way].append(outcome.seconds)
            speedups[way].append(times["serially"][-1] / outcome.seconds)
            if outcome.memory is not None:
                memory[way].append(outcome.memory / 2**20)
            tallies.append(outcome.tally)
    for way, name in demo.NAMES.items():
        results.number(f"job.{way}.time", times[way], "s", f"the job: {name}")
        results.number(
            f"job.{way}.speedup",
            speedups[way],
            "×",
            f"the job, speed-up: {name}",
        )
        if memory[way]:
            results.number(
                f"job.{way}.memory",
                memory[way],
                "MiB (PSS)",
                f"the job, memory added at the peak: {name}",
            )
    same = all(tally == tallies[0] for tally in tallies)
    results.goal(
        "the job of the demo: the same answer in all four ways",
        "equal",
        tallies[0].digest() if same else "different",
        f"{tallies[0].files:,} files",
        same,
    )
    return results


if __name__ == "__main__":
    common.main(run, __doc__)
