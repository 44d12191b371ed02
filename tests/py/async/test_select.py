"""atoll.select: several sends, receives and tasks, exactly one of which happens."""

import collections
import gc
import signal
import threading
import time
import tracemalloc

import atoll
import pytest
import selecting
import tasks
from support import SLACK, STRESS, parked, run_python, until

# ------------------------------------------------------------- what is ready


def test_each_kind_of_case(queue):
    recv, send = atoll.create_channel(1)
    assert atoll.select(recv, (send, {"a": [1]})) == (1, None)
    assert atoll.select(queue, recv) == (1, {"a": [1]})
    assert atoll.select(recv, (queue, "x")) == (1, None)
    assert atoll.select(None, queue, recv) == (1, "x")
    future = atoll.spawn(tasks.square, 3)
    index, value = atoll.select(queue, future)
    assert (index, value) == (1, future)
    assert value.result() == 9
    failing = atoll.spawn(tasks.fail)
    assert atoll.select(failing) == (0, failing)  # it has ended, that is all


def test_nothing_is_ready(queue):
    recv, send = atoll.create_channel()
    cases = (recv, (send, 1), queue, None)
    assert atoll.select(*cases, default="no") == (None, "no")
    assert atoll.select(*cases, default=None) == (None, None)
    assert atoll.select(default=0) == (None, 0)
    with pytest.raises(atoll.ChannelTimeout, match="no case was ready"):
        atoll.select(*cases, timeout=0)
    begin = time.monotonic()
    assert atoll.select(*cases, timeout=0.05, default=5) == (None, 5)
    with pytest.raises(TimeoutError):
        atoll.select(timeout=0.05)
    assert time.monotonic() - begin >= 0.1


def test_what_is_closed_is_ready_and_says_so(queue):
    recv, send = atoll.create_channel(1)
    send.send(1)
    send.close()
    assert atoll.select(queue, recv) == (1, 1)  # what was accepted comes first
    with pytest.raises(atoll.ChannelClosed, match="is closed") as caught:
        atoll.select(queue, recv)
    assert caught.value.case == 1
    with pytest.raises(atoll.ChannelClosed) as caught:
        atoll.select((send, 5), queue)
    assert caught.value.case == 0
    queue.shutdown()
    with pytest.raises(atoll.QueueShutDown) as caught:
        atoll.select(None, None, queue)
    assert caught.value.case == 2
    with pytest.raises(atoll.ChannelClosed) as caught:
        recv.recv()
    assert caught.value.case is None


def test_any_of_those_that_are_ready():
    queues = [atoll.create_queue() for _ in range(4)]
    for queue in queues[1:]:
        for n in range(6000):
            queue.put(n)
    count = collections.Counter(atoll.select(*queues)[0] for _ in range(6000))
    # 2,000 each; the standard deviation is 37
    assert set(count) == {1, 2, 3}
    assert all(1700 < n < 2300 for n in count.values()), count


def test_priority_keeps_the_order(queue):
    queue.put(1)
    other = atoll.create_queue()
    other.put(2)
    for _ in range(50):
        assert atoll.select(other, queue, priority=True) == (0, 2)
        other.put(2)


def test_an_item_of_a_closed_interpreter_says_its_case(queue, interp):
    interp.prepare_main(queue=queue)
    interp.exec("import atoll; queue.put(1, unbounditems=atoll.UNBOUND_ERROR)")
    interp.close()
    with pytest.raises(atoll.ItemInterpreterDestroyed) as caught:
        atoll.select(atoll.create_queue(), queue)
    assert caught.value.case == 1


@pytest.mark.parametrize(
    "case", [1, "x", (1, 2), (), [1, 2], object, print], ids=lambda c: repr(c)[:12]
)
def test_what_is_no_case(queue, case):
    with pytest.raises(TypeError, match="case 1: expected"):
        atoll.select(queue, case)


def test_ends_the_wrong_way_round(queue):
    recv, send = atoll.create_channel()
    for case in (send, (recv, 1), (send, 1, 2)):
        with pytest.raises(TypeError, match="case 0: expected"):
            atoll.select(case, default=0)
    with pytest.raises(TypeError):
        atoll.select(queue, wait=3)
    with pytest.raises(ValueError, match="timeout"):
        atoll.select(queue, timeout=-1)
    with pytest.raises(RuntimeError, match="not been started"):
        atoll.select(atoll.Task(tasks.square, (1,)))


# ----------------------------------------------------- what is not sent stays


def test_what_was_not_sent_is_as_before(queue):
    recv, send = atoll.create_channel()
    moved = atoll.move(bytearray(b"x" * 100_000))
    queue.put(1)
    assert atoll.select((send, moved), queue) == (1, 1)
    assert atoll.select((send, moved), default=0) == (None, 0)
    with pytest.raises(atoll.ChannelTimeout):
        atoll.select((send, moved), timeout=0.01)
    assert atoll.select((queue, moved)) == (0, None)
    assert queue.get() == b"x" * 100_000
    with pytest.raises(atoll.AtollError, match="sent once"):
        atoll.select((queue, moved))


def test_one_that_cannot_cross_stops_all(queue):
    queue.put(1)
    with pytest.raises(atoll.NotShareableError):
        atoll.select(queue, (queue, tasks.generator()))
    assert queue.qsize() == 1


def test_handles_in_what_was_not_sent_are_given_back(queue):
    recv, send = atoll.create_channel()
    for _ in range(3):
        other_recv, other_send = atoll.create_channel(1)
        assert atoll.select((send, other_send), default=0) == (None, 0)
        del other_send
        gc.collect()
        with pytest.raises(atoll.ChannelClosed):
            other_recv.recv(timeout=SLACK)
    assert not recv.is_closed


def test_encoding_may_select_as_well(queue):
    inner = atoll.create_queue()

    class Awkward:
        def __reduce__(self):
            assert atoll.select((inner, 1), None, None) == (0, None)
            gc.collect()
            return (int, (5,))

    assert atoll.select((queue, Awkward()), None) == (0, None)
    assert queue.get() == 5
    assert inner.qsize() == 1


def test_no_memory_after_the_first(queue):
    queues = [atoll.create_queue() for _ in range(64)]
    atoll.select(*queues, default=0)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(100):
            atoll.select(*queues, default=0)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before < 4096  # a selection of 64 has more


# ------------------------------------------------------------------- waiting


def waits(*cases):
    """select(*cases) in a thread that waits by now: what it will return."""
    return parked(atoll.select, *cases)


def test_served_by_whoever_comes_first(queue):
    recv, send = atoll.create_channel()
    full = atoll.create_queue(1)
    full.put(0)
    never = atoll.create_queue()
    cases = (recv, queue, (full, 9), never)
    thread = waits(*cases)
    send.send("a", timeout=SLACK)
    assert thread.result(SLACK) == (0, "a")
    thread = waits(*cases)
    queue.put("b")
    assert thread.result(SLACK) == (1, "b")
    thread = waits(*cases)
    assert full.get() == 0
    assert thread.result(SLACK) == (2, None)
    assert full.get() == 9
    full.put(0)
    thread = waits(*cases)
    send.close()
    with pytest.raises(atoll.ChannelClosed) as caught:
        thread.result(SLACK)
    assert caught.value.case == 0
    # It has left all the other lines.
    queue.put("c")
    assert queue.get_nowait() == "c"
    never.put(1)
    assert never.get_nowait() == 1


def test_a_task_that_ends():
    ready, stop = atoll.create_queue(), atoll.create_queue()
    task = atoll.spawn(tasks.wait_for, stop, ready)
    ready.get(timeout=SLACK)
    thread = waits(ready, task)
    stop.put("now")
    assert thread.result(SLACK) == (1, task)
    task = atoll.spawn(tasks.wait_for, stop)
    thread = waits(ready, task)
    assert task.cancel()
    assert thread.result(SLACK) == (1, task)


def test_two_that_meet():
    recv, send = atoll.create_channel()
    thread = waits(recv, (send, "mine"))
    index, value = atoll.select((send, "yours"), recv)
    other = thread.result(SLACK)
    assert sorted([index, other[0]]) in ([0, 0], [1, 1])
    assert {value, other[1]} in ({None, "yours"}, {None, "mine"})


def test_first_come_first_served(queue):
    other = atoll.create_queue()
    threads = [waits(other, queue) if n % 2 else parked(queue.get) for n in range(6)]
    for n in range(6):
        queue.put(n)
    got = [t.result(SLACK) for t in threads]
    assert got == [(1, n) if n % 2 else n for n in range(6)]


def test_interrupted(queue, interp):
    ready = atoll.create_queue()
    future = interp.submit(selecting.wait_in_select, ready, queue, (queue, 1), None)
    ready.get(timeout=SLACK)
    assert future.exception(SLACK) is None  # there was room
    recv, send = atoll.create_channel()
    queue.get()
    future = interp.submit(selecting.wait_in_select, ready, queue, recv, (send, [1]))
    ready.get(timeout=SLACK)
    time.sleep(0.05)
    interp.interrupt()
    assert isinstance(future.exception(SLACK), KeyboardInterrupt)
    queue.put(1)
    assert queue.get_nowait() == 1


def test_signals(queue):
    """A handler runs while select waits; one that raises ends it."""
    ran = []
    recv, send = atoll.create_channel()
    before = signal.signal(signal.SIGALRM, lambda *_: ran.append(1))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(atoll.ChannelTimeout):
            atoll.select(queue, None, timeout=0.2)
        assert ran == [1]

        def raises(*_):
            raise RuntimeError("alarm")

        signal.signal(signal.SIGALRM, raises)
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(RuntimeError, match="alarm"):
            atoll.select(queue, recv, None)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert not send.is_closed


def test_an_interpreter_that_ends_in_it(queue):
    ready = atoll.create_queue()
    with atoll.InterpreterPoolExecutor(1, grace=1) as pool:
        future = pool.submit(selecting.wait_in_select, ready, queue)
        ready.get(timeout=SLACK)
        pool.stop()
        assert future.cancelled()
    queue.put(1)
    assert queue.get_nowait() == 1


def test_a_program_that_ends_in_it():
    done = run_python("""if True:
        import atoll, threading, time
        q = atoll.create_queue()
        threading.Thread(target=atoll.select, args=(q, None), daemon=True).start()
        pool = atoll.InterpreterPoolExecutor(1, exit_grace=0.1)
        pool.submit(atoll.select, q)
        time.sleep(0.1)
        print("end", flush=True)
    """)
    assert (done.returncode, done.stdout) == (0, "end\n")


# -------------------------------------------------------- between interpreters


@pytest.mark.parametrize("capacity", [0, 1, 5])
def test_everything_arrives_once_and_in_order(capacity):
    count, out = 300, atoll.create_queue()
    pairs = [atoll.create_channel(capacity) for _ in range(3)]
    collectors = [
        atoll.spawn(selecting.collect, [recv for recv, _ in pairs], out) for _ in range(2)
    ]

    def feed(send):
        for n in range(count):
            send.send(n)
        send.close()

    feeders = [threading.Thread(target=feed, args=(send,)) for _, send in pairs]
    for thread in feeders:
        thread.start()
    for thread in feeders:
        thread.join(SLACK)
    for task in collectors:
        task.result(SLACK)
    got = [out.get(timeout=SLACK) for _ in collectors]
    every = [item for items in got for item in items]
    assert sorted(every) == sorted((i, n) for i in range(3) for n in range(count))
    for items in got:  # what one has received of one channel is in order
        for i in range(3):
            mine = [n for index, n in items if index == i]
            assert mine == sorted(mine)


def test_both_ways_at_once():
    """Neither blocks the other, though both channels are rendezvous."""
    there, back = atoll.create_channel(), atoll.create_channel()
    count = 500
    task = atoll.spawn(selecting.swap, there[0], back[1], count)
    assert selecting.swap(back[0], there[1], count) == list(range(count))
    assert task.result(SLACK) == list(range(count))


def test_many_threads_many_channels():
    """Random selects; each object comes out once."""
    pairs = [atoll.create_channel(n) for n in (0, 0, 1, 3)]
    total, parties = 500 * STRESS, 4
    numbers, lock = iter(range(total)), threading.Lock()
    got = [[] for _ in range(parties)]
    stop = threading.Event()

    def party(me):
        while not stop.is_set():
            with lock:
                number = next(numbers, None)
            cases = [recv for recv, _ in pairs]
            if number is not None:
                cases += [(send, number) for _, send in pairs]
            while True:
                index, value = atoll.select(*cases, timeout=0.02, default=None)
                if index is not None and index < len(pairs):
                    got[me].append(value)
                elif index is not None or number is None:
                    break

    threads = [threading.Thread(target=party, args=(n,)) for n in range(parties)]
    for thread in threads:
        thread.start()
    until(lambda: sum(map(len, got)) >= total, timeout=60)
    stop.set()
    for thread in threads:
        thread.join(SLACK)
    assert sorted(n for mine in got for n in mine) == list(range(total))


# ------------------------------------------------------------- ends that are retired


def test_a_retired_end_is_ready_as_a_closed_one(queue):
    """In its turn: it keeps no other case from being chosen."""
    recv, send = atoll.create_channel(1)
    gone, other_send = atoll.create_channel(1)
    gone.retire()
    other_send.retire()
    queue.put(1)
    assert atoll.select(queue, gone, priority=True) == (0, 1)
    assert atoll.select((send, 5), (other_send, object()), priority=True) == (0, None)
    chosen = collections.Counter()
    for i in range(200):
        queue.put(i)
        try:
            index, value = atoll.select(gone, None, queue)
            assert (index, value) == (2, i)
        except atoll.ChannelClosed as exc:
            index = exc.case
            assert queue.get_nowait() == i
        chosen[index] += 1
    assert set(chosen) == {0, 2}
    for cases in (gone, None), (recv, gone), ((other_send, 1), None):
        if recv in cases:
            recv.recv()
        with pytest.raises(atoll.ChannelClosed, match="retired") as caught:
            atoll.select(*cases, timeout=5)
        assert cases[caught.value.case] in (gone, (other_send, 1))
    assert list(atoll.fan_in(gone, closed_with(3))) == [3]


def closed_with(item):
    recv, send = atoll.create_channel(1)
    send.send(item)
    send.close()
    return recv


class Retires:
    """When it is sent."""

    def __init__(self, end):
        self.end = end

    def __reduce__(self):
        self.end.retire()
        return int, ()


def test_retired_while_the_cases_are_read(queue):
    recv, send = atoll.create_channel(1)
    full = atoll.create_queue(1)
    full.put(0)
    with pytest.raises(atoll.ChannelClosed, match="retired") as caught:
        atoll.select((send, 1), (full, Retires(send)), priority=True)
    assert caught.value.case == 0
    with pytest.raises(atoll.ChannelClosed):
        recv.recv()  # it was the last sender, and has sent nothing
