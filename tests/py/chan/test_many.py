"""Many senders, many receivers, many interpreters; and the standard library's."""

import _interpreters
import time

import atoll
import pytest
import workers
from support import STRESS, Task, parked


def check_exactly_once(results, names, per):
    """Every item once, and in order for each sender at each receiver."""
    for got in results:
        for name in names:
            mine = [n for who, n in got if who == name]
            assert mine == sorted(mine)
    assert sorted(item for got in results for item in got) == sorted(
        (name, n) for name in names for n in range(per)
    )


@pytest.mark.parametrize("maxsize", [1, 4, 0])
def test_interpreters_share_a_queue(maxsize):
    per, count = 2000 * STRESS, 3
    queue, out = atoll.create_queue(maxsize), atoll.create_queue()
    interps = [atoll.create() for _ in range(2 * count)]
    getters = [Task(i.call, workers.consume, queue, out) for i in interps[:count]]
    putters = [
        Task(i.call, workers.produce, queue, name, per)
        for name, i in enumerate(interps[count:])
    ]
    # Threads of this interpreter take part too.
    putters.append(Task(workers.produce, queue, count, per))
    getters.append(Task(workers.consume, queue, out))
    for task in putters:
        task.result(90)
    for _ in getters:
        queue.put(None)
    for task in getters:
        task.result(90)
    results = [out.get_nowait() for _ in getters]
    check_exactly_once(results, range(count + 1), per)
    for interp in interps:
        interp.close()


@pytest.mark.parametrize("capacity", [0, 1, 8])
def test_interpreters_share_a_channel(capacity):
    per, count = 1000 * STRESS, 3
    recv, send = atoll.create_channel(capacity)
    out = atoll.create_queue()
    interps = [atoll.create() for _ in range(2 * count)]
    receivers = [Task(i.call, workers.recv_all, recv, out) for i in interps[:count]]
    senders = [
        Task(i.call, workers.send_many, send, name, per)
        for name, i in enumerate(interps[count:])
    ]
    for task in senders:
        task.result(90)
    del senders, task
    send.close()
    for task in receivers:
        task.result(90)
    results = [out.get_nowait() for _ in receivers]
    check_exactly_once(results, range(count), per)
    for interp in interps:
        interp.close()


def test_a_pipeline_of_interpreters():
    """Each stage ends when the one before it does."""

    def stage(recv, send):
        with send:
            for n in recv:
                send.send(n + 1)

    first, feed = recv, send = atoll.create_channel(2)
    interps, tasks = [], []
    for _ in range(5):
        following, out = atoll.create_channel(2)
        interp = atoll.create()
        tasks.append(Task(interp.call, stage, recv, out))
        interps.append(interp)
        recv = following
        del out
    feeder = Task(lambda: [feed.send(n) for n in range(200)] and feed.close())
    assert list(recv) == [n + 5 for n in range(200)]
    for task in [feeder, *tasks]:
        task.result()
    for interp in interps:
        interp.close()


def test_pairs_make_progress_together():
    """More pairs than cores: none starves."""

    def ping(there, back, count):
        for n in range(count):
            there.put(n)
            if back.get() != n:
                raise AssertionError

    def pong(there, back, count):
        for _ in range(count):
            back.put(there.get())

    count = 1000 * STRESS
    interps = [atoll.create() for _ in range(8)]
    tasks = []
    begin = time.monotonic()
    for a, b in zip(interps[::2], interps[1::2], strict=True):
        queues = atoll.create_queue(), atoll.create_queue()
        tasks.append(Task(a.call, ping, *queues, count))
        tasks.append(Task(b.call, pong, *queues, count))
    for task in tasks:
        task.result(60)
    assert time.monotonic() - begin < 30 * STRESS
    for interp in interps:
        interp.close()


def test_blocked_getters_in_interpreters_are_served_in_order():
    queue = atoll.create_queue()
    interps = [atoll.create() for _ in range(4)]
    ready = atoll.create_queue()
    tasks = []
    for interp in interps:
        parks = atoll.stats()["parks"]
        tasks.append(Task(interp.call, workers.get_for_ever, ready, queue))
        ready.get()
        # The caller parks, and so does the one that is called.
        while atoll.stats()["parks"] < parks + 2:
            time.sleep(0.001)
        time.sleep(0.02)
    for n in range(4):
        queue.put(n)
    assert [task.result() for task in tasks] == list(range(4))
    for interp in interps:
        interp.close()


def test_a_thread_in_an_interpreter_and_its_main_share_a_queue(interp):
    interp.exec(
        """
import threading, atoll
a, b = atoll.create_queue(), atoll.create_queue()
def answer():
    while (n := a.get()) is not None:
        b.put(-n)
thread = threading.Thread(target=answer)
thread.start()
for n in range(300):
    a.put(n)
    assert b.get() == -n
a.put(None)
thread.join()
"""
    )


# ----------------------------------------- interpreters of the standard library


@pytest.fixture
def foreign():
    id = _interpreters.create()
    yield id
    _interpreters.destroy(id)


def run(id, code):
    """Run code there, on this thread; its error as text, if any."""
    error = _interpreters.exec(id, code)
    assert error is None, error.errdisplay


def test_a_foreign_interpreter_uses_queues(foreign):
    there, back = atoll.create_queue(), atoll.create_queue()
    there.put(("hello", [1, 2]))
    run(
        foreign,
        f"""
import atoll
there, back = atoll.Queue({there.id}), atoll.Queue({back.id})
back.put(there.get())
back.put([there, back])
back.put(atoll.get_current())
""",
    )
    assert back.get() == ("hello", [1, 2])
    assert back.get() == [there, back]
    current = back.get()
    assert current.id == foreign
    assert current.whence == "_interpreters module"


def test_a_foreign_interpreter_waits(foreign):
    there, back = atoll.create_queue(), atoll.create_queue()
    recv, send = atoll.create_channel()
    back.put((recv, there))
    task = parked(
        run,
        foreign,
        f"""
import atoll
recv, there = atoll.Queue({back.id}).get()
for item in recv:
    there.put(item * 2)
""",
    )
    for n in range(50):
        send.send(n)
        assert there.get() == 2 * n
    send.close()
    task.result()


def test_a_foreign_interpreter_makes_interpreters(foreign):
    queue = atoll.create_queue()
    run(
        foreign,
        f"""
import atoll
queue = atoll.Queue({queue.id})
with atoll.create("made there") as interp:
    queue.put(interp.call(pow, 2, 10))
    interp.prepare_main(queue=queue)
    interp.exec("queue.put('from the third')")
""",
    )
    assert queue.get() == 1024
    assert queue.get() == "from the third"


def test_items_of_a_destroyed_foreign_interpreter():
    keep = atoll.create_queue()
    mark = atoll.create_queue(unbounditems=atoll.UNBOUND)
    id = _interpreters.create()
    run(
        id,
        f"""
import atoll
for id in ({keep.id}, {mark.id}):
    atoll.Queue(id).put("x" * 1000)
    atoll.Queue(id).put([1])
""",
    )
    _interpreters.destroy(id)
    assert [keep.get_nowait(), keep.get_nowait()] == ["x" * 1000, [1]]
    assert [mark.get_nowait(), mark.get_nowait()] == [atoll.UNBOUND] * 2
