"""Locks and what is like them: threading's words, between interpreters.

What they have in common with threading's is tested with CPython's own tests
(tests/conformance); here is what these cannot know.
"""

import pickle
import threading
import time
import weakref

import atoll
import pytest
import sharers
from support import Parking, Task, parked, settle, until

MAKERS = {
    "Lock": atoll.Lock,
    "RLock": atoll.RLock,
    "Semaphore": lambda: atoll.Semaphore(3),
    "BoundedSemaphore": lambda: atoll.BoundedSemaphore(3),
    "Event": atoll.Event,
    "Condition": atoll.Condition,
    "Barrier": lambda: atoll.Barrier(2),
    "Counter": lambda: atoll.Counter(5),
    "Cell": lambda: atoll.Cell("value"),
}


@pytest.fixture(params=MAKERS)
def each(request):
    return MAKERS[request.param]()


@pytest.fixture
def pair():
    with atoll.create() as a, atoll.create() as b:
        yield a, b


# ------------------------------------------------------------------- handles


def test_crosses_as_itself(each, interp, queue):
    queue.put([each, each])
    a, b = queue.get()
    assert a is b is each
    assert interp.call(lambda x: x, each) is each
    assert interp.call(lambda x, y: x is y, each, each)
    assert interp.call(hash, each) == hash(each) == hash(each.id)
    assert interp.call(lambda x: type(x).__name__, each) == type(each).__name__
    assert interp.call(lambda x: x.id, each) == each.id
    assert atoll.is_shareable(each)


def test_pickle_within_the_process(each):
    assert pickle.loads(pickle.dumps(each)) is each


def test_a_pickle_does_not_keep_it():
    lock = atoll.Lock()
    text, key = pickle.dumps(lock), lock.id
    del lock
    with pytest.raises(atoll.AtollError, match=f"no lock {key}"):
        pickle.loads(text)


def test_lives_as_long_as_a_message(queue):
    lock = atoll.Lock()
    lock.acquire()
    gone = weakref.ref(lock)
    key = lock.id
    queue.put({"lock": lock})
    del lock
    assert gone() is None
    lock = queue.get()["lock"]
    assert lock.id == key
    assert lock.locked()


def test_lives_on_when_its_interpreter_is_closed(queue):
    with atoll.create() as interp:
        interp.prepare_main(queue=queue)
        interp.exec("import atoll; e = atoll.Event(); e.set(); queue.put(e)")
    assert queue.get().wait(0)


def test_different_ones_differ():
    a, b = atoll.Lock(), atoll.Lock()
    assert a != b
    assert len({a, b, atoll.Event()}) == 3


@pytest.mark.parametrize("cls", [atoll.Lock, atoll.Event, atoll.Barrier, atoll.Cell])
def test_cannot_be_derived_from(cls):
    with pytest.raises(TypeError):
        type("Mine", (cls,), {})


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: atoll.Semaphore(-1), ValueError),
        (lambda: atoll.Semaphore("1"), TypeError),
        (lambda: atoll.Semaphore(2**70), OverflowError),
        (lambda: atoll.Semaphore().release(0), ValueError),
        (lambda: atoll.Semaphore().release(2**63 - 1), OverflowError),
        (lambda: atoll.Event(1), TypeError),
        (lambda: atoll.Event().wait("1"), TypeError),
        (lambda: atoll.Barrier(0), ValueError),
        (lambda: atoll.Barrier(2, 5), TypeError),
        (lambda: atoll.Condition(threading.Lock()), TypeError),
        (lambda: atoll.Condition().notify(), RuntimeError),
        (lambda: atoll.Lock().acquire(timeout="x"), TypeError),
        (lambda: atoll.Lock().acquire(timeout=float("nan")), ValueError),
        (lambda: atoll.Lock().acquire(1, 2, 3), TypeError),
        (lambda: atoll.Cell(), TypeError),
        (lambda: atoll.Counter("1"), TypeError),
    ],
)
def test_wrong_arguments(call, error):
    with pytest.raises(error):
        call()


# ------------------------------------------------------ between interpreters


@pytest.mark.parametrize("make", [atoll.Lock, atoll.RLock, atoll.Condition])
def test_excludes(make, pair):
    lock, cell = make(), atoll.Cell(0)
    tasks = [Task(i.call, sharers.add_many, lock, cell, 300) for i in pair]
    sharers.add_many(lock, cell, 300)
    for task in tasks:
        task.result(30)
    assert cell.load() == 900
    assert not lock.locked()


@pytest.mark.parametrize("make", [atoll.Lock, atoll.RLock, lambda: atoll.Semaphore(1)])
def test_first_come_first_served(make, queue):
    lock = make()
    interps = [atoll.create() for _ in range(4)]
    tasks = []
    settle()
    with lock:
        for n, interp in enumerate(interps):
            parking = Parking()
            tasks.append(Task(interp.call, sharers.note_turn, lock, queue, n))
            parking.wait(2)  # the caller of call(), and the home thread
    for task in tasks:
        task.result()
    assert [queue.get() for _ in interps] == [0, 1, 2, 3]
    for interp in interps:
        interp.close()


def test_released_by_another_interpreter(interp):
    lock = atoll.Lock()
    lock.acquire()
    interp.call(lock.release)
    assert not lock.locked()
    assert interp.call(lock.acquire)
    lock.release()
    with pytest.raises(RuntimeError, match="unlocked"):
        lock.release()


def test_rlock_belongs_to_a_thread_of_an_interpreter(interp):
    lock = atoll.RLock()
    assert interp.call(sharers.nested, lock) == (2, False)
    with lock:
        assert lock._is_owned()
        assert not interp.call(lock.acquire, False)
        assert interp.call(sharers.refused, lock.release) == "RuntimeError"
        assert not Task(lock.acquire, False).result()
    assert interp.call(lock.acquire)
    assert not lock.acquire(timeout=0.01)
    with pytest.raises(RuntimeError):
        lock.release()
    interp.call(lock.release)


def test_works_in_threadings_condition():
    cond = threading.Condition(atoll.RLock())
    with cond, cond:
        task = Task(lambda: cond.acquire() and cond.notify() is None and cond.release())
        assert cond.wait(10)
        assert cond._lock._recursion_count() == 2
    task.result()


def test_semaphore_gives_several(pair):
    sem = atoll.BoundedSemaphore(4)
    for _ in range(4):
        assert sem.acquire(False)
    tasks = [parked(sem.acquire) for _ in range(2)]
    tasks += [Task(i.call, sharers.acquire, sem, timeout=20) for i in pair]
    sem.release(4)
    assert all(task.result() for task in tasks)
    sem.release(n=4)
    with pytest.raises(atoll.ExecutionFailed, match=r"ValueError: .* too many"):
        pair[0].call(sem.release)


def test_event(pair, queue):
    event = atoll.Event()
    tasks = [Task(i.call, sharers.wait, event, queue) for i in pair]
    for _ in pair:
        queue.get(timeout=20)
    time.sleep(0.02)
    event.set()
    event.clear()
    # Who had begun to wait has waited with success; who had not, has not yet.
    time.sleep(0.02)
    event.set()
    assert all(task.result() for task in tasks)
    assert pair[0].call(event.is_set)
    pair[1].call(event.clear)
    assert not event.wait(0.01)


def test_condition(pair, queue):
    cond = atoll.Condition()
    tasks = [Task(i.call, sharers.wait_in, cond, queue) for i in pair]
    for _ in pair:
        queue.get(timeout=20)
    with cond:  # so they wait
        cond.notify()
    until(lambda: any(not t.is_alive() for t in tasks))
    time.sleep(0.02)
    assert sum(t.is_alive() for t in tasks) == 1
    with cond:
        cond.notify_all()
    assert all(task.result() for task in tasks)
    assert pair[0].call(sharers.wait_in, cond, queue, timeout=0.01) is False


def test_wait_for(pair, queue):
    cond, cell = atoll.Condition(atoll.Lock()), atoll.Cell(0)
    task = Task(pair[0].call, sharers.wait_for_sum, cond, cell, queue)
    queue.get(timeout=20)
    for interp in (pair[1], pair[1], pair[1]):
        assert task.is_alive()
        interp.call(sharers.add_and_notify, cond, cell)
    assert task.result() == 3
    with cond:
        assert cond.wait_for(lambda: 0, timeout=0.01) == 0
        with pytest.raises(ZeroDivisionError):
            cond.wait_for(lambda: 1 / 0)


def test_the_conditions_lock_is_the_lock(interp):
    lock = atoll.Lock()
    a, b = atoll.Condition(lock), atoll.Condition(lock)
    with a:
        assert lock.locked()
        assert b.locked()
        assert not interp.call(b.acquire, False)


def test_a_nested_rlock_is_released_wholly_and_restored():
    cond = atoll.Condition()
    with cond, cond:
        task = Task(sharers.add_and_notify, cond, atoll.Cell(0))
        assert cond.wait(10)
        cond.release()
        assert cond.locked()
        cond.acquire()
    assert not cond.locked()
    task.result()


# ------------------------------------------------------------------ barriers


def test_barrier(pair):
    barrier = atoll.Barrier(3)
    tasks = [Task(i.call, sharers.pass_barrier, barrier, 50) for i in pair]
    mine = sharers.pass_barrier(barrier, 50)
    others = [task.result() for task in tasks]
    for turn in zip(mine, *others, strict=True):
        assert sorted(turn) == [0, 1, 2]


def test_the_action_runs_where_the_last_one_is(interp, queue):
    barrier = atoll.Barrier(2, action=lambda: sharers.mark(queue))
    task = Task(barrier.wait)
    until(lambda: barrier.n_waiting == 1)
    interp.call(barrier.wait)
    task.result()
    assert queue.get_nowait() == ("action", interp.id)
    task = Task(interp.call, barrier.wait)
    until(lambda: barrier.n_waiting == 1)
    barrier.wait()
    task.result()
    assert queue.get_nowait() == ("action", 0)
    assert queue.empty()


def test_an_action_that_cannot_cross_stays(queue):
    lines = []
    generator = (i for i in range(3))
    barrier = atoll.Barrier(1, lambda: lines.append(next(generator)))
    barrier.wait()
    assert lines == [0]
    with pytest.raises(atoll.NotShareableError):
        queue.put(barrier)
    barrier.wait()
    assert lines == [0, 1]


def test_an_action_that_raises_breaks_it():
    barrier = atoll.Barrier(2, lambda: 1 / 0)
    task = Task(barrier.wait)
    until(lambda: barrier.n_waiting == 1)
    with pytest.raises(ZeroDivisionError):
        barrier.wait()
    with pytest.raises(threading.BrokenBarrierError):
        task.result()
    assert barrier.broken
    barrier.reset()
    assert not barrier.broken


def test_barrier_with_a_cycle_is_collected():
    import gc

    class Owner:
        def __init__(self):
            self.barrier = atoll.Barrier(1, self.act)

        def act(self):
            pass

    gone = weakref.ref(Owner())
    gc.collect()
    assert gone() is None


def test_more_than_the_parties(pair):
    barrier = atoll.Barrier(2)
    tasks = [Task(barrier.wait) for _ in range(6)]
    tasks += [Task(i.call, barrier.wait) for i in pair]
    assert sorted(task.result() for task in tasks) == [0] * 4 + [1] * 4


def test_who_is_late_breaks_it(interp):
    barrier = atoll.Barrier(3, timeout=0.1)
    task = Task(interp.call, barrier.wait, 20)
    until(lambda: barrier.n_waiting == 1)
    with pytest.raises(threading.BrokenBarrierError):
        barrier.wait()
    with pytest.raises(atoll.ExecutionFailed) as info:
        task.result()
    assert isinstance(info.value.__cause__, threading.BrokenBarrierError)
    assert "broken" in repr(barrier)
