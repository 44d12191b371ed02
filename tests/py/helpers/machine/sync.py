"""Locks and what is like them: one at a time, nobody forgotten, nothing left held."""

import asyncio

import atoll

from . import parties
from .base import LIMIT, VENUES, attempt, name_of, need, rule

LOCKS = ("Lock", "Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition")


class Mutex:
    """Something to exclude others with, and a number that it protects."""

    def __init__(self, kind):
        self.kind = kind
        self.lock = getattr(atoll, kind)()
        self.memory = atoll.Buffer(8)
        self.acts = []
        self.main = 0  # rounds of main's own
        self.died = False  # an interpreter has ended that may have had it
        self.holders = []


class Sync:
    """The steps with locks, events, barriers, counters."""

    def mutex(self, n):
        if not self.mutexes:
            return self.new_mutex("Lock")
        return self.mutexes[n % len(self.mutexes)]

    def new_mutex(self, kind):
        mutex = Mutex(kind)
        self.mutexes.append(mutex)
        return mutex

    @rule(2, kind=LOCKS)
    def create_lock(self, kind):
        self.new_mutex(kind)

    @rule(6, venue=VENUES, where=3, lock=3, rounds=(1, 20, 300))
    def guard(self, venue, where, lock, rounds):
        mutex = self.mutex(lock)
        act = self.act(venue, where, "guard", (mutex.lock, mutex.memory, rounds))
        mutex.acts.append(act)

    @rule(2, lock=3, timeout=(0, 0.001, 0.01))
    def take(self, lock, timeout):
        mutex = self.mutex(lock)
        got, error = attempt(mutex.lock.acquire, timeout=timeout)
        if got:
            try:
                view = memoryview(mutex.memory).cast("q")
                value = view[0]
                mutex.main += 1
                view[0] = value + 1
            finally:
                mutex.lock.release()
        else:
            need(error is None or (error == "LockOwnerDied" and mutex.died), mutex.lock,
                 "acquire raised", error)  # fmt: skip
            need(mutex.acts or mutex.holders or error, mutex.lock,
                 "is held, and nobody has had it")  # fmt: skip

    @rule(2, venue=VENUES, where=3, lock=3)
    def hold(self, venue, where, lock):
        """Somebody keeps it until the end of the program."""
        mutex = self.mutex(lock)
        held = atoll.Event()
        act = self.act(venue, where, "hold", (mutex.lock, held, self.over))
        mutex.holders.append(act)
        if mutex.died:
            act.errors.add("LockOwnerDied")

    @rule(1, venue=VENUES[1:3], where=3, lock=3)
    def die_holding(self, venue, where, lock):
        """An interpreter ends that has it. The next taker is told."""
        mutex = self.mutex(lock)
        permit = mutex.kind.endswith("Semaphore")
        if len(self.places) >= 8 or (permit and (mutex.acts or mutex.holders)):
            return  # a permit ends with its interpreter: others would wait for ever
        place = self.new_place()
        self.places.remove(place)
        for act in mutex.holders:
            act.errors.add("LockOwnerDied")
        got, error = attempt(place.thing.call, parties.acquire, mutex.lock)
        need(error is None or (error == "LockOwnerDied" and mutex.died), mutex.lock,
             "acquire in an interpreter raised", error)  # fmt: skip
        mutex.died = True
        place.thing.close()
        if got and not mutex.acts and not mutex.holders and not permit:
            _, error = attempt(mutex.lock.acquire, timeout=0)
            need(error == "LockOwnerDied", mutex.lock, "whose owner has died, gave", error)
        elif got and permit:
            self.mutexes.remove(mutex)
            self.spent.append(mutex)

    @rule(3, venue=VENUES, where=3, value=3, count=3, rounds=(3, 50))
    def permits(self, venue, where, value, count, rounds):
        semaphore, inside = atoll.Semaphore(value + 1), atoll.Counter()
        args = semaphore, inside, value + 1, rounds
        acts = [
            self.act(venue if n else "thread", where, "permits", args)
            for n in range(count + 1)
        ]
        for act in acts:
            act.beside = acts
        self.semaphores.append((semaphore, inside, value + 1, acts))

    @rule(2, venue=("thread", "spawn"), parties=3, rounds=(1, 5), broken=(False, False, True))
    def barrier(self, venue, parties, rounds, broken):
        barrier = atoll.Barrier(parties + 1)
        acts = [self.act(venue, 0, "meet", (barrier, rounds)) for _ in range(parties + 1)]
        if broken:
            barrier.abort()
            for act in acts:
                act.errors.add("BrokenBarrierError")
        self.barriers.append((barrier, rounds, acts, broken))

    @rule(3, venue=VENUES, where=3, timeout=(None, 0.001, 5.0), set=(False, True))
    def listen(self, venue, where, timeout, set):
        if not self.events or self.events[-1].is_set():
            self.events.append(atoll.Event())
        event = self.events[-1]
        act = self.act(venue, where, "listen", (event, timeout))
        act.listens = event, timeout
        if set:
            event.set()
            need(event.wait(0) is True, event, "is set, and wait says no")

    @rule(2, venue=VENUES, other=VENUES, where=3, count=(1, 10, 40))
    def tokens(self, venue, other, where, count):
        """A condition, and those who wait for what others bring."""
        condition, tokens = atoll.Condition(), atoll.Counter()
        givers = [self.act(venue, where, "give_tokens", (condition, tokens, count))]
        takers = [
            self.act(other, where + 1, "take_tokens", (condition, tokens, self.over, count))
            for _ in range(2)
        ]
        self.conditions.append((condition, tokens, givers, takers))

    @rule(2, venue=VENUES, where=3, rounds=(10, 200))
    def count(self, venue, where, rounds):
        act = self.act(venue, where, "count_up", (self.counter, rounds))
        self.counting.append(act)

    @rule(2, lock=3, count=3, seconds=(0, 0.002))
    def await_lock(self, lock, count, seconds):
        """Coroutines that want it are cancelled; those that have it let go of it."""
        mutex = self.mutex(lock)
        if mutex.kind not in ("Lock", "Semaphore", "BoundedSemaphore"):
            return

        async def one():
            await mutex.lock.acquire_async()
            mutex.lock.release()

        async def main():
            jobs = [asyncio.create_task(one()) for _ in range(count + 1)]
            await asyncio.wait(jobs, timeout=seconds)
            for job in jobs:
                job.cancel()
            return await asyncio.gather(*jobs, return_exceptions=True)

        errors = {name_of(exc) for exc in asyncio.run(main()) if exc} - {"CancelledError"}
        need(errors <= ({"LockOwnerDied"} if mutex.died else set()), mutex.lock,
             "raised", errors)  # fmt: skip

    @rule(1, n=9)
    def cell(self, n):
        value = self.cell_value
        got = self.cells.swap({"n": n})
        need(got == value, "a cell had", got, "instead of", value)
        self.cell_value = {"n": n}
        need(self.cells.load() == {"n": n}, "a cell lost", n)

    def end_sync(self):
        """Whoever waits for something of these is let go. Then over is set."""
        for event in self.events:
            event.set()
        for barrier, _, acts, _ in self.barriers:
            if any(act.interrupted for act in acts):  # the others would wait for ever
                barrier.abort()
                for act in acts:
                    act.errors.add("BrokenBarrierError")
        for condition, *_ in self.conditions:
            self.wake(condition)

    def wake(self, condition):
        with condition:
            condition.notify_all()

    def balance_sync(self):
        for mutex in self.mutexes:
            self.balance_mutex(mutex)
        for semaphore, inside, value, acts in self.semaphores:
            if any(act.errors or act.log is None or act.log["error"] for act in acts):
                continue
            need(inside.value == 0, semaphore, "has", inside.value, "inside")
            got = [semaphore.acquire(timeout=0) for _ in range(value + 1)]
            need(got == [True] * value + [False], semaphore, "gave", got)
        for barrier, rounds, acts, broken in self.barriers:
            if not broken and not any(act.interrupted for act in acts):
                numbers = [act.log["numbers"] for act in acts]
                want = list(range(len(acts)))
                for n in range(rounds):
                    round = sorted(one[n] for one in numbers)
                    need(round == want, barrier, "gave", round, "in round", n)
        for condition, tokens, givers, takers in self.conditions:
            acts = givers + takers
            if any(act.interrupted or act.log is None for act in acts):
                continue
            given = sum(act.log.get("given", 0) for act in givers)
            taken = sum(act.log.get("taken", 0) for act in takers)
            need(given - taken == tokens.value, condition, "had", given, "gave", taken, "has",
                 tokens.value)  # fmt: skip
            need(condition.acquire(timeout=LIMIT / 2), condition, "is still held")
            condition.release()
        known = [act.log for act in self.counting if act.log and act.log.get("counted")]
        least = sum(log["counted"] for log in known)
        if all(act.log and not act.log["error"] for act in self.counting if act.began):
            need(self.counter.value == least, "counted", least, "has", self.counter.value)
        need(self.counter.value >= least, "counted", least, "has", self.counter.value)
        for act in self.acts:
            if act.name == "listen" and act.log and act.log["error"] is None:
                _, timeout = act.listens
                need(act.log["value"] or timeout is not None, act, "was not told")

    def balance_mutex(self, mutex):
        # An interrupt as it ends leaves a log that does not say how often.
        known = [act.log for act in mutex.acts if act.log and "done" in act.log]
        least = mutex.main + sum(log["done"] for log in known)
        unsure = sum(log["error"] is not None for log in known)
        value = memoryview(mutex.memory).cast("q")[0]
        all_known = len(known) == sum(act.began for act in mutex.acts)
        most = least + unsure if all_known else value
        need(least <= value <= most, mutex.lock, "was had", least, "times, and not", value)
        told = sum(log["died"] for log in known)
        need(mutex.died or not told, mutex.lock, "told somebody that its owner has died")
        got, error = attempt(mutex.lock.acquire, timeout=LIMIT / 2)
        if error == "LockOwnerDied" and mutex.died:
            got, error = attempt(mutex.lock.acquire, timeout=LIMIT / 2)
        need(got, mutex.lock, "is held by nobody, and cannot be had:", got, error)
        mutex.lock.release()
