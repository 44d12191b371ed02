"""Queue.task_done and join: what queue.Queue has, between interpreters."""

import asyncio
import queue as stdlib
import threading
import time

import atoll
import pytest
import tasks
from support import Task, check_python, parked, until


@pytest.fixture(params=[atoll.create_queue, stdlib.Queue], ids=["atoll", "queue"])
def make(request):
    """What is said of both."""
    return request.param


def test_counts(make):
    q = make()
    q.join()
    with pytest.raises(ValueError, match="too many times"):
        q.task_done()
    for i in range(3):
        q.put(i)
    for _ in range(3):
        q.get()
        q.task_done()
    q.join()
    with pytest.raises(ValueError, match="too many times"):
        q.task_done()


def test_join_waits_for_the_last(make):
    q = make()
    for i in range(50):
        q.put(i)
    done = []

    def work():
        while (item := q.get()) is not None:
            time.sleep(0.001)
            done.append(item)
            q.task_done()
        q.task_done()

    workers = [Task(work) for _ in range(4)]
    q.join()
    assert sorted(done) == list(range(50))
    for _ in workers:
        q.put(None)
    q.join()
    for worker in workers:
        worker.result()


def test_bounded_queues_and_those_who_wait_to_put(make):
    q = make(1)
    q.put(0)
    task = Task(lambda: [q.put(i) for i in (1, 2)])
    for _ in range(3):
        q.get()
    task.result()
    for _ in range(3):
        q.task_done()
    q.join()


def test_shutdown(make):
    q = make()
    for i in range(3):
        q.put(i)
    q.get()
    q.shutdown()
    join = Task(q.join)
    q.get()
    q.task_done()
    time.sleep(0.01)
    assert join.is_alive()  # one was got and is not done, one is in the queue
    q.task_done()
    q.shutdown(immediate=True)
    join.result()


def test_between_interpreters(interp):
    q = atoll.create_queue()
    for i in range(20):
        q.put(i)
    future = interp.submit(tasks.drain_and_be_done, q)
    q.join()
    q.put(20)
    q.shutdown()
    assert future.result(10) == list(range(21))
    interp.call(q.join)
    q.join()


def test_several_wait():
    q = atoll.create_queue()
    q.put(1)
    joins = [parked(q.join) for _ in range(3)]
    q.put(2)
    q.task_done()
    assert all(join.is_alive() for join in joins)
    q.task_done()
    q.put(3)  # that it is so again does not matter to them
    for join in joins:
        join.result()
    q.get(), q.get(), q.get()
    q.task_done()


def test_orphans_that_are_removed_are_done():
    q = atoll.create_queue()
    with atoll.create() as other:
        other.call(q.put, 1, unbounditems=atoll.UNBOUND_REMOVE)
        join = parked(q.join)
    join.result()


def test_an_item_that_goes_back_is_not_done():
    check_python("""
        import atoll
        from slowpoke import Slow, interrupted
        q = atoll.create_queue()
        q.put(Slow(1))
        interrupted(q.get)
        q.get()
        q.task_done()
        q.join()
        try:
            q.task_done()
        except ValueError:
            pass
        else:
            raise AssertionError
    """)


def test_ctrl_c_in_join():
    check_python("""
        import atoll, os, signal, threading, time
        from support import Task, until
        q = atoll.create_queue()
        q.put(1)
        Task(lambda: (until(lambda: f"join of queue {q.id}" in atoll.dump()),
                      os.kill(os.getpid(), signal.SIGINT)))
        try:
            q.join()
        except KeyboardInterrupt:
            pass
        else:
            raise AssertionError
        q.task_done()
        q.join()
    """)


def test_nobody_is_left():
    check_python("""
        import atoll
        atoll.detect_deadlocks()
        q = atoll.create_queue()
        q.put(1)
        try:
            q.join()
        except atoll.DeadlockError as exc:
            assert "join of queue" in str(exc)
        else:
            raise AssertionError
    """)


def test_no_cpu_while_it_waits():
    q = atoll.create_queue()
    q.put(1)
    join = parked(q.join)
    before = time.process_time()
    time.sleep(0.2)
    assert time.process_time() - before < 0.05
    q.task_done()
    join.result()


def test_join_async():
    async def main():
        q = atoll.create_queue()
        await q.join_async()
        q.put(1)
        join, other = (asyncio.create_task(q.join_async()) for _ in range(2))
        await asyncio.sleep(0.01)
        assert not join.done()
        other.cancel()
        await asyncio.sleep(0)
        thread = threading.Thread(target=q.task_done)
        thread.start()
        await join
        thread.join()
        with pytest.raises(asyncio.CancelledError):
            await other

    asyncio.run(main())


def test_race_of_the_last():
    """Whoever is the last wakes whoever waits, always."""
    q = atoll.create_queue()
    for _ in range(200):
        for i in range(4):
            q.put(i)
        join = Task(q.join)
        workers = [Task(lambda: (q.get(), q.task_done())) for _ in range(4)]
        for worker in workers:
            worker.result()
        join.result()
    until(q.empty)
