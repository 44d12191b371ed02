"""What executor.py measures, in fresh processes: pools of all kinds, and their jobs.

    import pools; pools.main("latency", quick)

prints JSON. PYTHONPATH must lead here and to examples/: the interpreters of the
standard library inherit that, and not sys.path.
"""

import asyncio
import importlib.util
import json
import multiprocessing
import os
import sys
import time
from concurrent import futures
from functools import partial

import atoll
import peers
import stdlib_ast

clock = time.perf_counter


def processes(workers, method="forkserver"):
    """By default as on 3.14, and safe beside threads."""
    return futures.ProcessPoolExecutor(workers, multiprocessing.get_context(method))


WAYS = {
    "atoll": atoll.InterpreterPoolExecutor,
    "threads": futures.ThreadPoolExecutor,
    "processes": processes,
}
if hasattr(futures, "InterpreterPoolExecutor"):
    WAYS["stdlib"] = futures.InterpreterPoolExecutor


def all_pools(workers=2):
    """A pool of each kind whose workers all run."""
    pools = {way: make(workers) for way, make in WAYS.items()}
    for pool in pools.values():
        list(pool.map(time.sleep, [0.05] * 2 * workers))
    return pools


def in_turns(rounds, measure, pools):
    """measure(way, pool) for each pool, round by round: {way: [value, ...]}"""
    values = {way: [] for way in pools}
    for way, pool in pools.items():
        measure(way, pool)  # warm up
    for _ in range(rounds):
        for way, pool in pools.items():
            values[way].append(measure(way, pool))
    for pool in pools.values():
        pool.shutdown()
    return values


# ----------------------------------------------------------------- no-op tasks


def latency(quick):
    """µs from submit() to the result, nothing else under way."""
    rounds, count = (3, 20) if quick else (15, 1000)

    def measure(way, pool):
        times = count if way in ("atoll", "threads") else count // 5
        start = clock()
        for _ in range(times):
            pool.submit(peers.nothing).result()
        return (clock() - start) / times * 1e6

    return in_turns(rounds, measure, all_pools())


def follow(quick):
    """µs that a task needs more because surroundings follow it: to submit it when
    nothing has changed, and there and back when a variable of 50 in os.environ has."""
    rounds, count = (3, 50) if quick else (25, 2000)
    for n in range(50 - len(os.environ)):
        os.environ[f"ATOLL_BENCH_{n}"] = "x" * 30
    pools = [atoll.InterpreterPoolExecutor(1, follow=how) for how in (True, False)]

    def submit(pool):
        start = clock()
        futures = [pool.submit(peers.nothing) for _ in range(count)]
        took = clock() - start
        for future in futures:
            future.result()
        return took

    def change(pool):
        start = clock()
        for n in range(count // 10):
            os.environ["ATOLL_BENCH"] = str(n)
            pool.submit(peers.nothing).result()
        return (clock() - start) * 10

    values = {}
    for name, measure in (("unchanged", submit), ("changed", change)):
        for pool in pools:
            measure(pool)
        times = [[measure(pool) for pool in pools] for _ in range(rounds)]
        values[name] = [(ours - without) / count * 1e6 for ours, without in times]
    for pool in pools:
        pool.shutdown()
    return values


def rate(quick):
    """Tasks a second of one map()."""
    rounds, count = (2, 100) if quick else (5, 10_000)

    def measure(way, pool):
        start = clock()
        for i, (given,) in enumerate(pool.map(peers.nothing, range(count))):
            if given != i:
                raise RuntimeError("the wrong result")
        return count / (clock() - start)

    return in_turns(rounds, measure, all_pools())


def first(quick):
    """ms until a new pool has done its first task."""
    rounds = 2 if quick else 15

    def measure(make):
        start = clock()
        pool = make(2)
        pool.submit(peers.nothing).result()
        taken = (clock() - start) * 1e3
        pool.shutdown()
        return taken

    atoll.warm(0)  # no spare interpreters
    values = {way: [] for way in WAYS}
    for i in range(rounds + 1):
        for way, make in WAYS.items():
            value = measure(make)
            if i:  # the first has imports in it, and the start of the fork server
                values[way].append(value)
    values["warm"] = []
    for _ in range(rounds):
        atoll.warm(1)  # returns when it is there
        values["warm"].append(measure(WAYS["atoll"]))
    return values


# -------------------------------------------------------------------- asyncio


async def lateness(late):
    """Note how late, in ms, the loop wakes, a thousand times a second."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + 0.001
        await asyncio.sleep(0.001)
        late.append((loop.time() - due) * 1e3)


async def many(tasks, call):
    """Start so many asyncio tasks, each awaits call() once. How late is the loop?"""
    late, under_way, most = [], 0, 0

    async def client():
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await call()
        under_way -= 1

    start, clients = clock(), []
    for i in range(tasks):
        clients.append(asyncio.create_task(client()))
        if i % 20 == 19:  # or starting them would be what holds up the loop
            await asyncio.sleep(0)
    watch = asyncio.create_task(lateness(late))
    for started in clients:
        await started
    seconds = clock() - start
    watch.cancel()
    late.sort()
    return {"max": late[-1], "p99": late[len(late) * 99 // 100], "s": seconds, "most": most}


def loop(quick):
    """5,000 asyncio tasks and 4 workers: [what many() says, ...] for each way."""
    rounds, tasks = (1, 100) if quick else (3, 5000)
    size = 25_000  # some 1 ms
    pools = all_pools(4)
    pools["nice"] = atoll.InterpreterPoolExecutor(4, nice=19)
    list(pools["nice"].map(time.sleep, [0.05] * 8))
    values = {way: [] for way in [*pools, "await", "await nice", "idle"]}

    def in_executor(pool):
        return asyncio.get_running_loop().run_in_executor(pool, peers.spin, size)

    def awaited(way):
        return pools[way].submit(peers.spin, size)

    for _ in range(rounds):
        for way, pool in pools.items():
            values[way].append(asyncio.run(many(tasks, partial(in_executor, pool))))
        for key, way in (("await", "atoll"), ("await nice", "nice")):
            values[key].append(asyncio.run(many(tasks, partial(awaited, way))))
        values["idle"].append(asyncio.run(idle(0.1 if quick else 1)))
    for pool in pools.values():
        pool.shutdown()
    return values


async def idle(seconds):
    """The same with nothing to do: what the loop and the machine are worth."""
    late = []
    watch = asyncio.create_task(lateness(late))
    await asyncio.sleep(seconds)
    watch.cancel()
    late.sort()
    return {"max": late[-1], "p99": late[len(late) * 99 // 100]}


# ------------------------------------------------------------------ real jobs


def job(name, way, quick):
    """Seconds that the job takes with two workers, their start and end included."""
    if name == "ast":
        function = stdlib_ast.count
        batches = [stdlib_ast.batches(stdlib_ast.stdlib_files(60 if quick else None))]
    elif importlib.util.find_spec("numpy") is None:
        return None
    else:
        function = peers.monte_carlo
        batches = [range(4 if quick else 200)]
    start = clock()
    # The parent has no other thread yet, so its processes can be forked, which is
    # the fastest way to start them and takes the least memory.
    with processes(2, "fork") if way == "processes" else WAYS[way](2) as pool:
        results = list(pool.map(function, *batches))
    taken = clock() - start
    answer = stdlib_ast.Tally()
    if name == "ast":
        for tally in results:
            answer += tally
        answer = answer.digest()
    else:
        answer = sum(results) / len(results)
    return [taken, answer]


def main(measure, *args):
    print(json.dumps(globals()[measure](*args)))
    sys.stdout.flush()
