"""Pipelines, broadcasts, fan-in."""

import gc
import itertools
import threading
import time

import atoll
import flowing
import pytest
from support import SLACK, check_python, count_threads, open_interpreters, run_python, until


@pytest.fixture(autouse=True)
def nothing_is_left():
    before, threads = open_interpreters(), count_threads()
    yield
    gc.collect()
    until(lambda: open_interpreters() <= before)
    until(lambda: count_threads() <= threads + 1)  # the timers' may linger


# ---------------------------------------------------------------- pipelines


def test_stages():
    with atoll.pipeline(range(100), flowing.double, flowing.add_one) as results:
        assert list(results) == [2 * n + 1 for n in range(100)]
    assert list(atoll.pipeline([], flowing.double)) == []


@pytest.mark.parametrize("capacity", [0, 1, None])
def test_order_is_kept(capacity):
    source = range(60)
    stages = ((flowing.uneven, 3), (flowing.double, 2))
    with atoll.pipeline(source, *stages, capacity=capacity) as results:
        assert list(results) == [2 * n for n in source]


def test_order_is_not_kept():
    with atoll.pipeline(range(60), (flowing.uneven, 3), ordered=False) as results:
        got = list(results)
    assert sorted(got) == list(range(60))
    assert got != sorted(got)  # 0 takes 20 ms


def test_workers_are_interpreters():
    many = range(300)  # 0.1 s of work, so that the third has begun before it is done
    with atoll.pipeline(many, (flowing.where, 3)) as results:
        got = list(results)
    assert [x for x, _ in got] == list(many)
    ids = {id for _, id in got}
    assert len(ids) == 3
    assert atoll.get_current().id not in ids


def test_functions_of_any_kind():
    factor = 3
    with atoll.pipeline("ab", str.upper, lambda s: s * factor) as results:
        assert list(results) == ["AAA", "BBB"]


def test_sources():
    recv, send = atoll.create_channel(5)
    for n in range(5):
        send.send(n)
    send.close()
    assert list(atoll.pipeline(recv, flowing.double)) == [0, 2, 4, 6, 8]
    queue = atoll.create_queue()
    for n in range(3):
        queue.put(n)
    queue.shutdown()
    assert list(atoll.pipeline(queue, flowing.double)) == [0, 2, 4]


def test_back_pressure():
    """The source is read no further ahead than there is room."""
    taken = []

    def source():
        for n in itertools.count():
            taken.append(n)
            yield n

    with atoll.pipeline(source(), flowing.double, (flowing.add_one, 2), capacity=2) as results:
        assert [next(results) for _ in range(5)] == [1, 3, 5, 7, 9]
        time.sleep(0.2)
        # three channels with 2 each, 3 workers, one in the feeder's hand, 5 done
        assert len(taken) <= 3 * 2 + 3 + 2 + 5
        seen = len(taken)
        time.sleep(0.1)
        assert len(taken) == seen


def test_what_is_early_does_not_pile_up():
    """One item is slow; the others wait for it, but not all of them."""
    taken = []

    def source():
        for n in itertools.count():
            taken.append(n)
            yield (0.3 if n == 0 else 0.0)

    with atoll.pipeline(source(), (time.sleep, 2), capacity=2) as results:
        assert next(results) is None
        assert len(taken) <= 2 + 2 + 2 + 2 + 1


def test_a_stage_that_fails():
    with pytest.raises(ValueError, match="it is five"):
        list(atoll.pipeline(range(100), flowing.fail_at, (flowing.double, 2)))
    with pytest.raises(ValueError, match="it is five"):
        list(atoll.pipeline(itertools.count(), flowing.add_one, (flowing.fail_at, 2)))


def test_a_source_that_fails():
    error = OSError("the disk")

    def source():
        yield 1
        raise error

    with pytest.raises(OSError, match="the disk") as caught:
        list(atoll.pipeline(source(), flowing.double))
    assert caught.value is error


def test_what_cannot_cross():
    with pytest.raises(atoll.NotShareableError):
        atoll.pipeline([1], threading.Lock().__enter__)
    with pytest.raises(atoll.NotShareableError):
        list(atoll.pipeline([threading.Lock()], flowing.double))
    with pytest.raises(atoll.NotShareableError):
        list(atoll.pipeline([1], lambda _: threading.Lock()))


def test_wrong_arguments():
    for stages in ((), (3,), ((flowing.double, "2"),), ((3, 2),)):
        with pytest.raises(TypeError):
            atoll.pipeline([], *stages)
    with pytest.raises(ValueError, match="worker"):
        atoll.pipeline([], (flowing.double, 0))
    with pytest.raises(ValueError, match="capacity"):
        atoll.pipeline([], flowing.double, capacity=-1)
    with pytest.raises(TypeError):
        atoll.pipeline(3, flowing.double)


def test_left_early():
    begin = time.monotonic()
    with atoll.pipeline(itertools.count(), (flowing.sleepy, 2)) as results:
        assert next(results) == 0
    assert time.monotonic() - begin < SLACK
    assert next(results, "over") == "over"
    with (
        pytest.raises(KeyError),
        atoll.pipeline(itertools.count(), flowing.spin) as results,
    ):
        raise KeyError


def test_dropped():
    """Nobody wants the results any more: all of it goes (see the fixture)."""
    results = atoll.pipeline(itertools.count(), flowing.double)
    assert next(results) == 0
    results.close()
    results.close()
    assert next(atoll.pipeline(itertools.count(), (flowing.double, 2))) == 0
    assert next(atoll.pipeline(itertools.count(), flowing.sleepy, ordered=False)) == 0


def test_a_worker_that_is_stopped():
    results = atoll.pipeline(itertools.count(), flowing.sleepy)
    assert next(results) == 0
    for task in results._network.tasks:
        task.cancel()
    with pytest.raises(BaseException) as caught:
        list(results)
    assert type(caught.value).__name__ in ("CancelledError", "KeyboardInterrupt")
    results.close()
    # One of three, with an item that never comes out.
    results = atoll.pipeline(itertools.count(), (flowing.sleepy, 3))
    assert next(results) == 0
    results._network.tasks[1].cancel()
    with pytest.raises(BaseException) as caught:
        list(results)
    assert type(caught.value).__name__ in ("CancelledError", "KeyboardInterrupt")


def test_a_program_that_ends_in_the_middle():
    done = run_python("""if True:
        import atoll, itertools
        results = atoll.pipeline(itertools.count(), abs)
        print(next(results), next(results), flush=True)
    """)
    assert (done.returncode, done.stdout) == (0, "0 1\n"), done.stderr


# ------------------------------------------------------------ fan-in, fan-out


def test_fan_in():
    pairs = [atoll.create_channel() for _ in range(3)]
    queue = atoll.create_queue()
    producers = [atoll.spawn(flowing.count, send, 20) for _, send in pairs]
    recvs = [recv for recv, _ in pairs]
    del pairs
    for n in range(20):
        queue.put(n)
    queue.shutdown()
    got = list(atoll.fan_in(*recvs, queue))
    assert sorted(got) == sorted(list(range(20)) * 4)
    for task in producers:
        task.result(SLACK)
    assert list(atoll.fan_in()) == []


def test_broadcast():
    out = atoll.create_queue()
    recvs, send = atoll.create_broadcast(3, capacity=1)
    listeners = [atoll.spawn(flowing.listen, recv, out) for recv in recvs]
    with send:
        assert [send.send(n, timeout=SLACK) for n in range(10)] == [3] * 10
    for task in listeners:
        task.result(SLACK)
    assert [out.get_nowait() for _ in range(3)] == [list(range(10))] * 3


def test_broadcast_from_another_interpreter(interp):
    recvs, send = atoll.create_broadcast(2, capacity=5)
    interp.call(flowing.count, send, 5)
    send.close()
    assert [list(recv) for recv in recvs] == [list(range(5))] * 2


def test_receivers_that_leave():
    recvs, send = atoll.create_broadcast(2, capacity=1)
    assert send.send(1) == 2
    with pytest.raises(atoll.ChannelTimeout):
        send.send(2, timeout=0.05)
    recvs[0].close()
    assert recvs[1].recv() == 1
    assert send.send(3, timeout=SLACK) == 1
    recvs[1].close()
    with pytest.raises(atoll.ChannelClosed):
        send.send(4)
    with pytest.raises(ValueError, match="at least one"):
        atoll.create_broadcast(0)


def test_poisoned_broadcast():
    recvs, send = atoll.create_broadcast(2, capacity=1)
    send.send(1)
    assert send.poison(ValueError("bad")) == 2
    for recv in recvs:
        with pytest.raises(atoll.ChannelPoisoned) as caught:
            recv.recv()
        assert isinstance(caught.value.reason, ValueError)


@pytest.mark.parametrize("ordered", [True, False])
def test_interrupted_between_two_results(ordered):
    """What a signal comes for is not lost, and its turn does not stay away for ever."""
    out = check_python(f"""
        import atoll, flowing, signal

        class Stop(Exception):
            pass

        armed = False

        def handler(number, frame):
            if armed:
                raise Stop

        signal.signal(signal.SIGALRM, handler)
        got, stops, over = [], 0, False
        with atoll.pipeline(range(4000), flowing.double, ordered={ordered}) as results:
            signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
            while not over:
                try:
                    armed = True
                    for result in results:
                        got += [result]
                    over = True
                except Stop:
                    stops += 1
                armed = False
            signal.setitimer(signal.ITIMER_REAL, 0)
        assert len(set(got)) == len(got)
        if {ordered}:
            assert got == sorted(got)
        print(stops, 4000 - len(got))
    """)
    stops, lost = map(int, out.split())
    assert stops > 5
    assert lost <= 2 + stops // 20  # as __next__ returns
