"""Pairs: 8 interpreters in 4 pairs that play ping-pong on all cores at once.

There are more of them than cores, so spinning is of no use to most, and would
take the core from the one who has something to say. The floor is the same game
between C threads, over the same channels of the core, with no Python.
"""

import atoll
import common
import peers

PAIRS = 4


def play(pairs, seconds):
    """Round trips a second of each pair."""
    gate, ready = atoll.create_queue(), atoll.create_queue()
    done = atoll.create_queue()
    interpreters, threads, ends = [], [], []
    for _ in range(pairs):
        pong_recv, ping_send = atoll.create_channel(1)
        ping_recv, pong_send = atoll.create_channel(1)
        ping, pong = atoll.create(), atoll.create()
        interpreters += ping, pong
        ends += pong_recv, ping_send, ping_recv, pong_send
        threads.append(pong.call_in_thread(peers.echo_channel, pong_recv, pong_send))
        threads.append(
            ping.call_in_thread(
                peers.ping_channel,
                ping_send,
                ping_recv,
                gate,
                ready,
                done,
                seconds,
            )
        )
    for _ in range(pairs):
        ready.get()
    for _ in range(pairs):
        gate.put(None)
    rates = [done.get() for _ in range(pairs)]
    for thread in threads:
        thread.join()
    for interpreter in interpreters:
        interpreter.close()
    return rates


def run(args):
    results = common.Results()
    rounds, seconds = (1, 0.5) if args.quick else (5, 2.0)
    totals, floors, ratios, fairness, floor_fairness = [], [], [], [], []
    for _ in range(rounds):
        spec = ("pairs", "--pairs", PAIRS, "--seconds", seconds)
        floor = common.handover(args, *spec)["per_second"]
        rates = play(PAIRS, seconds)
        totals.append(sum(rates) / 1000)
        floors.append(sum(floor) / 1000)
        ratios.append(sum(rates) / sum(floor))
        fairness.append(min(rates) / (sum(rates) / PAIRS))
        floor_fairness.append(min(floor) / (sum(floor) / PAIRS))
    unit = "thousand round trips/s"
    total = results.number("pairs.total", totals, unit, "4 pairs of interpreters, together")
    floor = results.number(
        "pairs.core",
        floors,
        unit,
        "4 pairs of C threads, the same channels (floor)",
    )
    ratio = results.number("pairs.ratio", ratios, "×", "interpreters against C threads")
    results.number(
        "pairs.slowest",
        fairness,
        "of the mean",
        "the slowest pair of interpreters",
    )
    results.number(
        "pairs.core_slowest",
        floor_fairness,
        "of the mean",
        "the slowest pair of C threads",
    )
    results.goal(
        "8 interpreters in 4 pairs, total throughput",
        "≥ 0.7 × C threads",
        f"{ratio:.2f} × ({total:.0f} k/s)",
        f"C threads {floor:.0f} k/s",
        ratio >= 0.7,
    )
    worst = min(fairness)
    results.goal(
        "8 interpreters in 4 pairs, none starving",
        "slowest ≥ 0.2 of the mean",
        f"{worst:.2f} in the worst round",
        f"C threads {min(floor_fairness):.2f}",
        worst >= 0.2,
    )
    return results


if __name__ == "__main__":
    common.main(run, __doc__)
