"""Coroutines that wait, under other event loops: uvloop, Trio, and AnyIO's two."""

import asyncio
import gc
import random
import threading
import time

import atoll
import pytest
import tasks
from atoll import _aio
from loops import rest_of
from support import Task, count_fds, count_threads, until

anyio = pytest.importorskip("anyio")
trio = pytest.importorskip("trio")

try:
    import uvloop
except ImportError:
    uvloop = None


def run_asyncio(main):
    return anyio.run(main, backend="asyncio")


def run_uvloop(main):
    if uvloop is None:
        pytest.skip("uvloop is not installed")
    options = {"loop_factory": uvloop.new_event_loop}
    return anyio.run(main, backend="asyncio", backend_options=options)


def run_trio(main):
    return anyio.run(main, backend="trio")


@pytest.fixture(params=[run_asyncio, run_uvloop, run_trio])
def run(request):
    """A function that runs a coroutine function in one of the loops."""
    yield request.param
    gc.collect()


def test_waits(run, queue):
    async def main():
        got = []

        async def get():
            got.append(await queue.get_async())

        async with anyio.create_task_group() as group:
            group.start_soon(get)
            await anyio.sleep(0.01)
            queue.put(1)
        thread = threading.Timer(0.03, queue.put, [2])
        thread.start()
        await get()
        thread.join()
        assert got == [1, 2]

    run(main)


def test_both_ways_and_iteration(run):
    async def main():
        recv, send = atoll.create_channel()
        queue = atoll.create_queue(1)

        async def relay():
            async for item in recv:
                await queue.put_async(item)
            queue.shutdown()

        async def feed():
            for i in range(300):
                await send.send_async(i)
            send.close()

        async with anyio.create_task_group() as group:
            group.start_soon(relay)
            group.start_soon(feed)
            assert [x async for x in queue] == list(range(300))
        with pytest.raises(atoll.QueueShutDown):
            await queue.get_async()
        with pytest.raises(atoll.ChannelClosed):
            await send.send_async(1)

    run(main)


def test_closed_while_waiting(run, queue):
    async def main():
        async def get():
            with pytest.raises(atoll.QueueShutDown):
                await queue.get_async()

        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(get)
            await anyio.sleep(0.01)
            queue.shutdown()

    run(main)


def test_thousands(run, queue):
    count = 3000

    async def main():
        await anyio.sleep(0)
        threads = count_threads()
        got = [None] * count

        async def get(i):
            got[i] = await queue.get_async()

        async with anyio.create_task_group() as group:
            for i in range(count):
                group.start_soon(get, i)
            await anyio.sleep(0.05)
            assert count_threads() <= threads
            feeder = Task(lambda: [queue.put(i) for i in range(count)])
        feeder.result()
        assert sorted(got) == list(range(count))

    run(main)


def test_cancelled(run, queue):
    async def main():
        full = atoll.create_queue(1)
        full.put(0)
        for end in (queue.get_async(), full.put_async(1)):
            with anyio.move_on_after(0.02) as scope:
                await end
            assert scope.cancelled_caught
        with pytest.raises(TimeoutError):
            with anyio.fail_after(0.01):
                await queue.get_async()
        queue.put(1)
        assert rest_of(queue) == [1] and rest_of(full) == [0]

    run(main)


def test_cancelled_when_it_had_arrived(run, queue):
    async def main():
        got = []

        async def get():
            got.append(await queue.get_async())

        for _ in range(20):
            async with anyio.create_task_group() as group:
                for _ in range(5):
                    group.start_soon(get)
                await anyio.sleep(0.001)
                for i in range(3):
                    queue.put(i)
                group.cancel_scope.cancel()
            assert [*got, *rest_of(queue)] == [0, 1, 2]
            got.clear()

    run(main)


@pytest.mark.parametrize("capacity", [0, 1, 5])
def test_cancellation_storm(run, capacity):
    """Nothing is lost, nothing comes twice, whatever is cancelled."""
    recv, send = atoll.create_channel(capacity)
    sent, received, blocking = set(), [], []

    def block():
        blocking.extend(recv)

    async def put(i, scope):
        with scope:
            await send.send_async(i)
            sent.add(i)

    async def get(scope):
        with scope:
            received.append(await recv.recv_async())

    async def main():
        dice = random.Random(capacity)
        async with anyio.create_task_group() as group:
            for i in range(600):
                scopes = [anyio.CancelScope(), anyio.CancelScope()]
                group.start_soon(put, i, scopes[0])
                group.start_soon(get, scopes[1])
                if i % 4 == 0:
                    await anyio.sleep(dice.random() / 5000)
                for scope in scopes:
                    if dice.random() < 0.5:
                        scope.cancel()
            await anyio.sleep(0.05)
            group.cancel_scope.cancel()

    thread = Task(block)
    run(main)
    until(lambda: len(received) + len(blocking) >= len(sent))
    send.close()
    thread.result()
    assert sorted(received + blocking) == sorted(sent)
    assert len(sent) > 50


def test_nothing_is_left(run, queue):
    async def main():
        with anyio.move_on_after(0.01):
            await queue.get_async()
        assert _aio.hub() is _aio.hub()

    run(main)
    run(main)
    gc.collect()
    fds, threads = count_fds(), count_threads()
    for _ in range(10):
        run(main)
    gc.collect()
    until(lambda: count_fds() == fds and count_threads() <= threads)


@pytest.mark.alone
def test_the_loop_sleeps(run, queue):
    async def main():
        async with anyio.create_task_group() as group:
            for _ in range(1000):
                group.start_soon(queue.get_async)
            await anyio.sleep(0.1)
            cpu = time.process_time()
            await anyio.sleep(0.3)
            assert time.process_time() - cpu < 0.15
            group.cancel_scope.cancel()

    run(main)


def test_event(run):
    """wait_event, with a receive in the place of an event."""

    async def main():
        queue = atoll.create_queue()
        async with anyio.create_task_group() as group:
            group.start_soon(_aio.wait_event, lambda cq, token: cq.recv(queue, token))
            await anyio.sleep(0.01)
            queue.put(1)
        # Nobody has taken the result.
        assert rest_of(queue) == [1]
        await _aio.wait_event(lambda cq, token: None)

    run(main)


def test_uvloop_closed_while_somebody_waits(queue):
    if uvloop is None:
        pytest.skip("uvloop is not installed")
    loop = uvloop.new_event_loop()
    fds = count_fds()
    task = loop.create_task(queue.get_async())
    loop.run_until_complete(asyncio.sleep(0.01))
    queue.put(1)
    loop.close()
    del task, loop
    gc.collect()
    queue.put(2)
    assert rest_of(queue) == [1, 2]
    assert count_fds() <= fds


def test_trio_run_ends_while_it_is_used(queue):
    """A system task of the run's is still there when the hub is closed."""

    async def main():
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(queue.get_async)
            await trio.sleep(0.01)
            for i in range(5):
                queue.put(i)
            raise KeyError

    for _ in range(3):
        with pytest.raises(BaseExceptionGroup):
            trio.run(main)
        assert rest_of(queue)[-1] == 4


def test_trio_in_asyncio(queue):
    """In guest mode both run in one thread: each has its hub."""

    async def in_trio():
        return await queue.get_async()

    async def main():
        loop = asyncio.get_running_loop()
        over = loop.create_future()
        trio.lowlevel.start_guest_run(
            in_trio,
            run_sync_soon_threadsafe=loop.call_soon_threadsafe,
            done_callback=over.set_result,
        )
        task = asyncio.ensure_future(queue.get_async())
        await asyncio.sleep(0.05)
        queue.put(1)
        queue.put(2)
        got = {await task, (await over).unwrap()}
        assert got == {1, 2}

    asyncio.run(main())


# ------------------------------------------------------------ executors and tasks


def test_tasks_are_awaited(run):
    async def main():
        got = {}

        async def one(pool, n):
            got[n] = await pool.submit(tasks.square, n)

        with atoll.InterpreterPoolExecutor(2) as pool:
            async with anyio.create_task_group() as group:
                for n in range(200):
                    group.start_soon(one, pool, n)
            with pytest.raises(ValueError, match="no"):
                await pool.submit(tasks.fail)
        assert got == {n: n * n for n in range(200)}
        assert await atoll.spawn(tasks.square, 3) == 9

    run(main)


def test_cancelling_a_scope_cancels_the_task(run):
    async def main():
        ready = atoll.create_queue()
        with atoll.InterpreterPoolExecutor(1, grace=None) as pool:
            future = pool.submit(tasks.spin, ready)
            await ready.get_async()
            with anyio.move_on_after(0.02) as scope:
                await future
            assert scope.cancelled_caught
            assert future.cancelled()
            assert await pool.submit(tasks.square, 2) == 4

    run(main)


def test_a_task_group(run):
    async def main():
        ready = atoll.create_queue()
        async with atoll.TaskGroup() as group:
            task = group.spawn(tasks.square, 3)
        assert task.result() == 9
        with pytest.raises(ExceptionGroup):
            async with atoll.TaskGroup() as group:
                busy = group.spawn(tasks.spin, ready)
                await ready.get_async()
                group.spawn(tasks.fail)
        assert busy.cancelled() and not busy.is_alive()
        with anyio.move_on_after(0.05) as scope:
            async with atoll.TaskGroup() as group:
                busy = group.spawn(tasks.spin)
        assert scope.cancelled_caught
        assert busy.cancelled() and not busy.is_alive()

    run(main)
