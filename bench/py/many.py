"""Many handles: what one channel, queue or lock costs among a thousand and a million.

As many are made and kept. Then the oldest are found by their ids and dropped, while all
others stay: that is what walks the tables of those that live. And some chosen at random,
of which nothing is in any cache. Times are of the thread.
"""

import pickle
import random
import time

import atoll
import common

KINDS = {
    "channel": lambda: atoll.create_channel()[0],
    "queue": atoll.create_queue,
    "lock": atoll.Lock,
}
FEW, MANY = 1_000, 1_000_000


def costs(make, have, rounds, by_chance):
    """Nanoseconds to make one when there are many, to find one, and to drop one."""
    keep = [make() for _ in range(have)]
    step = min(have // rounds // 2, 5_000)
    made, found, dropped = [], [], []
    places = range(have)
    if by_chance:
        places = random.Random(1).sample(places, rounds * step)
    for at in range(0, rounds * step, step):
        these = places[at : at + step]
        # Unpickling asks for an object by its id.
        pickles = [pickle.dumps(keep[place]) for place in these]
        start = time.thread_time_ns()
        keep.extend(make() for _ in range(step))
        made.append((time.thread_time_ns() - start) / step)
        start = time.thread_time_ns()
        for one in pickles:
            pickle.loads(one)
        found.append((time.thread_time_ns() - start) / step)
        start = time.thread_time_ns()
        for place in these:
            keep[place] = None
        dropped.append((time.thread_time_ns() - start) / step)
    return {"make": made, "find": found, "drop": dropped}


def run(args):
    results = common.Results()
    many = MANY // 10 if args.quick else MANY
    rounds = 3 if args.quick else 9
    for kind, make in KINDS.items():
        mean = {}
        ways = (("few", FEW, False), ("many", many, False), ("random", many, True))
        for name, have, by_chance in ways:
            for step, values in costs(make, have, rounds, by_chance).items():
                key = f"many.{kind}_{step}_{name}"
                which = " chosen at random" if by_chance else ""
                what = f"{step} a {kind}{which} beside {have:,} others"
                mean[step, name] = results.number(key, values, "ns", what)
        for step in ("find", "drop"):
            ours, beside = mean[step, "many"], mean[step, "few"]
            if step == "find":  # the pickle is in it, whose cost is always the same
                ours -= beside
            results.goal(
                f"{step} one of {many:,} {kind}s" + ", beyond one of a few" * (step == "find"),
                "≤ 1 µs",
                f"{ours / 1000:.2f} µs",
                f"one of {FEW:,}: {beside / 1000:.2f} µs",
                ours <= 1000,
            )
    return results


if __name__ == "__main__":
    common.main(run, __doc__)
