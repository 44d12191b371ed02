"""Tasks and event loops: awaited, cancelled, many at once; callbacks and waiters."""

import asyncio
import concurrent.futures
import gc
import importlib
import sys
import threading
import time
import weakref

import atoll
import pytest
import tasks
from support import SLACK, count_fds, count_threads, open_interpreters, until


@pytest.fixture
def pool():
    with atoll.InterpreterPoolExecutor(2, grace=0.5) as pool:
        yield pool


# ------------------------------------------------- waiters of concurrent.futures


def test_wait_and_as_completed(pool):
    go = atoll.create_queue()
    slow = pool.submit(tasks.wait_for, go)
    quick = [pool.submit(tasks.square, n) for n in range(20)]
    both = [slow, *quick]
    done, left = concurrent.futures.wait(both, timeout=SLACK, return_when="FIRST_COMPLETED")
    assert done and slow in left
    assert {f.result() for f in concurrent.futures.as_completed(quick, SLACK)} == {
        n * n for n in range(20)
    }
    done, left = concurrent.futures.wait([slow], timeout=0.05)
    assert not done and left == {slow}
    go.put(1)
    done, left = concurrent.futures.wait([slow, *quick], timeout=SLACK)
    assert len(done) == 21 and not left
    failing = pool.submit(tasks.fail)
    done, _ = concurrent.futures.wait([failing, pool.submit(tasks.wait_for, go)], SLACK,
                                      return_when="FIRST_EXCEPTION")
    assert failing in done
    go.put(2)


def test_a_wait_sees_what_result_has_seen(pool):
    for n in range(200):
        future = pool.submit(tasks.square, n)
        if n % 2:
            _ = future._condition
        future.result()
        assert concurrent.futures.wait([future], timeout=0).done == {future}


def test_the_state_does_not_change_in_the_hands_of_a_waiter(pool):
    for n in range(300):
        futures = [pool.submit(tasks.square, n) for n in range(3)]
        _ = [f._condition for f in futures]
        done, left = concurrent.futures.wait(futures, SLACK)
        assert len(done) == 3 and not left, n


def test_callbacks(pool):
    order, here = [], threading.get_ident()
    go = atoll.create_queue()
    future = pool.submit(tasks.wait_for, go)
    future.add_done_callback(lambda f: order.append(("a", f.result(), threading.get_ident())))
    future.add_done_callback(lambda f: 1 / 0)  # logged
    future.add_done_callback(lambda f: order.append(("b", f.result(), threading.get_ident())))
    go.put(5)
    until(lambda: len(order) == 2)
    assert [entry[:2] for entry in order] == [("a", 5), ("b", 5)]
    assert all(entry[2] != here for entry in order)
    future.add_done_callback(lambda f: order.append(threading.get_ident()))
    assert order[2] == here


def test_callbacks_are_called_once():
    counts = {}
    lock = threading.Lock()

    def count(future):
        with lock:
            counts[id(future)] = counts.get(id(future), 0) + 1

    with atoll.InterpreterPoolExecutor(2, grace=None) as pool:
        futures = []
        for n in range(500):
            future = pool.submit(tasks.square, n)
            future.add_done_callback(count)
            if n % 3 == 0:
                future.cancel()
            if n % 5 == 0:
                future.add_done_callback(count)
            futures.append(future)
        concurrent.futures.wait(futures, SLACK)
        until(lambda: sum(counts.values()) == 600)
    assert all(counts[id(f)] == 1 + (n % 5 == 0) for n, f in enumerate(futures))


def test_a_callback_may_use_the_pool(pool):
    results = []

    def again(future):
        n = future.result()
        results.append(n)
        if n < 1000:
            pool.submit(tasks.add, n, b=100).add_done_callback(again)

    pool.submit(tasks.add, 0).add_done_callback(again)
    until(lambda: results and results[-1] >= 1000)
    assert results == list(range(0, 1001, 100))


def test_cancelling_calls_back_at_once(pool):
    go = atoll.create_queue()
    blockers = [pool.submit(tasks.wait_for, go) for _ in range(2)]
    queued = pool.submit(tasks.square, 1)
    called = []
    queued.add_done_callback(called.append)
    waiter = threading.Thread(target=concurrent.futures.wait, args=([queued],))
    waiter.start()
    assert queued.cancel()
    assert called == [queued]
    waiter.join(SLACK)
    assert not waiter.is_alive()
    for _ in blockers:
        go.put(None)


def test_watched_futures_are_freed(pool):
    future = pool.submit(tasks.square, 1)
    future.add_done_callback(lambda f: None)
    future.result()
    gone = weakref.ref(future)
    del future
    until(lambda: gc.collect() is not None and gone() is None)


def test_the_dispatcher_goes_away(pool):
    future = pool.submit(tasks.square, 1)
    future.add_done_callback(lambda f: None)
    until(lambda: "atoll-dispatcher" not in [t.name for t in threading.enumerate()])


def test_callbacks_of_the_last_task_run_before_the_exit():
    from support import run_python

    done = run_python("""
        import atoll, tasks, time
        pool = atoll.InterpreterPoolExecutor(1)
        pool.submit(time.sleep, 0.2).add_done_callback(lambda f: print("called"))
    """)
    assert (done.returncode, done.stdout, done.stderr) == (0, "called\n", "")


# ----------------------------------------------------------------------- asyncio


def test_await(pool):
    async def main():
        assert await pool.submit(tasks.square, 3) == 9
        with pytest.raises(ValueError, match="no"):
            await pool.submit(tasks.fail)
        done = pool.submit(tasks.square, 4)
        done.result()
        assert await done == 16
        assert await asyncio.wrap_future(pool.submit(tasks.square, 5)) == 25
        loop = asyncio.get_running_loop()
        assert await loop.run_in_executor(pool, tasks.square, 6) == 36
        assert await atoll.spawn(tasks.square, 7) == 49
        some = [_outcome(pool.submit(tasks.square, n)) for n in range(9)]
        assert await asyncio.gather(*some) == [n * n for n in range(9)]

    asyncio.run(main())


@pytest.mark.parametrize("how", ["await", "wrap", "run_in_executor"])
def test_thousands_in_flight(how):
    async def main():
        loop = asyncio.get_running_loop()
        late = 0.0
        ended = False

        async def heartbeat():
            nonlocal late
            while not ended:
                begin = time.perf_counter()
                await asyncio.sleep(0.001)
                late = max(late, time.perf_counter() - begin - 0.001)

        async def one(n):
            if how == "await":
                return await pool.submit(tasks.square, n)
            if how == "wrap":
                return await asyncio.wrap_future(pool.submit(tasks.square, n))
            return await loop.run_in_executor(pool, tasks.square, n)

        beat = loop.create_task(heartbeat())
        threads = count_threads()
        waiting = [loop.create_task(one(n)) for n in range(5000)]
        results = await asyncio.gather(*waiting)
        assert results == [n * n for n in range(5000)]
        assert count_threads() <= threads + 6  # four workers, their timers, a dispatcher
        ended = True
        await beat
        return late

    with atoll.InterpreterPoolExecutor(4) as pool:
        asyncio.run(main())


def test_cancelling_the_coroutine_cancels_the_task(pool):
    async def main():
        ready = atoll.create_queue()
        future = pool.submit(tasks.spin, ready)
        waiter = asyncio.ensure_future(_outcome(future))
        await asyncio.wait_for(ready.get_async(), SLACK)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
        assert future.cancelled()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await pool.submit(tasks.spin)
        other = loop_future = asyncio.wrap_future(pool.submit(tasks.spin, ready))
        await asyncio.wait_for(ready.get_async(), SLACK)
        loop_future.cancel()
        with pytest.raises(asyncio.CancelledError):
            await other
        assert await pool.submit(tasks.square, 2) == 4

    asyncio.run(main())


async def _outcome(future):
    return await future


def test_awaiting_what_somebody_else_cancels(pool):
    async def main():
        ready = atoll.create_queue()
        future = pool.submit(tasks.spin, ready)
        await ready.get_async()
        threading.Timer(0.05, future.cancel).start()
        with pytest.raises(concurrent.futures.CancelledError):
            await future

    asyncio.run(main())


def import_half_of_asyncio():
    """As an interrupt in the middle leaves it: the submodules stay, the package goes."""
    importlib.import_module("asyncio")
    del sys.modules["asyncio"]
    try:
        importlib.import_module("asyncio")
    except NameError:
        return True


def test_an_import_of_asyncio_that_was_interrupted():
    async def number():
        return 7

    with atoll.InterpreterPoolExecutor(1) as pool:
        assert pool.submit(import_half_of_asyncio).result()
        assert pool.submit(number).result() == 7
        assert pool.submit(number).result() == 7


def test_many_awaiters_of_one_future(pool):
    async def main():
        go = atoll.create_queue()
        future = pool.submit(tasks.wait_for, go)
        waiters = [asyncio.ensure_future(_outcome(future)) for _ in range(20)]
        await asyncio.sleep(0.01)
        go.put("x")
        assert await asyncio.gather(*waiters) == ["x"] * 20

    asyncio.run(main())


def test_a_task_group_in_a_coroutine():
    async def main():
        out = atoll.create_queue()
        async with atoll.TaskGroup() as group:
            first = group.spawn(tasks.square, 3)
            group.spawn(tasks.append, out, 1)
            assert await first == 9
        assert out.qsize() == 1
        ready = atoll.create_queue()
        with pytest.raises(ExceptionGroup):
            async with atoll.TaskGroup() as group:
                busy = group.spawn(tasks.spin, ready)
                await ready.get_async()
                group.spawn(tasks.fail)
        assert busy.cancelled() and not busy.is_alive()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                async with atoll.TaskGroup() as group:
                    busy = group.spawn(tasks.spin, ready)
                    await ready.get_async()
        assert busy.cancelled() and not busy.is_alive()

    asyncio.run(main())
    until(lambda: not open_interpreters())


def test_a_group_that_is_cancelled_twice_still_waits():
    async def main():
        ready = atoll.create_queue()
        seen = []

        async def body():
            async with atoll.TaskGroup() as group:
                seen.append(group.start(atoll.Task(tasks.sleep, (ready, 0.3), grace=5)))
                await ready.get_async()
                seen.append("in")

        waiter = asyncio.ensure_future(body())
        await until_async(lambda: seen[-1:] == ["in"])
        for _ in range(3):
            waiter.cancel()
            await asyncio.sleep(0.01)
        with pytest.raises(asyncio.CancelledError):
            await waiter
        assert seen[0].cancelled() and not seen[0].is_alive()

    asyncio.run(main())


async def until_async(condition):
    end = time.monotonic() + SLACK
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.001)


def test_loops_leave_nothing_behind(pool):
    async def main():
        await pool.submit(tasks.square, 3)
        slow = pool.submit(tasks.coroutine, 1, seconds=0.01)
        assert await slow == 1

    asyncio.run(main())
    fds, threads = count_fds(), count_threads()
    for _ in range(20):
        asyncio.run(main())
    gc.collect()
    until(lambda: count_fds() <= fds and count_threads() <= threads)


def test_a_loop_in_a_worker_awaits_other_tasks():
    async def outer():
        with atoll.InterpreterPoolExecutor(1) as inner:
            return await inner.submit(tasks.square, 5)

    with atoll.InterpreterPoolExecutor(1) as pool:
        assert pool.submit(outer).result(SLACK) == 25


# -------------------------------------------- what a coroutine leaves in its worker


async def leaves(how, said):
    """Returns how many tasks there are; what it leaves says "on" for ever."""
    loop = asyncio.get_running_loop()

    async def background():
        try:
            while True:
                await asyncio.sleep(0.001)
                said.put("on")
        finally:
            said.put("off")

    async def generate():
        try:
            while True:
                yield
        finally:
            await asyncio.sleep(0)
            said.put("off")

    def again():
        said.put("on")
        if how == "timers":
            loop.call_later(0.001, again)
        else:
            loop.call_soon(again)

    if how == "tasks":
        tasks.kept = asyncio.create_task(background())
    elif how == "generators":
        tasks.kept = generate()
        await anext(tasks.kept)
    else:
        again()
    await asyncio.sleep(0.01)
    return len(asyncio.all_tasks())


@pytest.mark.parametrize("how", ["tasks", "generators", "timers", "callbacks"])
def test_what_a_coroutine_leaves_ends_with_it(how):
    said = atoll.create_queue()
    with atoll.InterpreterPoolExecutor(1) as pool:
        for _ in range(5):
            assert pool.submit(leaves, how, said).result(SLACK) == 1 + (how == "tasks")
            before = [said.get() for _ in range(said.qsize())]
            if how in ("tasks", "generators"):
                assert before[-1:] == ["off"]
            assert pool.submit(asyncio.sleep, 0.02).result(SLACK) is None
            assert said.empty()


def test_an_error_while_it_is_ended_is_told(caplog):
    async def leave():
        async def fails():
            try:
                await asyncio.sleep(100)
            finally:
                raise ValueError("while it ended")

        tasks.kept = asyncio.create_task(fails())
        await asyncio.sleep(0)
        return 5

    with atoll.InterpreterPoolExecutor(1) as pool:
        assert pool.submit(leave).result(SLACK) == 5
    assert "what a task has left" in caplog.text
    assert "while it ended" in caplog.text


def test_what_does_not_let_itself_be_ended_goes_with_the_loop():
    async def leave(ready):
        async def stubborn():
            while True:
                try:
                    await asyncio.sleep(100)
                except asyncio.CancelledError:
                    ready.put(1)

        tasks.kept = asyncio.create_task(stubborn())
        await asyncio.sleep(0)

    ready = atoll.create_queue()
    with atoll.InterpreterPoolExecutor(1, grace=5) as pool:
        future = pool.submit(leave, ready)
        ready.get(timeout=SLACK)
        future.cancel()
        assert pool.submit(tasks.coroutine, 1).result(SLACK) == 1
        assert pool.stats().abandoned == 0


async def begin(said):
    """An initializer."""

    async def heartbeat():
        while True:
            said.put("beat")
            await asyncio.sleep(0.001)

    tasks.kept = asyncio.create_task(heartbeat())
    tasks.loop = asyncio.get_running_loop()
    await asyncio.sleep(0)


async def beats(said):
    assert asyncio.get_running_loop() is tasks.loop  # it is kept
    while not said.empty():
        said.get()
    await said.get_async()
    return tasks.kept.done()


def test_what_the_initializer_has_begun_goes_on():
    said = atoll.create_queue()
    with atoll.InterpreterPoolExecutor(1, initializer=begin, initargs=(said,)) as pool:
        for n in range(5):
            assert pool.submit(beats, said).result(SLACK) is False
            if n == 2:
                with pytest.raises(ValueError):
                    pool.submit(tasks.fail).result(SLACK)
