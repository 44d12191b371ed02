"""Executors under everything that can go wrong at once, for some time.

Run by test_executor_chaos.py in a process of its own:

    python -m chaos pools|memory SECONDS SEED

Tasks return, raise, hang, return what cannot cross, are cancelled at random; their
interpreters are interrupted and closed at random; pools come and go. Whatever
happens, each future must end exactly once, with a result that its task can have
had, and nothing may stay behind. `memory`: the tasks take all that there is.
"""

import asyncio
import collections
import ctypes
import faulthandler
import gc
import os
import random
import resource
import sys
import threading
import time
from concurrent import futures

import atoll
import failures

OUTSTANDING = 100
POOLS = 2
GRACE = 0.1
#: Longer than the grace; what is abandoned ends by itself soon.
LONG = 0.4

# ------------------------------------------------------------------- the tasks
# Each gets a number. What returns, returns what ANSWERS says.


def give(n):
    return n


def big(n):
    return bytes([n % 256]) * 1_000_000


def graph(n):
    node = {"n": n, "list": list(range(n % 100))}
    node["self"] = node
    return node


async def nap(n):
    await asyncio.sleep(n % 10 / 1000)
    return n


def threaded(n):
    answers = []
    thread = threading.Thread(target=lambda: answers.append(n))
    thread.start()
    thread.join()
    return answers[0]


def say(n):
    print("task", n)
    return n


def wrong(n):
    raise failures.Detailed(n, "chaos")


def grouped(n):
    try:
        raise KeyError(n)
    except KeyError as error:
        raise ExceptionGroup("chaos", [error, ValueError(n)]) from error


def leave(n):
    sys.exit(n)


def interrupted(n):
    raise KeyboardInterrupt


def closed_generator(n):
    raise GeneratorExit


def deep(n):
    return deep(n) + 1


def unshareable(n):
    return (i for i in range(n))


def raises_unshareable(n):
    raise ValueError((i for i in range(n)), threading.Lock())


def raises_on_arrival(n):
    return failures.RaisesOnArrival()


def sleep(n):
    time.sleep(LONG)
    return n


def lock(n):
    held = threading.Lock()
    held.acquire()
    held.acquire(timeout=LONG)
    return n


def spin(n):
    while True:
        pass


def spin_on(n):
    """Does not listen."""
    end = time.monotonic() + LONG
    while time.monotonic() < end:
        try:
            while time.monotonic() < end:
                pass
        except KeyboardInterrupt:
            pass
    return n


def blocked(n):
    atoll.create_queue().get()


async def sleep_on(n):
    await asyncio.sleep(1000)


def hoard(n, size=1 << 25):
    """Until there is no more: little of it is ever touched."""
    taken = []
    try:
        while True:
            taken.append(bytearray(size))
    except MemoryError:
        return len(taken) and n


def overflow(n):
    return bytearray(1 << 40)


# Hang unless somebody ends them.
ENDLESS = {spin, blocked, sleep_on}
RETURN = {give, big, nap, threaded, say, sleep, lock, spin_on, hoard, graph}
USUAL = [
    give, give, give, give, big, graph, nap, threaded, say, wrong, grouped, leave,
    interrupted, closed_generator, deep, unshareable, raises_unshareable,
    raises_on_arrival, sleep, lock, spin, spin_on, blocked, sleep_on,
]  # fmt: skip
HUNGRY = [give, give, big, wrong, hoard, hoard, overflow, deep]


# What the others raise; and what everyone may.
RAISE = {
    wrong: "Detailed",
    grouped: "ExceptionGroup",
    leave: "SystemExit",
    closed_generator: "GeneratorExit",
    deep: "RecursionError",
    unshareable: "NotShareableError",
    raises_unshareable: "RemoteError",
    raises_on_arrival: "LookupError",
    threaded: "RuntimeError",  # an interrupt in the middle of threading's own code
    overflow: "MemoryError",
}
ANYONE = {
    "KeyboardInterrupt", "TimeoutError", "BrokenInterpreterPool", "InterpreterNotFoundError",
}  # fmt: skip


def right(task, n, result):
    if task is big:
        return result == bytes([n % 256]) * 1_000_000
    if task is graph:
        return result["self"] is result and result["n"] == n
    if task is hoard:
        return result in (n, 0)
    return task in RETURN and result == n


# ------------------------------------------------------------------- the count


class Ledger:
    """All futures, and how often each has ended."""

    def __init__(self, new_ones):
        self.new_ones = new_ones
        self.lock = threading.Lock()
        self.pending = {}  # future -> (task, n)
        self.calls = collections.Counter()  # how each ended
        self.cancelled = set()  # cancel() has said that these are
        self.faults = []
        self.made = 0

    def add(self, future, task, n):
        with self.lock:
            self.made += 1
            self.pending[future] = (task, n)
        future.add_done_callback(self.ended)

    def ended(self, future):
        with self.lock:
            known = self.pending.pop(future, None)
        if known is None:
            self.faults.append(f"{future} has ended twice")
            return
        task, n = known
        how = "cancelled"
        if not future.cancelled():
            error = future.exception()
            how = "returned" if error is None else type(error).__name__
            if error is None:
                well = right(task, n, future.result())
            else:
                well = how in ANYONE or how == RAISE.get(task)
                # where there is no memory, there may be none for the answer either
                well = well or (not self.new_ones and isinstance(error, MemoryError))
            if not well:
                what = future.result() if error is None else error
                self.faults.append(f"{task.__name__}({n}): {how} {what!r:.200}")
        with self.lock:
            self.calls[how] += 1
            if future in self.cancelled:
                self.cancelled.remove(future)
                if how != "cancelled":
                    self.faults.append(f"{future}, of {task.__name__}: was cancelled")

    def some(self, rng):
        with self.lock:
            alive = list(self.pending)
        return rng.choice(alive) if alive else None

    def cancel(self, future):
        """What cancel() says must be so, also for one that is running."""
        if future.cancel():
            with self.lock:
                if future in self.pending:
                    self.cancelled.add(future)
                elif not future.cancelled():
                    self.faults.append(f"{future}: cancel() said True")


# -------------------------------------------------------------------- the rest


class Chaos:
    def __init__(self, rng, tasks):
        self.rng, self.tasks = rng, tasks
        # CPython cannot always make an interpreter when there is no memory.
        self.new_ones = tasks is USUAL
        self.ledger = Ledger(self.new_ones)
        self.pools = []
        self.done = collections.Counter()

    def make_pool(self):
        """Where memory is short, one that has got all its workers: what others have
        abandoned may hold so much that there is no room for these now."""
        if self.new_ones:
            return self.new_pool()
        made = []

        def warm():
            made[:] = [self.new_pool()]
            try:
                list(made[0].map(time.sleep, [0.1] * 6))
            except (futures.BrokenExecutor, atoll.InterpreterError, MemoryError):
                self.done["no room"] += 1
                made.pop().shutdown(wait=False, cancel_futures=True)
            return made

        until(warm, "abandoned tasks with all memory")
        return made[0]

    def new_pool(self):
        rng = self.rng
        # An interrupt in the middle of an import leaves half a package behind.
        options = {"grace": GRACE, "name": "chaos", "preload": ["chaos"]}
        if rng.random() < 0.5 and self.new_ones:
            options["max_tasks_per_child"] = rng.randrange(1, 20)
        if rng.random() < 0.3:
            options.update(initializer=give, initargs=(1,))
        return atoll.InterpreterPoolExecutor(rng.randrange(1, 4), **options)

    def submit(self):
        rng = self.rng
        task, n = rng.choice(self.tasks), rng.randrange(1000)
        pool = rng.choice(self.pools)
        way = rng.random()
        try:
            if way < 0.2 or task in ENDLESS:
                timeout = rng.choice([0.001, 0.05, 0.3])
                future = pool.submit_with(task, (n,), timeout=timeout)
            elif way < 0.23 and self.new_ones:
                future = atoll.spawn(task, n)
            elif way < 0.25:
                future = pool.submit(task, (i for i in range(n)))
                task = overflow  # never returns
            else:
                future = pool.submit(task, n)
        except atoll.NotShareableError:
            self.done["refused"] += 1
        except (futures.BrokenExecutor, atoll.InterpreterError, MemoryError) as error:
            self.done[type(error).__name__] += 1
            self.replace(pool)
        else:
            self.ledger.add(future, task, n)

    def cancel(self):
        future = self.ledger.some(self.rng)
        if future is not None:
            self.ledger.cancel(future)
            self.done["cancels"] += 1

    def others(self):
        main = atoll.get_main()
        return [interp for interp in atoll.list_all() if interp != main]

    def interrupt(self):
        self.disturb(lambda interp: interp.interrupt(), "interrupts", self.others())

    def close(self):
        """One that is idle: for once, everything is cancelled."""
        with self.ledger.lock:
            left = list(self.ledger.pending)
        for future in left:
            self.ledger.cancel(future)
        end = time.monotonic() + 3 * LONG
        while time.monotonic() < end:
            idle = [interp for interp in self.others() if not interp.is_running()]
            if idle:
                break
            time.sleep(0.005)
        self.disturb(lambda interp: interp.close(timeout=0.01), "closes", idle)

    def disturb(self, what, name, others):
        if others:
            try:
                what(self.rng.choice(others))
                self.done[name] += 1
            except (atoll.InterpreterError, TimeoutError):
                self.done[f"no {name}"] += 1

    def replace(self, pool=None):
        """Shut a pool down, and have another one."""
        pool = pool or self.rng.choice(self.pools)
        self.pools.remove(pool)
        stats = pool.stats()
        self.done["restarts"] += stats.restarts
        self.done["abandoned at the end"] += stats.abandoned
        wait = self.rng.random() < 0.3
        pool.shutdown(wait=wait, cancel_futures=wait or self.rng.random() < 0.7)
        self.pools.append(self.make_pool())
        self.done["pools"] += 1

    def mapped(self):
        """A map() that is given up in the middle."""
        pool = self.rng.choice(self.pools)
        try:
            results = pool.map(give, range(50), chunksize=self.rng.choice([1, 7]), timeout=0.5)
            for i in range(self.rng.randrange(50)):
                if next(results) != i:
                    self.ledger.faults.append("a wrong result of map()")
        except StopIteration:
            self.ledger.faults.append("map() ended too early")
        except Exception as error:
            self.done[f"map: {type(error).__name__}"] += 1
        except KeyboardInterrupt:  # raised in the worker
            self.done["map: KeyboardInterrupt"] += 1
        else:
            self.done["maps"] += 1

    def grouped(self):
        tasks = []
        try:
            with atoll.TaskGroup() as group:
                for _ in range(self.rng.randrange(3)):
                    task = self.rng.choice([give, wrong, graph])
                    tasks.append((group.spawn(task, 5), task))
        except (BaseExceptionGroup, atoll.InterpreterError):
            pass
        for task, function in tasks:
            self.ledger.add(task, function, 5)
        self.done["groups"] += 1

    def run(self, seconds, actions):
        self.pools = [self.make_pool() for _ in range(POOLS)]
        if not self.new_ones:
            limit_memory(1)
        names, weights = zip(*actions.items(), strict=True)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if len(self.ledger.pending) >= OUTSTANDING:
                time.sleep(0.001)
                getattr(self, self.rng.choice(["cancel", "interrupt"]))()
                continue
            getattr(self, self.rng.choices(names, weights)[0])()
        self.replace()
        self.finish()

    def finish(self):
        for pool in self.pools:
            pool.shutdown(wait=False)
        with self.ledger.lock:
            left = list(self.ledger.pending)
        for future in left:
            if self.rng.random() < 0.5 or self.ledger.pending.get(future, [0])[0] in ENDLESS:
                self.ledger.cancel(future)
        done, late = futures.wait(left, timeout=60)
        if late:
            what = [f"{self.ledger.pending.get(future)} {future}" for future in late]
            self.ledger.faults.append(f"{len(late)} futures have not ended: {what[:5]}")
        for pool in self.pools:
            pool.shutdown()
        self.pools = []
        # The callbacks of the last ones may still run.
        ledger = self.ledger
        until(lambda: ledger.calls.total() == ledger.made or late, "callbacks")
        faults = ledger.faults
        assert not faults, f"{len(faults)} faults: " + "\n".join(map(str, faults[:10]))


USUALLY = {
    "submit": 300, "cancel": 30, "interrupt": 10, "close": 2, "replace": 4, "mapped": 5,
    "grouped": 1,
}  # fmt: skip
HUNGRILY = {"submit": 100, "cancel": 5, "mapped": 5}


def until(condition, what):
    end = time.monotonic() + 30
    while not condition():
        if time.monotonic() > end:
            faulthandler.dump_traceback()
            there = [(interp, interp.is_running()) for interp in atoll.list_all()]
            raise AssertionError(f"still there: {what}; {there}, {thread_names()}")
        time.sleep(0.01)


def threads():
    return len(os.listdir("/proc/self/task"))


def thread_names():
    names = []
    for task in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{task}/comm") as file:
                names.append(file.read().strip())
        except OSError:  # it has just ended
            pass
    return names


def descriptors():
    """What is open, as words."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        try:
            found.append(f"{number} {os.readlink(f'/proc/self/fd/{number}')}")
        except OSError:  # that was for the list
            pass
    return found


def resident_kib():
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # or the free memory of old threads counts
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE") // 1024


def limit_memory(gigabytes):
    with open("/proc/self/statm") as file:
        size = int(file.read().split()[0]) * os.sysconf("SC_PAGESIZE")
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (size + (gigabytes << 30), hard))


def round_of(kind, seconds, seed):
    tasks, actions = (USUAL, USUALLY) if kind == "pools" else (HUNGRY, HUNGRILY)
    chaos = Chaos(random.Random(seed), tasks)
    chaos.run(seconds, actions)
    gc.collect()
    atoll.warm(0)  # the spares
    until(lambda: len(atoll.list_all()) == 1, "interpreters")
    return chaos


def main(kind, seconds, seed):
    seconds, seed = float(seconds), int(seed)
    faulthandler.dump_traceback_later(1.5 * seconds + 100, exit=True)
    # What comes with the first pool, and stays; and the threads for views and output.
    before_all = threads()
    with atoll.create() as interp:
        interp.call(len, memoryview(b"x"))
        interp.call(say, 0)
    round_of(kind, max(2, 0.1 * seconds), seed)
    time.sleep(1.5)  # threads that come and go
    before, fds = resident_kib(), descriptors()
    at_rest = threads()
    chaos = round_of(kind, seconds, seed + 1)
    until(lambda: threads() <= at_rest, f"threads: {at_rest} before, {threads()} now")
    after, last = resident_kib(), threads()
    left = descriptors()
    assert len(left) <= len(fds), (fds, left)
    print(f"threads: {before_all}, {at_rest}, {last}; KiB: {before}, {after}")
    print(chaos.ledger.made, chaos.done["pools"], after - before, last)
    print(dict(chaos.ledger.calls), dict(chaos.done))


if __name__ == "__main__":
    main(*sys.argv[1:])
