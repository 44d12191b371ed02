"""Executors, tasks, and what is made of them: every future ends, once."""

import asyncio
import time
from concurrent import futures

import atoll

from . import parties
from .base import alarmed, attempt, name_of, need, rule
from .interps import WORKS


class Tasks:
    """The steps with executors and tasks."""

    @rule(2, workers=(1, 1, 2, 3), most=(None, None, 1, 3), preload=((), (), ("json",)),
          initializer=(False, True))  # fmt: skip
    def create_pool(self, workers, most, preload, initializer):
        if len(self.pools) < 4:
            more = {"initializer": parties.setup, "initargs": (7,)} if initializer else {}
            self.new_pool(workers, max_tasks_per_child=most, preload=preload, **more)

    @rule(1)
    def broken_pool(self):
        """One whose initializer fails: every future says so."""
        pool = atoll.InterpreterPoolExecutor(1, initializer=parties.fails)
        future, error = attempt(pool.submit, parties.double, 1)
        if error is None:
            error = name_of(future.exception(30))
        need(error == "BrokenInterpreterPool", "a broken pool gave", error)
        pool.shutdown()

    @rule(4, act=20)
    def cancel(self, act):
        there = [one for one in self.acts if one.future is not None]
        if not there:
            return
        act = there[act % len(there)]
        self.disturb([act], "CancelledError")
        cancelled = act.future.cancel()
        need(not cancelled or act.future.cancelled(), act, "was cancelled, and is not")
        need(cancelled or act.future.done(), act, "could not be cancelled, and is not done")

    @rule(2, act=20, delay=(0.0005, 0.005))
    def result_alarmed(self, act, delay):
        """A signal ends main's wait for a result, and nothing else."""
        there = [one for one in self.acts if one.future is not None]
        if not there:
            return
        act = there[act % len(there)]
        value, error = alarmed(delay, act.future.result)
        if error is None:
            need(act.future.done(), act, "has a result, and is not done")
        else:
            need(error == "Ticked" or act.future.done(), act, "raised", error)

    @rule(2, pool=3, count=(1, 7, 30), chunksize=(1, 4), buffersize=(None, None, 2))
    def map(self, pool, count, chunksize, buffersize):
        """Beside others: results in order. Not behind what never ends."""
        pool = self.pool_at(pool)
        if any(act.name in parties.PARTIES or act.name in parties.ENDLESS
               for act in pool.acts if not act.over()):  # fmt: skip
            return
        results = pool.thing.map(parties.double, range(count), chunksize=chunksize,
                                 buffersize=buffersize)  # fmt: skip
        got = list(results)
        need(got == [2 * n for n in range(count)], pool.thing, "mapped to", got)

    @rule(1, pool=3, wait=(False, False, True), cancel=(False, True))
    def shutdown(self, pool, wait, cancel):
        if not self.pools:
            return
        pool = self.pools[pool % len(self.pools)]
        if cancel:
            self.disturb(pool.acts, "CancelledError")
        if any(not act.over() for act in pool.acts):
            wait = False
        pool.open = False
        pool.thing.shutdown(wait, cancel_futures=cancel)
        _, error = attempt(pool.thing.submit, parties.double, 1)
        need(error == "RuntimeError", pool.thing, "is shut down; submit raised", error)

    @rule(2, pool=3)
    def stop(self, pool):
        """Everything is cancelled; what obeys is over when it returns."""
        if not self.pools:
            return
        pool = self.pools[pool % len(self.pools)]
        pool.open = False
        self.disturb(pool.acts, "CancelledError")
        begin = time.monotonic()
        pool.thing.stop()
        need(time.monotonic() - begin < 20, pool.thing, "took its time to stop")
        for act in pool.acts:
            need(act.future.done(), act, "is not done, and its pool is stopped")

    @rule(1, pool=3)
    def stats(self, pool):
        if not self.pools:
            return
        pool = self.pools[pool % len(self.pools)]
        stats = pool.thing.stats()
        need(len(stats.workers) == pool.workers, pool.thing, "has", stats)
        need(stats.queued >= 0 and stats.abandoned >= 0, pool.thing, "has", stats)
        repr(pool.thing)

    @rule(2, count=3, fails=(False, False, True))
    def group(self, count, fails):
        """A TaskGroup: all of them have ended when it is left."""
        tasks, error = [], None
        try:
            with atoll.TaskGroup() as group:
                for n in range(count + 1):
                    tasks.append(group.spawn(parties.double, n))
                if fails:
                    tasks.append(group.spawn(parties.refuse, 3))
        except BaseExceptionGroup as exc:
            error = [name_of(one) for one in exc.exceptions]
        except RuntimeError:  # it was being cancelled when the next was to begin
            need(fails, "a TaskGroup refused a task")
        need(all(task.done() and not task.is_alive() for task in tasks), "a task goes on")
        need(error == (["LookupError"] if fails else None), "a TaskGroup raised", error)

    @rule(1, count=(0, 3, 20), workers=(1, 2), fails=(False, False, True))
    def pipeline(self, count, workers, fails):
        stage = parties.refuse if fails else parties.double
        error, got = None, []
        try:
            with atoll.pipeline(range(count), (stage, workers), parties.double) as results:
                got += results
        except LookupError:
            error = "LookupError"
        if fails and count > 3:
            need(error == "LookupError", "a pipeline ended with", error)
        else:
            need(error is None, "a pipeline raised", error)
            want = [2 * n if fails else 4 * n for n in range(count)]
            need(got == want, "a pipeline made", got)

    @rule(2, work=WORKS, seconds=(0.001, 0.02, 30))
    def await_task(self, work, seconds):
        """A coroutine waits for a task, and is cancelled or gets its result."""
        if work in parties.ENDLESS and seconds == 30:
            seconds = 0.001
        n = len(self.acts)

        async def main():
            async with asyncio.timeout(seconds):
                return await atoll.spawn(parties.WORKS[work], n, self.over)

        try:
            value, error = asyncio.run(main()), None
        except BaseException as exc:
            value, error = None, name_of(exc)
        if error is None:
            need(value == parties.answer(work, n), work, "returned", value)
        else:
            need(error in ("TimeoutError", parties.RAISES.get(work)), work, "raised", error)

    @rule(1, pool=3, count=(1, 5))
    def callbacks(self, pool, count):
        """Each is called once, and a wait sees all."""
        pool, called = self.pool_at(pool), atoll.Counter()
        if any(not act.over() for act in pool.acts):
            return
        done = [pool.thing.submit(parties.double, n) for n in range(count)]
        for future in done:
            future.add_done_callback(lambda future: called.add())
        futures.wait(done, 30)
        ended = sorted(future.result(30) for future in futures.as_completed(done, 30))
        need(ended == [2 * n for n in range(count)], "as_completed gave", ended)
        self.called.append((called, count))

    def end_pools(self):
        for pool in self.pools:
            pool.thing.shutdown()
            pool.open = False
        for called, count in self.called:
            need(called.value == count, "callbacks:", count, "and called:", called.value)
