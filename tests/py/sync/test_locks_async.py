"""Locks, semaphores and events in coroutines, and in select()."""

import asyncio
import random
import time

import atoll
import loops
import pytest
import sharers
from loops import run, tasks_waiting
from support import Task, parked


def test_async_what_is_free_does_not_yield():
    async def main():
        lock, sem, event = atoll.Lock(), atoll.Semaphore(1), atoll.Event()
        event.set()
        assert await lock.acquire_async() is True
        assert await sem.acquire_async() is True
        assert await event.wait_async() is True
        assert not hasattr(asyncio.get_running_loop(), "_atoll_hub")

    run(main)


def test_async_waits(interp):
    async def main():
        lock, sem, event = sharers.locked_lock(), atoll.Semaphore(0), atoll.Event()
        tasks = await tasks_waiting(
            lock.acquire_async(), sem.acquire_async(), event.wait_async()
        )
        await asyncio.sleep(0.01)
        assert not any(task.done() for task in tasks)
        interp.call(lock.release)
        interp.call(sem.release)
        interp.call(event.set)
        assert await asyncio.gather(*tasks) == [True] * 3
        assert lock.locked()
        assert not sem.acquire(False)

    run(main)


def test_async_threads_and_coroutines_stand_in_one_line():
    async def main():
        lock, order = sharers.locked_lock(), []
        (first,) = await tasks_waiting(lock.acquire_async())
        thread = parked(lambda: lock.acquire() and order.append("thread"))
        (last,) = await tasks_waiting(lock.acquire_async())
        for step, done in enumerate((first, None, last)):
            lock.release()
            if done is None:
                thread.result()
            else:
                await done
                order.append(step)
        assert order == [0, "thread", 2]

    run(main)


@pytest.mark.parametrize("make", [sharers.locked_lock, lambda: atoll.Semaphore(0)])
def test_async_cancelled_loses_nothing(make):
    async def main():
        obj = make()
        a, b = await tasks_waiting(obj.acquire_async(), obj.acquire_async())
        a.cancel()
        obj.release()
        assert await b
        (c,) = await tasks_waiting(obj.acquire_async())
        obj.release()  # it has it, and does not know yet
        c.cancel()
        with pytest.raises(asyncio.CancelledError):
            await c
        assert obj.acquire(False)
        assert not obj.acquire(False)

    run(main)


def test_async_cancellation_storm():
    async def main():
        sem, rng = atoll.Semaphore(0), random.Random(3)
        taken = 0
        given = Task(lambda: [sem.release() or time.sleep(1e-5) for _ in range(500)])
        for _ in range(300):
            tasks = await tasks_waiting(*(sem.acquire_async() for _ in range(4)))
            await asyncio.sleep(rng.random() / 2000)
            for task in tasks:
                task.cancel()
            done = await asyncio.gather(*tasks, return_exceptions=True)
            taken += sum(result is True for result in done)
        given.result()
        while sem.acquire(False):
            taken += 1
        assert taken == 500

    run(main)


def test_async_owner_dies():
    async def main():
        lock = atoll.Lock()
        interp = atoll.create()
        interp.call(lock.acquire)
        a, b = await tasks_waiting(lock.acquire_async(), lock.acquire_async())
        interp.close()
        with pytest.raises(atoll.LockOwnerDied):
            await a
        assert await b

    run(main)


def test_async_news_that_nobody_takes_is_told_again():
    async def main():
        lock = atoll.Lock()
        interp = atoll.create()
        interp.call(lock.acquire)
        (task,) = await tasks_waiting(lock.acquire_async())
        interp.close()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(atoll.LockOwnerDied):
            lock.acquire()

    run(main)


def test_select():
    event, sem, lock = atoll.Event(), atoll.Semaphore(0), atoll.Lock()
    queue = atoll.create_queue()
    assert atoll.select(queue, event, sem, lock) == (3, lock)
    assert atoll.select(queue, event, sem, lock, default=0) == (None, 0)
    task = parked(atoll.select, queue, event, sem, lock)
    sem.release()
    assert task.result() == (2, sem)
    assert not sem.acquire(False)
    task = parked(atoll.select, queue, event, sem)
    event.set()
    assert task.result() == (1, event)
    with pytest.raises(TypeError, match="case 0"):
        atoll.select(atoll.RLock())
    with atoll.create() as interp:
        lock.release()
        interp.call(lock.acquire)
    with pytest.raises(atoll.LockOwnerDied) as info:
        atoll.select(sem, lock)
    assert info.value.case == 1


def test_select_async():
    async def main():
        sem, event, lock = atoll.Semaphore(0), atoll.Event(), sharers.locked_lock()
        (task,) = await tasks_waiting(atoll.select_async(sem, event, lock))
        lock.release()
        assert await task == (2, lock)
        (task,) = await tasks_waiting(atoll.select_async(sem, event, lock))
        sem.release()  # it has it, and does not know yet
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert sem.acquire(False)
        event.set()
        assert await atoll.select_async(sem, event) == (1, event)

    run(main)


def test_a_loop_that_ends_gives_back():
    lock = sharers.locked_lock()
    loop = asyncio.new_event_loop()
    task = loop.create_task(lock.acquire_async())
    loop.run_until_complete(asyncio.sleep(0.01))
    lock.release()  # to the coroutine
    assert lock.locked()
    loop.close()
    assert lock.acquire(False)
    loops.kept.append(task)


def test_an_interpreter_with_coroutines_that_wait_is_closed(queue):
    lock = sharers.locked_lock()
    with atoll.create() as interp:
        interp.prepare_main(lock=lock, queue=queue)
        interp.exec(
            "import asyncio\n"
            "loop = asyncio.new_event_loop()\n"
            "task = loop.create_task(lock.acquire_async())\n"
            "loop.run_until_complete(asyncio.sleep(0.01))\n"
        )
    lock.release()
    assert lock.acquire(False)


def test_trio():
    trio = pytest.importorskip("trio")

    async def main():
        lock, event = sharers.locked_lock(), atoll.Event()
        with trio.move_on_after(0.02):
            await lock.acquire_async()
            raise AssertionError("it was locked")
        lock.release()
        assert await lock.acquire_async()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(event.wait_async)
            await trio.sleep(0.01)
            event.set()

    trio.run(main)


# --------------------------------------------------------- recursive locks, of tasks


def test_rlock_is_the_tasks():
    async def main():
        lock, order = atoll.RLock(), []

        def helper():
            with lock:  # as a function that it calls would
                assert lock._is_owned()
                order.append("deeper")

        async def hold():
            assert await lock.acquire_async() is True
            assert await lock.acquire_async() is True
            order.append("held")
            await asyncio.sleep(0.01)
            helper()
            assert lock._recursion_count() == 2
            lock.release()
            await asyncio.sleep(0.01)
            order.append("last")
            lock.release()

        async def want():
            await asyncio.sleep(0)
            assert not lock.acquire(False)
            assert not lock._is_owned()
            with pytest.raises(RuntimeError):
                lock.release()
            await lock.acquire_async()
            order.append("other")
            lock.release()

        await asyncio.gather(hold(), want())
        assert order == ["held", "deeper", "last", "other"]
        assert not lock.locked()

    run(main)


def test_rlock_between_tasks_threads_and_interpreters(interp):
    async def main():
        lock = atoll.RLock()
        with lock:  # the thread has it, so that no task has
            (task,) = await tasks_waiting(lock.acquire_async())
            await asyncio.sleep(0.01)
            assert not task.done()
        await task
        assert not interp.call(lock.acquire, False)
        assert not Task(lock.acquire, False).result()
        with pytest.raises(RuntimeError):
            lock.release()  # the task that had it has ended, and it is nobody's else
        again = atoll.RLock()
        await again.acquire_async()
        thread = parked(again.acquire)
        again.release()
        assert thread.result() is True

    run(main)


def test_rlock_cancelled_while_it_waits():
    async def main():
        lock = atoll.RLock()
        for _ in range(200):
            await lock.acquire_async()
            tasks = await tasks_waiting(*(lock.acquire_async() for _ in range(3)))
            lock.release()
            for task in tasks[:2]:
                task.cancel()
            done = await asyncio.gather(*tasks[:2], return_exceptions=True)
            assert all(isinstance(d, asyncio.CancelledError) for d in done), done
            await tasks[2]
            assert lock.locked()
            lock = atoll.RLock()

    run(main)


def test_rlock_in_trio():
    trio = pytest.importorskip("trio")

    async def main():
        lock, order = atoll.RLock(), []

        async def use(name):
            await lock.acquire_async()
            with lock:
                order.append(name)
                await trio.sleep(0.01)
                order.append(name)
            lock.release()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(use, 1)
            nursery.start_soon(use, 2)
        assert order in ([1, 1, 2, 2], [2, 2, 1, 1])

    trio.run(main)


def test_rlock_needs_a_task():
    with pytest.raises(RuntimeError):
        atoll.RLock().acquire_async().send(None)
