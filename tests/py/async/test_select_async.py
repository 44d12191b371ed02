"""atoll.select_async, under asyncio, uvloop and Trio."""

import asyncio
import gc
import random
import time

import anyio
import atoll
import loops
import pytest
import tasks
from support import SLACK, STRESS, Task
from test_async_libs import run  # noqa: F401

NOTHING = object()


def go(main):
    return asyncio.run(main())


def test_what_is_ready_does_not_yield(run, queue):  # noqa: F811
    async def main():
        recv, send = atoll.create_channel(1)
        assert await atoll.select_async(recv, (send, 5)) == (1, None)
        assert await atoll.select_async(queue, recv, timeout=3) == (1, 5)
        assert await atoll.select_async(queue, recv, default="no") == (None, "no")
        with pytest.raises(atoll.ChannelTimeout):
            await atoll.select_async(queue, recv, timeout=0)
        send.close()
        with pytest.raises(atoll.ChannelClosed) as caught:
            await atoll.select_async(queue, recv)
        assert caught.value.case == 1

    run(main)


def test_waits(run, queue):  # noqa: F811
    async def main():
        recv, send = atoll.create_channel()
        full = atoll.create_queue(1)
        full.put(0)
        got = []

        async def choose():
            got.append(await atoll.select_async(recv, queue, (full, 9), None))

        async def after(action):
            got.clear()
            async with anyio.create_task_group() as group:
                group.start_soon(choose)
                await anyio.sleep(0.02)
                assert not got
                thread = Task(action)
            thread.result()
            return got[0]

        assert await after(lambda: send.send("a")) == (0, "a")
        assert await after(lambda: queue.put("b")) == (1, "b")
        assert await after(lambda: full.get()) == (2, None)
        assert full.get_nowait() == 9
        future = atoll.spawn(tasks.square, 4)
        assert await atoll.select_async(recv, future) == (1, future)
        await anyio.sleep(0)
        with pytest.raises(atoll.QueueShutDown) as caught:
            thread = Task(lambda: (time.sleep(0.05), queue.shutdown()))
            await atoll.select_async(recv, queue)
        assert caught.value.case == 1
        thread.result()

    run(main)


def test_timeouts(run, queue):  # noqa: F811
    async def main():
        recv, send = atoll.create_channel()
        begin = time.monotonic()
        assert await atoll.select_async(recv, queue, timeout=0.05, default=1) == (None, 1)
        with pytest.raises(atoll.ChannelTimeout):
            await atoll.select_async(recv, (send, 1), timeout=0.05)
        assert 0.1 <= time.monotonic() - begin < 5
        queue.put(2)
        assert queue.get_nowait() == 2
        with pytest.raises(atoll.ChannelTimeout):
            await atoll.select_async(timeout=0.01)

    run(main)


def test_no_timeout_is_early(run):  # noqa: F811
    """uvloop's timers count from a time that it noted before the coroutine ran."""

    async def main():
        recv, _send = atoll.create_channel()
        for tenths in range(20):
            time.sleep(0.0001 * (tenths % 10))
            begin = time.monotonic()
            with pytest.raises(atoll.ChannelTimeout):
                await atoll.select_async(recv, timeout=0.003)
            assert time.monotonic() - begin >= 0.003

    run(main)


def test_cancelled(run, queue):  # noqa: F811
    async def main():
        recv, send = atoll.create_channel()
        moved = atoll.move(bytearray(b"abc"))
        with anyio.move_on_after(0.02) as scope:
            await atoll.select_async(recv, queue, (send, moved))
        assert scope.cancelled_caught
        queue.put(1)
        queue.put(2)
        assert [queue.get_nowait(), queue.get_nowait()] == [1, 2]
        with pytest.raises(atoll.ChannelTimeout):
            recv.recv(timeout=0.01)
        queue.put(moved)  # still ours
        assert queue.get_nowait() == b"abc"

    run(main)


def test_cancelled_when_it_had_arrived(queue):
    """It goes back to its place, in front of what came later."""

    async def main():
        other = atoll.create_queue()
        task = asyncio.ensure_future(atoll.select_async(other, queue))
        await asyncio.sleep(0.01)
        queue.put("first")
        queue.put("second")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert loops.rest_of(queue) == ["first", "second"]

    go(main)


def test_a_send_that_has_happened_is_not_cancelled():
    async def main():
        recv, send = atoll.create_channel()
        done = []

        async def choose():
            done.append(await atoll.select_async((send, 1), None))
            await asyncio.sleep(0)  # here it is cancelled
            done.append("never")

        task = asyncio.ensure_future(choose())
        await asyncio.sleep(0.01)
        assert recv.recv_nowait() == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert done == [(0, None)]

    go(main)


def test_nothing_is_left_behind(queue):
    """A loop that is closed with a select in it; objects of all cases go."""
    recv, send = atoll.create_channel()

    async def main():
        inner = atoll.create_channel()
        other = asyncio.ensure_future(atoll.select_async(queue, recv, (send, inner[1])))
        await asyncio.sleep(0.01)
        del other
        return inner[0]

    mine = go(main)
    gc.collect()
    with pytest.raises(atoll.ChannelClosed):
        mine.recv(timeout=SLACK)
    queue.put(1)
    assert queue.get_nowait() == 1


@pytest.mark.parametrize("capacity", [0, 2])
def test_cancellation_storm(capacity):
    """Selects that are cancelled at any moment: nothing is lost, nothing doubled."""
    total = 300 * STRESS

    async def main():
        pairs = [atoll.create_channel(capacity) for _ in range(3)]
        out = random.Random(capacity)
        got, numbers = [], iter(range(total))
        waiting = []  # numbers that were not sent

        async def party():
            while len(got) < total:
                number = waiting.pop() if waiting else next(numbers, None)
                cases = [recv for recv, _ in pairs]
                if number is not None:
                    cases += [(send, number) for _, send in pairs]
                done, seconds = [], out.random() / 50

                async def choose(cases=cases, done=done, timeout=seconds):
                    done.extend(await atoll.select_async(*cases, timeout=timeout, default=None))

                task = asyncio.ensure_future(choose())
                if out.random() < 0.5:
                    await asyncio.sleep(0)
                    task.cancel()
                await asyncio.wait([task])
                index, value = done or (None, None)
                if index is not None and index < 3:
                    got.append(value)
                if number is not None and (index is None or index < 3):
                    waiting.append(number)

        await asyncio.wait_for(asyncio.gather(*[party() for _ in range(5)]), 60)
        assert sorted(got) == list(range(total))

    go(main)


def test_thousands(queue):
    async def main():
        other = atoll.create_queue()
        waiting = [asyncio.ensure_future(atoll.select_async(other, queue)) for _ in range(2000)]
        await asyncio.sleep(0)
        for n in range(1000):
            queue.put(n)
            other.put(n)
        got = await asyncio.gather(*waiting)
        assert sorted(got) == sorted((i, n) for i in range(2) for n in range(1000))

    go(main)


ROUNDS = 200


def test_a_message_and_the_deadline_in_one_turn(run, queue):  # noqa: F811
    """One of the two, and the message is received or where it was."""

    async def main():
        answers = set()
        for i in range(ROUNDS):
            result = []

            async def choose(result=result):
                try:
                    result.append(await atoll.select_async(queue, timeout=0.001))
                except atoll.ChannelTimeout:
                    result.append("late")

            async with anyio.create_task_group() as group:
                group.start_soon(choose)
                await anyio.sleep(0)
                if i % 2:
                    queue.put(i)
                time.sleep(0.002)  # the loop is busy
                if not i % 2:
                    queue.put(i)
            (answer,) = result
            answers.add(answer if answer == "late" else "message")
            if answer == "late":
                assert queue.get_nowait() == i
            else:
                assert answer == (0, i)
            assert queue.empty()
        return answers

    assert run(main) <= {"late", "message"}


def test_a_lock_and_the_deadline_in_one_turn(run):  # noqa: F811
    async def main():
        lock = atoll.Lock()
        for _ in range(ROUNDS // 4):
            lock.acquire()
            result = []

            async def choose(result=result):
                result.append(await atoll.select_async(lock, timeout=0.001, default="late"))

            async with anyio.create_task_group() as group:
                group.start_soon(choose)
                await anyio.sleep(0)
                time.sleep(0.002)
                lock.release()
            assert lock.locked() == (result[0] == (0, lock)), result
            if lock.locked():
                lock.release()

    run(main)


@pytest.mark.parametrize("own", [0.001, 0.0011])
def test_two_deadlines_in_one_turn(run, queue, own):  # noqa: F811
    """The outer one cancels, or the inner one is late: nothing else."""

    async def main():
        for _ in range(ROUNDS // 4):
            reached = False
            with anyio.move_on_after(0.001) as scope:
                try:
                    await anyio.lowlevel.checkpoint()
                    await atoll.select_async(queue, timeout=own)
                except atoll.ChannelTimeout:
                    reached = True
                await anyio.lowlevel.checkpoint()
            assert reached or scope.cancelled_caught
            queue.put(1)
            assert await atoll.select_async(queue, timeout=1) == (0, 1)

    run(main)


def test_cancelled_as_the_deadline_comes(queue):
    """By asyncio's own hands, before and after the deadline is noticed."""

    async def main():
        loop = asyncio.get_running_loop()
        for i in range(ROUNDS):
            task = asyncio.create_task(atoll.select_async(queue, timeout=0.001, default=0))
            await asyncio.sleep(0)
            if i % 2:
                time.sleep(0.002)
                task.cancel()
            else:
                loop.call_later(0.001, task.cancel)
                time.sleep(0.002)
            try:
                assert await task == (None, 0)
            except asyncio.CancelledError:
                assert task.cancelled()
            assert asyncio.current_task().cancelling() == 0
            await asyncio.sleep(0)

    go(main)


def test_a_timeout_around_it_is_told_as_such(queue):
    async def main():
        for _ in range(ROUNDS // 4):
            with pytest.raises(TimeoutError) as caught:
                async with asyncio.timeout(0.001):
                    await atoll.select_async(queue, timeout=0.001)
            assert type(caught.value) in (TimeoutError, atoll.ChannelTimeout)

    go(main)


def test_a_retired_end(run, queue):  # noqa: F811
    async def main():
        recv, send = atoll.create_channel()
        recv.retire()
        queue.put(1)
        assert await atoll.select_async(queue, recv, priority=True) == (0, 1)
        with pytest.raises(atoll.ChannelClosed) as caught:
            await atoll.select_async(queue, recv, timeout=5)
        assert caught.value.case == 1
        assert send.is_closed

    run(main)
