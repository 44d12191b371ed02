"""The job of `make demo`: the standard library's source, in four ways.

Each way once, in a fresh Python; see examples/ways.py.
"""

import sys

import common

sys.path.insert(0, str(common.REPOSITORY / "examples"))

import demo


def run(args):
    results = common.Results()
    workers, limit = 2, 60 if args.quick else None
    outcomes = {way: demo.measure(way, workers, limit) for way in demo.NAMES}
    serial = outcomes["serially"]
    for way, outcome in outcomes.items():
        name = demo.NAMES[way]
        results.number(f"job.{way}.time", [outcome.seconds], "s", f"the job: {name}")
        results.number(
            f"job.{way}.speedup",
            [serial.seconds / outcome.seconds],
            "×",
            f"the job, speed-up: {name}",
        )
        if outcome.memory is not None:
            results.number(
                f"job.{way}.memory",
                [outcome.memory / 2**20],
                "MiB (PSS)",
                f"the job, memory added at the peak: {name}",
            )
    same = all(o.tally == serial.tally for o in outcomes.values())
    results.goal(
        "the job of the demo: the same answer in all four ways",
        "equal",
        serial.tally.digest() if same else "different",
        f"{serial.tally.files:,} files",
        same,
    )
    return results


if __name__ == "__main__":
    common.main(run, __doc__)
