"""Frozen graphs: what it costs to make, to receive and to walk them.

A graph of records frozen once, and then received and opened by another
interpreter, from 10 to 10,000,000 objects; freezing beside pickle.dumps; walking it
beside the ordinary objects; and what the first opening costs, if one object in a
hundred is an instance, that each interpreter makes. Ratios are of what is measured in
turns, in one run.
"""

import gc
import pickle
import statistics
import time

import atoll
import common
from places import Place

SIZES = (10, 1_000, 100_000, 1_000_000, 10_000_000)
now = time.perf_counter_ns

NODES_A_RECORD = 10


def records(nodes):
    """A list of dicts with about so many objects."""
    return [
        {"id": n, "name": f"name {n}", "score": n * 1.5, "at": (n, n + 1), "ok": n % 2 == 0}
        for n in range(nodes // NODES_A_RECORD)
    ]


def rows(nodes):
    return [(n, f"row {n}", n * 0.5) for n in range(nodes // 4)]


def tree(nodes, fan=8):
    """Lists in lists, with str at the ends."""
    level = [f"leaf {n}" for n in range(nodes)]
    while len(level) > 1:
        level = [level[n : n + fan] for n in range(0, len(level), fan)]
    return level[0]


def receive(queue, count):
    """In another interpreter: ns for each, to receive and open what is there."""
    taken = []
    for _ in range(count):
        start = now()
        root = queue.get_nowait().get()
        taken.append(now() - start)
        del root
    return taken


def measure_receive(args, results):
    rounds = 5 if args.quick else 50
    sizes = SIZES[:3] if args.quick else SIZES
    median = []
    with atoll.create() as interp:
        queue = atoll.create_queue()
        for nodes in sizes:
            graph = atoll.freeze(records(nodes))
            for _ in range(rounds + 5):
                queue.put(graph)
            first, *taken = interp.call(receive, queue, rounds + 5)
            micro = [ns / 1000 for ns in taken[4:]]
            what = f"receive and open {nodes:,} objects"
            median.append(results.number(f"frozen.receive.{nodes}", micro, "µs", what))
            results.number(f"frozen.first.{nodes}", [first / 1000], "µs", f"{what}, first")
    beside = ", ".join(f"{n:,}: {t:.2f} µs" for n, t in zip(sizes, median, strict=True))
    slowest, flat = max(median), max(median) / min(median)
    what = f"receive and open a frozen graph, up to {sizes[-1]:,} objects"
    results.goal(what, "≤ 3 µs", f"{slowest:.2f} µs", beside, slowest <= 3)
    results.goal(f"{what}: flat", "slowest ≤ 2 × fastest", f"{flat:.2f} ×", beside, flat <= 2)


def measure_freeze(args, results):
    rounds, nodes = (2, 20_000) if args.quick else (7, 1_000_000)
    for key, make in (("records", records), ("rows", rows), ("tree", tree)):
        obj = make(nodes)
        times = {"freeze": [], "pickle": []}
        for _ in range(rounds):
            start = now()
            graph = atoll.freeze(obj)
            times["freeze"].append((now() - start) / 1e6)
            size = graph.nbytes
            del graph
            start = now()
            text = pickle.dumps(obj, 5)
            times["pickle"].append((now() - start) / 1e6)
            del text
        median = {
            way: results.number(f"frozen.make.{key}.{way}", times[way], "ms", f"{way}, {key}")
            for way in times
        }
        ratio = statistics.median(
            a / b for a, b in zip(times["freeze"], times["pickle"], strict=True)
        )
        results.goal(
            f"freeze {nodes:,} objects ({key}), against pickle.dumps",
            "≤ 0.7 ×",
            f"{ratio:.2f} ×",
            f"{median['freeze']:.0f} and {median['pickle']:.0f} ms; {size / 1e6:.0f} MB",
            ratio <= 0.7,
        )


def walk(root):
    total = 0
    for record in root:
        total += record["id"] + record["at"][1] + len(record["name"])
        if record["ok"]:
            total += int(record["score"])
    return total


def measure_walk(args, results):
    rounds, nodes = (2, 20_000) if args.quick else (7, 1_000_000)
    obj = records(nodes)
    handle = atoll.freeze(obj)
    frozen, view = handle.get(), handle.view()
    times = {"ordinary": [], "frozen": [], "views": []}
    answers = set()
    for _ in range(rounds):
        for way, root in (("ordinary", obj), ("frozen", frozen), ("views", view)):
            start = now()
            answers.add(walk(root))
            times[way].append((now() - start) / 1e6)
    if len(answers) != 1:
        raise RuntimeError("the graphs are not equal")
    for way in times:
        results.number(f"frozen.walk.{way}", times[way], "ms", f"walk {nodes:,}, {way}")
    ratio = statistics.median(
        a / b for a, b in zip(times["ordinary"], times["frozen"], strict=True)
    )
    results.goal(
        f"walk {nodes:,} frozen objects, against ordinary ones",
        "≥ 0.9 × the speed",
        f"{ratio:.2f} ×",
        f"{min(times['frozen']):.1f} and {min(times['ordinary']):.1f} ms",
        ratio >= 0.9,
    )
    ratio = statistics.median(
        a / b for a, b in zip(times["views"], times["ordinary"], strict=True)
    )
    results.goal(
        f"walk {nodes:,} frozen objects through views, against ordinary ones",
        "≤ 4 × the time",
        f"{ratio:.2f} ×",
        f"{min(times['views']):.1f} and {min(times['ordinary']):.1f} ms",
        ratio <= 4,
    )


def mixed(nodes):
    """Records, and for each hundred objects one instance, in lists of their own."""
    return {
        "records": records(nodes),
        "places": [Place(f"place {n}", (n, n + 0.5)) for n in range(nodes // 100)],
    }


def open_first(queue):
    """In another interpreter: µs for the first opening, and for the next."""
    taken = []
    graph = queue.get_nowait()
    for _ in range(2):
        start = now()
        graph.get()
        taken.append((now() - start) / 1000)
    return taken


def measure_instances(args, results):
    """The cost of the first opening is that of the instances, whatever the rest."""
    rounds = 3 if args.quick else 7
    sizes = (10_000, 50_000) if args.quick else (10_000, 100_000, 1_000_000)
    each = []
    for nodes in sizes:
        first, again, loads = [], [], []
        obj = mixed(nodes)
        graph, text = atoll.freeze(obj), pickle.dumps(obj, 5)
        small = atoll.freeze(mixed(100))
        queue = atoll.create_queue()
        for _ in range(rounds):
            with atoll.create() as interp:
                queue.put(small)  # the class is imported
                interp.call(open_first, queue)
                queue.put(graph)
                one, two = interp.call(open_first, queue)
            first.append(one)
            again.append(two)
            start = now()
            pickle.loads(text)
            loads.append((now() - start) / 1000)
        what = f"first opening of {nodes:,} objects, 1 % instances"
        median = results.number(f"frozen.mixed.first.{nodes}", first, "µs", what)
        results.number(f"frozen.mixed.next.{nodes}", again, "µs", f"{what}, next")
        beside = results.number(f"frozen.mixed.loads.{nodes}", loads, "µs", f"{what}, loads")
        each.append((median / (nodes // 100), median / beside))
    shown = ", ".join(
        f"{n:,}: {cost:.2f} µs each, {part:.1%} of pickle.loads"
        for n, (cost, part) in zip(sizes, each, strict=True)
    )
    most = max(cost for cost, _ in each) / min(cost for cost, _ in each)
    results.goal(
        "first opening with 1 % instances: in proportion to them",
        "the cost of each within 2 ×",
        f"{most:.2f} ×",
        shown,
        most <= 2,
    )


def run(args):
    results = common.Results()
    atoll.freeze(None)  # the check of the layouts, once a process
    measure_receive(args, results)
    gc.collect()
    measure_freeze(args, results)
    measure_walk(args, results)
    measure_instances(args, results)
    return results


if __name__ == "__main__":
    common.main(run, __doc__)
