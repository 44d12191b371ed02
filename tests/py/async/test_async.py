"""Coroutines that wait: queues and channels under asyncio."""

import asyncio
import random
import threading
import time

import atoll
import loops
import pytest
from atoll import _aio
from loops import rest_of, run, tasks_waiting
from support import (
    SLACK,
    STRESS,
    Task,
    count_fds,
    count_threads,
    until,
)

# ------------------------------------------------------------ one at a time


def test_what_is_ready_does_not_touch_the_loop():
    async def main():
        queue = atoll.create_queue(2)
        recv, send = atoll.create_channel(1)
        other = asyncio.ensure_future(asyncio.sleep(0))
        await asyncio.sleep(0)
        before = count_fds()
        await queue.put_async("a")
        assert await queue.get_async() == "a"
        await send.send_async("b")
        assert await recv.recv_async() == "b"
        assert not other.done()  # it never yielded
        assert not hasattr(asyncio.get_running_loop(), "_atoll_hub")
        assert count_fds() == before
        await other

    run(main)


def test_waits_for_an_item(queue):
    async def main():
        (task,) = await tasks_waiting(queue.get_async())
        assert not task.done()
        queue.put({"a": [1]})
        assert await task == {"a": [1]}
        thread = threading.Timer(0.05, queue.put, ["later"])
        thread.start()
        assert await queue.get_async() == "later"
        thread.join()

    run(main)


def test_waits_for_room():
    async def main():
        queue = atoll.create_queue(1)
        await queue.put_async(0)
        tasks = await tasks_waiting(*map(queue.put_async, range(1, 4)))
        for i in range(4):
            assert queue.get_nowait() == i
            await asyncio.sleep(0.01)
            assert [t.done() for t in tasks] == [k <= i for k in range(3)]

    run(main)


@pytest.mark.parametrize("first", ["recv", "send"])
def test_rendezvous(first):
    async def main():
        recv, send = atoll.create_channel()
        if first == "recv":
            (task,) = await tasks_waiting(recv.recv_async())
            await send.send_async(1)
            assert await task == 1
        else:
            (task,) = await tasks_waiting(send.send_async(1))
            assert not task.done()
            assert await recv.recv_async() == 1
            await task
        # The other side blocks, in a thread.
        thread = Task(send.send, 2)
        assert await recv.recv_async() == 2
        thread.result()
        thread = Task(recv.recv)
        await send.send_async(3)
        assert thread.result() == 3

    run(main)


def test_order_with_threads_that_block(queue):
    """One line, whoever stands in it."""

    async def main():
        got = []
        threads, tasks = [], []
        for i in range(6):
            if i % 2:
                tasks += await tasks_waiting(queue.get_async())
            else:
                parks = atoll.stats()["parks"]
                threads.append(Task(queue.get))
                until(lambda parks=parks: atoll.stats()["parks"] > parks)
        for i in range(6):
            queue.put(i)
        got = [*await asyncio.gather(*tasks), *(t.result() for t in threads)]
        assert got == [1, 3, 5, 0, 2, 4]

    run(main)


def test_iteration(queue):
    async def main():
        recv, send = atoll.create_channel(2)
        for kind, items in ((queue, queue), (send, recv)):
            put = kind.put if kind is queue else kind.send
            end = kind.shutdown if kind is queue else kind.close
            got = []

            async def collect(items=items, got=got):
                async for item in items:
                    got.append(item)

            (task,) = await tasks_waiting(collect())
            for i in range(3):
                put(i)
                await asyncio.sleep(0)
            end()
            await task
            assert got == [0, 1, 2]
            assert [x async for x in items] == []

    run(main)


def test_errors():
    async def main():
        queue = atoll.create_queue(1)
        recv, send = atoll.create_channel()
        with pytest.raises(atoll.NotShareableError):
            await queue.put_async(threading.Lock())
        assert queue.empty()
        with pytest.raises(TypeError):
            await queue.put_async()
        with pytest.raises(NotImplementedError):
            await queue.put_async(1, unbounditems="no")
        tasks = await tasks_waiting(queue.get_async(), recv.recv_async())
        queue.shutdown()
        send.close()
        with pytest.raises(atoll.QueueShutDown):
            await tasks[0]
        with pytest.raises(atoll.ChannelClosed):
            await tasks[1]
        for awaitable, error in (
            (queue.get_async(), atoll.QueueShutDown),
            (queue.put_async(1), atoll.QueueShutDown),
            (recv.recv_async(), atoll.ChannelClosed),
            (send.send_async(1), atoll.ChannelClosed),
        ):
            with pytest.raises(error):
                await awaitable
        full = atoll.create_queue(1)
        full.put(0)
        recv, send = atoll.create_channel()
        tasks = await tasks_waiting(full.put_async(1), send.send_async(1))
        full.shutdown()
        recv.close()
        with pytest.raises(atoll.QueueShutDown):
            await tasks[0]
        with pytest.raises(atoll.ChannelClosed):
            await tasks[1]
        assert full.get_nowait() == 0

    run(main)


def test_item_that_cannot_be_rebuilt(queue, interp):
    """The error of decoding comes to who awaits, and the item is gone."""
    interp.prepare_main(queue=queue)

    async def main():
        (task,) = await tasks_waiting(queue.get_async())
        interp.exec(
            "import failures\n"
            "queue.put(failures.of_a_module_whose_file_is_gone())"
        )
        with pytest.raises(FileNotFoundError):
            await task
        assert queue.empty()

    run(main)


def test_unbounditems(interp):
    async def main():
        queue = atoll.create_queue(1)
        interp.prepare_main(queue=queue)
        interp.exec(
            "import asyncio, atoll\n"
            "async def main():\n"
            "    await queue.put_async(1, unbounditems=atoll.UNBOUND)\n"
            "asyncio.run(main())"
        )
        interp.close()
        assert await queue.get_async() is atoll.UNBOUND

    run(main)


def test_outside_of_a_loop(queue):
    for method in (queue.get_async, _aio.hub):
        with pytest.raises(RuntimeError, match="no running event loop"):
            coroutine = method()
            coroutine.send(None)
    # What is ready needs none.
    queue.put(1)
    with pytest.raises(StopIteration) as info:
        queue.get_async().send(None)
    assert info.value.value == 1


def test_moved_memory_is_encoded_once():
    async def main():
        queue = atoll.create_queue(1)
        queue.put(0)
        data = bytearray(b"x" * 5000)
        (task,) = await tasks_waiting(queue.put_async(atoll.move(data)))
        assert queue.get_nowait() == 0
        await task
        assert await queue.get_async() == b"x" * 5000 and not data

    run(main)


# --------------------------------------------------------------- cancelling


def test_cancelled(queue):
    async def main():
        (task,) = await tasks_waiting(queue.get_async())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        queue.put(1)
        assert queue.qsize() == 1
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                queue.get_nowait()
                await queue.get_async()
        full = atoll.create_queue(1)
        full.put(0)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(full.put_async(1), 0.01)
        assert full.get_nowait() == 0 and full.empty()

    run(main)


@pytest.mark.parametrize("later", [False, True], ids=["at once", "after the loop"])
def test_cancelled_when_it_had_arrived(queue, later):
    """As if those who were cancelled had never stood in line."""

    async def main():
        tasks = await tasks_waiting(*(queue.get_async() for _ in range(8)))
        for i in range(8):
            queue.put(i)
        if later:  # the futures have their results, the coroutines do not know
            _aio.hub().cq.wait()
            for future in _aio.hub().cq.drain():
                future.set_result(None)
        for i in (0, 5, 3, 7):
            tasks[i].cancel()
        got = await asyncio.gather(*tasks, return_exceptions=True)
        kept = [x for x in got if isinstance(x, int)]
        assert kept == [0, 1, 2, 3]
        assert rest_of(queue) == [4, 5, 6, 7]

    run(main)


def test_all_cancelled_in_any_order(queue):
    async def main():
        for seed in range(20):
            dice = random.Random(seed)
            tasks = await tasks_waiting(*(queue.get_async() for _ in range(20)))
            for i in range(15):
                queue.put(i)
            dice.shuffle(tasks)
            for task in tasks:
                task.cancel()
                if dice.random() < 0.3:
                    await asyncio.sleep(0)
            got = await asyncio.gather(*tasks, return_exceptions=True)
            kept = sorted(x for x in got if isinstance(x, int))
            assert [*kept, *rest_of(queue)] == list(range(15))

    run(main)


def test_put_back_goes_to_who_waits(queue):
    async def main():
        (task,) = await tasks_waiting(queue.get_async())
        other = Task(queue.get)
        until(lambda: other.is_alive())
        await asyncio.sleep(0.05)
        queue.put("item")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert other.result() == "item"

    run(main)


def test_a_send_is_done_or_cancelled():
    """Never both: if it was accepted, the cancellation comes afterwards."""

    async def main():
        recv, send = atoll.create_channel()
        steps = []

        async def sender():
            await send.send_async(1)
            steps.append("sent")
            await asyncio.sleep(10)

        (task,) = await tasks_waiting(sender())
        assert recv.recv() == 1
        task.cancel("why")
        with pytest.raises(asyncio.CancelledError, match="why"):
            await task
        assert steps == ["sent"] and task.cancelling() == 1

        async def in_time():
            try:
                async with asyncio.timeout(0.02) as limit:
                    await send.send_async(2)
            finally:
                steps.append(limit.expired())

        (task,) = await tasks_waiting(in_time())
        assert recv.recv() == 2
        time.sleep(0.04)  # both are due when the loop looks again
        await task
        assert steps[1:] in ([True], [False])

    run(main)


@pytest.mark.parametrize("capacity", [0, 1, 7, None])
def test_cancellation_storm(capacity):
    """Gets and puts that are cancelled at any moment: nothing lost, nothing twice."""
    count = 1500 * STRESS
    queue = atoll.create_queue(capacity or 0)
    recv, send = (
        (queue, queue) if capacity is None else atoll.create_channel(capacity)
    )
    get = recv.get_async if recv is queue else recv.recv_async
    put = send.put_async if send is queue else send.send_async
    sent, received = set(), []
    blocking = []

    def block():
        try:
            while True:
                blocking.append(recv.get() if recv is queue else recv.recv())
        except (atoll.ChannelClosed, atoll.QueueShutDown):
            pass

    async def put_one(i):
        await put(i)
        sent.add(i)
        await asyncio.sleep(0)

    async def get_one():
        received.append(await get())
        await asyncio.sleep(0)

    async def main():
        dice = random.Random(capacity)
        pending = set()
        for i in range(count):
            pending.add(asyncio.ensure_future(put_one(i)))
            pending.add(asyncio.ensure_future(get_one()))
            if i % 3 == 0:
                await asyncio.sleep(dice.random() / 10000)
            for task in dice.sample(sorted(pending, key=id), min(len(pending), 2)):
                if dice.random() < 0.5:
                    task.cancel()
            pending = {t for t in pending if not t.done()}
        for task in pending:
            if dice.random() < 0.5:
                task.cancel()
        await asyncio.sleep(0.05)
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)

    thread = Task(block)
    run(main)
    until(lambda: len(received) + len(blocking) >= len(sent) or not len_of(recv))
    (recv.shutdown if recv is queue else send.close)()
    thread.result()
    assert sorted(received + blocking) == sorted(sent)
    assert len(sent) > count / 10


def len_of(end):
    return end.qsize() if isinstance(end, atoll.Queue) else 0


# --------------------------------------------------------------------- many


def test_thousands_wait(queue):
    """In order, with no thread, and one descriptor."""
    count = 5000

    async def main():
        await asyncio.sleep(0)
        threads, active, fds = count_threads(), threading.active_count(), count_fds()
        tasks = await tasks_waiting(*(queue.get_async() for _ in range(count)))
        assert count_threads() <= threads
        assert threading.active_count() == active
        assert count_fds() == fds + 1
        feeder = Task(lambda: [queue.put(i) for i in range(count)])
        assert await asyncio.gather(*tasks) == list(range(count))
        feeder.result()

    run(main)


def test_thousands_send():
    count = 3000

    async def main():
        queue = atoll.create_queue(1)
        tasks = await tasks_waiting(*map(queue.put_async, range(count)))
        reader = Task(lambda: [queue.get() for _ in range(count)])
        await asyncio.gather(*tasks)
        assert reader.result() == list(range(count))

    run(main)


def test_between_interpreters(interp):
    """A loop here, a loop there."""
    there, back = atoll.create_queue(4), atoll.create_queue(4)
    task = Task(interp.call, loops.echo, there, back)

    async def main():
        async def feed():
            for i in range(2000):
                await there.put_async(i)
            there.shutdown()

        feeder = asyncio.ensure_future(feed())
        assert [x async for x in back] == list(range(2000))
        await feeder

    run(main)
    assert task.result() == 2000


def test_loops_in_many_threads():
    queues = [atoll.create_queue() for _ in range(6)]

    def ring(i):
        async def main():
            for step in range(200):
                got = await queues[i].get_async()
                assert got == step
                await queues[(i + 1) % 6].put_async(step + (i == 5))

        asyncio.run(main())

    threads = [Task(ring, i) for i in range(6)]
    queues[0].put(0)
    for thread in threads:
        thread.result(30)


@pytest.mark.alone
def test_loop_stays_responsive(queue):
    """While thousands wait, the loop sleeps; what comes is there at once."""

    async def main():
        tasks = await tasks_waiting(*(queue.get_async() for _ in range(2000)))
        cpu = time.process_time()
        begin = time.monotonic()
        await asyncio.sleep(0.3)
        assert time.process_time() - cpu < 0.15
        assert time.monotonic() - begin < 0.3 + SLACK / 2
        delays = []
        for task in tasks[:20]:
            thread = threading.Timer(0.005, lambda: queue.put(time.monotonic()))
            thread.start()
            delays.append(await arrival(task))
            thread.join()
        assert sorted(delays)[len(delays) // 2] < 0.1
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def arrival(task):
        sent = await task
        return time.monotonic() - sent

    run(main)
