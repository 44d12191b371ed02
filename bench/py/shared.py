"""One graph for eight workers: frozen once, or a copy in each process.

Each way is a fresh program that gives 1,000,000 objects to eight workers and lets each
walk them: what that adds to the memory of all processes together (PSS), and how long one
worker waits for the graph. And lookups in a table of 100,000 entries: frozen, and through
a multiprocessing.Manager. All in turns, in one run.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import common

COMMON = """
import gc, json, multiprocessing, os, sys, time
sys.path.insert(0, sys.argv[1])
import atoll
from frozen import records, walk
from procs import pss

nodes, workers = int(sys.argv[2]), 8
now = time.perf_counter


def used():
    gc.collect()
    return pss()
"""

FROZEN = (
    COMMON
    + """
def use(queue):
    root = queue.get().get()
    taken = time.perf_counter()
    return walk(root), taken


interps = [atoll.create() for _ in range(workers)]
queue = atoll.create_queue()
for interp in interps:
    interp.exec(f"import sys; sys.path.insert(0, {sys.argv[1]!r}); import frozen")
atoll.freeze(None)
base = used()
graph = atoll.freeze(records(nodes))
added, times = [], []
for interp in interps:
    start = now()
    queue.put(graph)
    _, taken = interp.call(use, queue)
    times.append((taken - start) * 1000)
    added.append(used() - base)
one, eight = added[0], added[-1]
print(json.dumps([one, eight, base + one, base + eight, sorted(times)[workers // 2]]))
"""
)

PROCESSES = (
    COMMON
    + """
def use(pipe):
    held = None
    while True:
        held = pipe.recv()
        pipe.send(time.monotonic())
        walk(held or [])
        pipe.send(True)


if __name__ == "__main__":
    context = multiprocessing.get_context("forkserver")
    pipes = []
    for _ in range(workers):
        ours, theirs = context.Pipe()
        context.Process(target=use, args=(theirs,), daemon=True).start()
        ours.send(None)  # it has imported everything
        ours.recv(), ours.recv()
        pipes.append(ours)
    base = used()
    obj = records(nodes)
    added, times = [], []
    for pipe in pipes:
        start = time.monotonic()
        pipe.send(obj)
        times.append((pipe.recv() - start) * 1000)
        pipe.recv()
        added.append(used() - base)
    one, eight = added[0], added[-1]
    print(json.dumps([one, eight, base + one, base + eight, sorted(times)[workers // 2]]))
    os._exit(0)
"""
)

LOOKUPS = (
    COMMON
    + """
def per_lookup(table, count):
    keys = [f"key {n}" for n in range(0, 100_000, 100_000 // count)]
    start = now()
    for key in keys:
        table[key]
    return (now() - start) / len(keys) * 1e6


if __name__ == "__main__":
    table = {f"key {n}": n for n in range(100_000)}
    frozen = atoll.freeze(table)
    with multiprocessing.get_context("forkserver").Manager() as manager:
        shared = manager.dict(table)
        per_lookup(shared, 100)
        print(json.dumps([
            per_lookup(frozen.get(), 10_000), per_lookup(frozen.view(), 10_000),
            per_lookup(shared, 2000), per_lookup(table, 10_000),
        ]))
"""
)

WHATS = (
    ("one", "MiB", "memory that a graph and one user of it add"),
    ("eight", "MiB", "memory that a graph and eight users of it add"),
    ("one_all", "MiB", "memory of all processes, one user"),
    ("eight_all", "MiB", "memory of all processes, eight users"),
    ("give", "ms", "from sending the graph until the worker has it"),
)


def run_script(code, tmp, *args):
    """In a file: processes have to import it again."""
    path = tmp / "program.py"
    path.write_text(code)
    done = subprocess.run(
        [sys.executable, path, common.REPOSITORY / "bench" / "py", *map(str, args)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(done.stdout)


def measure_memory(args, results, tmp):
    nodes = 20_000 if args.quick else 1_000_000
    got = {"frozen": [], "processes": []}
    for _ in range(1 if args.quick else 3):
        for way, code in (("frozen", FROZEN), ("processes", PROCESSES)):
            got[way].append(run_script(code, tmp, nodes))
    middle = {}
    for way, rounds in got.items():
        for (key, unit, what), column in zip(WHATS, zip(*rounds, strict=True), strict=True):
            middle[way, key] = results.number(
                f"shared.{key}_{way}", column, unit, f"{what}: {way}"
            )
    ratio = middle["frozen", "eight"] / middle["frozen", "one"]
    results.goal(
        f"memory of {nodes:,} frozen objects: eight users, against one",
        "≤ 1.2 ×",
        f"{ratio:.2f} ×",
        f"{middle['frozen', 'eight']:.0f} and {middle['frozen', 'one']:.0f} MiB, in all "
        f"{middle['frozen', 'eight_all']:.0f} and {middle['frozen', 'one_all']:.0f}; eight "
        f"processes add {middle['processes', 'eight']:.0f}, in all "
        f"{middle['processes', 'eight_all']:.0f}",
        ratio <= 1.2,
    )
    ratio = middle["processes", "give"] / middle["frozen", "give"]
    results.goal(
        f"give {nodes:,} objects to a worker",
        "faster than multiprocessing.Pipe",
        f"{middle['frozen', 'give']:.2f} ms, {ratio:,.0f} × as fast",
        f"Pipe {middle['processes', 'give']:.0f} ms",
        ratio > 1,
    )


def measure_lookups(args, results, tmp):
    rounds = [run_script(LOOKUPS, tmp, 0) for _ in range(1 if args.quick else 3)]
    names = ("frozen", "view", "manager", "ordinary")
    frozen, view, manager, ordinary = (
        results.number(f"shared.lookup_{name}", column, "µs", f"a lookup by key: {name}")
        for name, column in zip(names, zip(*rounds, strict=True), strict=True)
    )
    results.goal(
        "a lookup in a shared table of 100,000 entries",
        "faster than a Manager's dict",
        f"{frozen:.3f} µs, by a view {view:.3f}",
        f"Manager {manager:.1f} µs; an ordinary dict {ordinary:.3f}",
        frozen < manager,
    )


def run(args):
    results = common.Results()
    with tempfile.TemporaryDirectory() as folder:
        measure_memory(args, results, Path(folder))
        measure_lookups(args, results, Path(folder))
    return results


if __name__ == "__main__":
    common.main(run, __doc__)
