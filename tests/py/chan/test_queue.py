"""Queue: what each method does, with nobody waiting."""

import queue as stdlib_queue
import threading

import atoll
import pytest
from support import Task, parked


def test_order(queue):
    for n in range(100):
        queue.put(n)
    assert [queue.get() for _ in range(100)] == list(range(100))


def test_interleaved_order():
    queue = atoll.create_queue(3)
    got = []
    for n in range(50):
        queue.put(n)
        if n % 3 == 2:
            got += [queue.get(), queue.get(), queue.get()]
    assert got == list(range(48))
    assert queue.qsize() == 2


@pytest.mark.parametrize("maxsize", [0, -1, -(10**9)])
def test_unbounded(maxsize):
    queue = atoll.create_queue(maxsize)
    assert queue.maxsize == maxsize
    for n in range(5000):
        queue.put_nowait(n)
        assert not queue.full()
    assert queue.qsize() == 5000
    assert [queue.get_nowait() for _ in range(5000)] == list(range(5000))


@pytest.mark.parametrize("maxsize", [1, 2, 7, 8, 9, 100])
def test_bounded(maxsize):
    queue = atoll.create_queue(maxsize)
    for round in range(3):
        for n in range(maxsize):
            assert not queue.full()
            queue.put((round, n))
        assert queue.full()
        assert queue.qsize() == maxsize
        with pytest.raises(atoll.QueueFull):
            queue.put_nowait("one too many")
        assert [queue.get() for _ in range(maxsize)] == [
            (round, n) for n in range(maxsize)
        ]
        assert queue.empty()


def test_a_huge_maxsize_costs_nothing_until_it_is_used():
    queue = atoll.create_queue(2**62)
    queue.put(1)
    assert queue.get() == 1
    assert queue.maxsize == 2**62


@pytest.mark.parametrize("maxsize", ["1", 1.0, None, [], b"1"])
def test_maxsize_must_be_an_int(maxsize):
    with pytest.raises(TypeError, match="maxsize"):
        atoll.create_queue(maxsize)


def test_maxsize_too_large():
    with pytest.raises(OverflowError):
        atoll.create_queue(2**64)


def test_maxsize_may_be_an_index():
    class Two:
        def __index__(self):
            return 2

    assert atoll.create_queue(Two()).maxsize == 2
    assert atoll.create_queue(True).maxsize == 1


def test_qsize_empty_full():
    queue = atoll.create_queue(2)
    assert (queue.qsize(), queue.empty(), queue.full()) == (0, True, False)
    queue.put(None)
    assert (queue.qsize(), queue.empty(), queue.full()) == (1, False, False)
    queue.put(None)
    assert (queue.qsize(), queue.empty(), queue.full()) == (2, False, True)
    queue.get()
    assert (queue.qsize(), queue.empty(), queue.full()) == (1, False, False)


def test_empty_raises(queue):
    for call in (
        queue.get_nowait,
        lambda: queue.get(False),
        lambda: queue.get(block=False),
        lambda: queue.get(timeout=0),
        lambda: queue.get(True, 0.0),
        lambda: queue.get(timeout=0.001),
    ):
        with pytest.raises(atoll.QueueEmpty) as info:
            call()
        assert isinstance(info.value, stdlib_queue.Empty)
        assert isinstance(info.value, atoll.QueueError)
        assert str(queue.id) in str(info.value)


def test_full_raises_and_keeps_the_queue():
    queue = atoll.create_queue(1)
    queue.put("first")
    for call in (
        lambda: queue.put_nowait(2),
        lambda: queue.put(2, False),
        lambda: queue.put(2, block=False),
        lambda: queue.put(2, timeout=0),
        lambda: queue.put(2, True, 0.0),
        lambda: queue.put(2, timeout=0.001),
    ):
        with pytest.raises(atoll.QueueFull) as info:
            call()
        assert isinstance(info.value, stdlib_queue.Full)
        assert isinstance(info.value, atoll.QueueError)
        assert str(queue.id) in str(info.value)
    assert queue.get_nowait() == "first"
    assert queue.empty()


def test_block_false_ignores_the_timeout(queue):
    # As queue.Queue does.
    with pytest.raises(atoll.QueueEmpty):
        queue.get(False, -1)
    queue.put(1, False, "soon")
    assert queue.get(0, object()) == 1


def test_keywords(queue):
    queue.put(obj=1, block=True, timeout=1.0, unbounditems=None)
    queue.put_nowait(obj=2, unbounditems=atoll.KEEP)
    assert queue.get(block=True, timeout=1) == 1
    assert queue.get(True, timeout=None) == 2
    queue.shutdown(immediate=False)


@pytest.mark.parametrize(
    "call",
    [
        lambda q: q.put(),
        lambda q: q.put(1, True, 1, None),
        lambda q: q.put(1, obj=2),
        lambda q: q.put(1, wait=True),
        lambda q: q.put_nowait(),
        lambda q: q.put_nowait(1, 2),
        lambda q: q.get(True, 1, 1),
        lambda q: q.get(item=1),
        lambda q: q.get(True, block=True),
        lambda q: q.get_nowait(1),
        lambda q: q.qsize(1),
        lambda q: q.shutdown(True, True),
        lambda q: q.shutdown(now=True),
        lambda q: atoll.create_queue(1, 2),
        lambda q: atoll.create_queue(size=1),
        lambda q: atoll.Queue(),
        lambda q: atoll.Queue("1"),
        lambda q: atoll.Queue(id=1),
        lambda q: atoll.Queue(q.id, 2),
    ],
)
def test_wrong_arguments(queue, call):
    queue.put("it")
    with pytest.raises(TypeError):
        call(queue)
    assert queue.get_nowait() == "it"
    assert queue.empty()


class Refuses:
    def __bool__(self):
        raise ZeroDivisionError


def test_arguments_that_raise(queue):
    queue.put(1)
    for call in (
        lambda: queue.get(Refuses()),
        lambda: queue.put(2, Refuses()),
        lambda: queue.shutdown(Refuses()),
    ):
        with pytest.raises(ZeroDivisionError):
            call()
    assert queue.qsize() == 1
    assert not queue.is_shutdown


def test_shutdown_drains(queue):
    queue.put(1)
    queue.put(2)
    assert not queue.is_shutdown
    queue.shutdown()
    assert queue.is_shutdown
    for call in (lambda: queue.put(3), lambda: queue.put_nowait(3)):
        with pytest.raises(atoll.QueueShutDown) as info:
            call()
        assert isinstance(info.value, stdlib_queue.ShutDown)
        assert isinstance(info.value, atoll.QueueError)
    assert [queue.get(), queue.get_nowait()] == [1, 2]
    for call in (queue.get, queue.get_nowait, lambda: queue.get(timeout=1)):
        with pytest.raises(atoll.QueueShutDown):
            call()
    queue.shutdown()
    assert queue.is_shutdown


def test_shutdown_immediate_drops(queue):
    inner = atoll.create_queue()
    id = inner.id
    queue.put((inner, "x" * 10_000))
    del inner
    queue.shutdown(immediate=True)
    assert queue.qsize() == 0
    with pytest.raises(atoll.QueueShutDown):
        queue.get()
    with pytest.raises(atoll.QueueNotFoundError):
        atoll.Queue(id)


def test_shutdown_immediate_after_a_drain(queue):
    queue.put(1)
    queue.shutdown()
    queue.shutdown(immediate=True)
    with pytest.raises(atoll.QueueShutDown):
        queue.get()


def test_shutdown_wakes_getters(queue):
    tasks = [parked(queue.get) for _ in range(4)]
    queue.shutdown()
    for task in tasks:
        with pytest.raises(atoll.QueueShutDown):
            task.result()


@pytest.mark.parametrize("immediate", [False, True])
def test_shutdown_wakes_putters(immediate):
    queue = atoll.create_queue(1)
    queue.put("accepted")
    tasks = [parked(queue.put, n) for n in range(4)]
    queue.shutdown(immediate)
    for task in tasks:
        with pytest.raises(atoll.QueueShutDown):
            task.result()
    if not immediate:
        assert queue.get() == "accepted"
    with pytest.raises(atoll.QueueShutDown):
        queue.get()


def test_shutdown_while_it_is_used():
    """Whatever put() accepted comes out, whatever it refused does not."""
    for _ in range(20):
        queue = atoll.create_queue(4)
        start = threading.Barrier(5)

        def putter(name, queue=queue, start=start):
            start.wait()
            done = []
            try:
                for n in range(100_000):
                    queue.put((name, n))
                    done.append((name, n))
            except atoll.QueueShutDown:
                return done

        def getter(queue=queue, start=start):
            start.wait()
            got = []
            try:
                while True:
                    got.append(queue.get())
                    if len(got) == 50:
                        queue.shutdown()
            except atoll.QueueShutDown:
                return got

        putters = [Task(putter, name) for name in range(3)]
        getters = [Task(getter)]
        start.wait()
        accepted = [item for task in putters for item in task.result()]
        received = [item for task in getters for item in task.result()]
        assert sorted(accepted) == sorted(received)


def test_repr_hash_eq_id(queue):
    other = atoll.create_queue()
    assert other.id > queue.id > 0
    assert repr(queue) == f"Queue({queue.id})"
    assert hash(queue) == hash(atoll.Queue(queue.id))
    assert queue == queue
    assert queue != other
    assert queue != queue.id
    assert {queue: 1}[atoll.Queue(queue.id)] == 1
    with pytest.raises(AttributeError):
        queue.id = 3
    with pytest.raises(TypeError):
        atoll.Queue.put = None


def test_one_object_per_id(queue):
    assert atoll.Queue(queue.id) is queue
    queue.put(queue)
    assert queue.get() is queue
    queue.put([queue, (queue,)])
    (a, (b,)) = queue.get()
    assert a is b is queue
    assert queue in atoll.list_queues()


def test_list_queues_is_in_order_of_creation():
    queues = [atoll.create_queue() for _ in range(70)]
    wanted = set(queues)
    assert [q for q in atoll.list_queues() if q in wanted] == queues


def test_ids_are_never_reused():
    ids = {atoll.create_queue().id for _ in range(500)}
    assert len(ids) == 500


def test_not_found():
    queue = atoll.create_queue()
    id = queue.id
    del queue
    with pytest.raises(atoll.QueueNotFoundError, match=str(id)):
        atoll.Queue(id)
    recv, send = atoll.create_channel()
    for wrong in (0, 2**63, recv.id):
        with pytest.raises(atoll.QueueNotFoundError):
            atoll.Queue(wrong)
    assert send.id == recv.id


@pytest.mark.parametrize("id", [-1, 2**64])
def test_id_out_of_range(id):
    with pytest.raises((atoll.QueueNotFoundError, OverflowError, ValueError)):
        atoll.Queue(id)


def test_subclassing_is_refused():
    with pytest.raises(TypeError):

        class Mine(atoll.Queue):
            pass
