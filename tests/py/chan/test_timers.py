"""after() and ticker(): channels that the clock sends into."""

import asyncio
import gc
import math
import sys
import time

import atoll
import pytest
import workers
from loops import run
from support import STRESS, check_python, parked, until


def timers():
    return atoll.stats()["timers"]


@pytest.fixture(autouse=True)
def nothing_left(request):
    """No test leaves a timer, or a channel of one."""
    gc.collect()
    before = atoll.stats()
    yield
    gc.collect()
    until(lambda: timers() == before["timers"])
    if "interp" in request.fixturenames:
        return  # it has channels of its own
    # The timer thread lets go of a channel a moment after it has closed it.
    until(lambda: atoll.stats()["channels"] <= before["channels"])


def test_after():
    begin = time.monotonic()
    recv = atoll.after(0.03)
    assert isinstance(recv, atoll.RecvChannel)
    assert recv.capacity == 1
    assert timers() == 1
    when = recv.recv()
    assert type(when) is float
    assert begin + 0.03 <= when <= time.monotonic()
    with pytest.raises(atoll.ChannelClosed):
        recv.recv()
    assert timers() == 0


def test_after_waits_for_its_receiver():
    recv = atoll.after(0)
    until(lambda: recv.is_closed)
    assert len(list(recv)) == 1
    assert list(recv) == []


@pytest.mark.parametrize("function", [atoll.after, atoll.ticker])
@pytest.mark.parametrize("bad", [-1, math.nan, -0.001, -math.inf])
def test_bad_times(function, bad):
    with pytest.raises(ValueError, match="seconds"):
        function(bad)


@pytest.mark.parametrize("function", [atoll.after, atoll.ticker])
@pytest.mark.parametrize("bad", [None, "1", [], 1j])
def test_times_are_numbers(function, bad):
    with pytest.raises(TypeError, match="seconds"):
        function(bad)


def test_a_ticker_has_a_period():
    with pytest.raises(ValueError, match="positive"):
        atoll.ticker(0)


def test_far_away():
    ends = [atoll.after(math.inf), atoll.after(1e300), atoll.ticker(math.inf), atoll.after(1e9)]
    assert timers() == 4
    for recv in ends:
        with pytest.raises(atoll.ChannelEmpty):
            recv.recv_nowait()
    del ends, recv
    assert timers() == 0


def test_ticker_does_not_drift():
    period = 0.005
    begin = time.monotonic()
    recv = atoll.ticker(period)
    made = time.monotonic()
    late = []
    for _ in range(60):
        when = next(recv)
        assert when >= begin + period
        late.append((when - begin) % period)
    recv.close()
    # A drift of even 50 us a tick would have moved the last ones by 3 ms.
    assert min(late[-20:]) < 0.001 + (made - begin)


def test_a_tick_that_nobody_takes_is_dropped():
    recv = atoll.ticker(0.005)
    time.sleep(0.06)
    now = time.monotonic()
    first = recv.recv()
    assert first < now - 0.03  # the oldest was kept
    recv.recv()  # this one may have been on its way already
    assert recv.recv() >= now  # and nothing between
    recv.close()


@pytest.mark.parametrize("function", [atoll.after, atoll.ticker])
def test_close_stops_it(function):
    recv = function(3600)
    assert timers() == 1
    recv.close()
    assert timers() == 0
    with pytest.raises(atoll.ChannelClosed):
        recv.recv()


@pytest.mark.parametrize("function", [atoll.after, atoll.ticker])
def test_other_ends_of_it(function):
    for stop in ("retire", "poison", "with"):
        recv = function(3600)
        if stop == "with":
            with recv:
                assert timers() == 1
        else:
            getattr(recv, stop)()
        assert timers() == 0
        with pytest.raises(atoll.ChannelError):
            recv.recv()
    recv = function(3600)
    del recv
    assert timers() == 0


def test_close_wakes_who_waits_for_it():
    recv = atoll.after(3600)
    waiter = parked(recv.recv)
    recv.close()
    with pytest.raises(atoll.ChannelClosed):
        waiter.result()


def test_not_listed_and_without_a_sender():
    """A sending end that came and went would close it."""
    recv = atoll.ticker(0.01)
    assert all(pair[0] is not recv for pair in atoll.list_channels())
    from atoll import _core

    with pytest.raises(atoll.ChannelNotFoundError):
        _core._find_send(recv.id, _core._process_token())
    recv.recv()
    recv.close()


def count_ticks(recv, count):
    return [recv.recv() for _ in range(count)]


def test_in_another_interpreter(interp):
    recv = atoll.ticker(0.005)
    ticks = interp.call(count_ticks, recv, 5)
    assert ticks == sorted(ticks)
    assert ticks[0] <= time.monotonic()
    recv.retire()
    assert timers() == 0  # the interpreter has let go of its end


def test_it_comes_back_from_another_interpreter(interp):
    recv = interp.call(workers.give, atoll.after(0.02))
    assert recv.recv() <= time.monotonic()
    interp.exec("import atoll; kept = atoll.ticker(3600)")
    assert timers() == 1
    interp.exec("del kept")
    assert timers() == 0


def test_an_interpreter_that_closes_stops_its_own():
    with atoll.create() as interp:
        interp.exec("import atoll; kept = [atoll.ticker(0.001), atoll.after(3600)]")
        assert timers() == 2
    until(lambda: timers() == 0)


def test_in_a_message():
    queue = atoll.create_queue()
    queue.put(atoll.ticker(3600))
    assert timers() == 1
    queue.shutdown(immediate=True)
    assert timers() == 0


def test_coroutines():
    async def main():
        begin = time.monotonic()
        assert await atoll.after(0.02).recv_async() >= begin + 0.02
        ticks = []
        async for when in atoll.ticker(0.005):
            ticks.append(when)
            if len(ticks) == 5:
                break
        assert ticks == sorted(ticks)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(atoll.after(3600).recv_async(), 0.01)

    run(main)


def test_many_come_and_go():
    """Neither memory nor timers stay, whether they fire or not."""
    for _ in range(20 * STRESS):
        ends = [atoll.after(n % 5 / 1000) for n in range(50)]
        ends += [atoll.ticker(0.001 + n % 5 / 1000) for n in range(50)]
        for recv in ends[::2]:
            recv.recv()
        for recv in ends[::3]:
            recv.close()
    del ends, recv
    gc.collect()
    until(lambda: timers() == 0)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_is_given_back():
    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4096

    def churn():
        for _ in range(20_000):
            atoll.after(3600).close()

    churn()
    before = resident()
    churn()
    assert resident() - before < 2_000_000  # of 20,000: less than 100 bytes each


def test_fork():
    check_python(
        """
        import os, warnings
        import atoll
        warnings.simplefilter("ignore")
        after, tick = atoll.after(0.05), atoll.ticker(0.01)
        tick.recv()
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                for recv in (after, tick):
                    try: recv.recv()
                    except atoll.ForkedError: pass
                recv.close()
                assert atoll.stats()["timers"] == 0
                del after, tick, recv
                assert atoll.after(0.01).recv() > 0
                tick = atoll.ticker(0.01)
                assert tick.recv() < tick.recv()
                code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert after.recv() > 0
        assert tick.recv() < tick.recv()
        """
    )


def test_process_exit_with_timers():
    check_python(
        """
        import atexit, threading
        import atoll
        kept = [atoll.ticker(0.001), atoll.after(3600)]
        threading.Thread(target=lambda: [kept[0].recv() for _ in range(10)]).start()
        interp = atoll.create()
        interp.exec("import atoll; kept = atoll.ticker(0.001)")

        @atexit.register
        def late():
            kept[0].recv()
        """
    )


def test_none_after_the_end():
    check_python(
        """
        import atexit

        @atexit.register
        def late():
            try:
                atoll.after(1)
            except RuntimeError as exc:
                assert "ending" in str(exc)
            else:
                raise AssertionError

        import atoll
        """
    )


def test_the_shortest_period():
    """What is shorter counts as 10 microseconds: no more ticks than that come."""
    ticks = atoll.ticker(1e-9)
    times = [ticks.recv() for _ in range(300)]
    ticks.close()
    assert times == sorted(times)
    assert times[-1] - times[0] > 299 * 10e-6 * 0.9
