"""Never a false alarm: somebody looks all the time while everything moves."""

import os
import random
import subprocess
import sys
import time

import atoll
import deadlocks
import pytest
import tasks
from atoll import _core
from support import SLACK, STRESS, Task

ROUNDS = 60 * STRESS


@pytest.fixture(autouse=True)
def hurry():
    before = atoll.detect_deadlocks()
    _core._hurry_watch(0.0001)
    yield
    _core._hurry_watch(0)
    atoll.detect_deadlocks(before)


@pytest.mark.parametrize("capacity", [0, 1])
def test_a_token_in_a_ring(capacity):
    """At nearly all times all but one wait for each other."""
    ends = [atoll.create_channel(capacity) for _ in range(5)]
    ring = [
        atoll.spawn(deadlocks.wander, (ends[i][0], ends[i + 1][1]), i, ROUNDS)
        for i in range(4)
    ]
    first, last = ends[0][1], ends[4][0]
    ends.clear()
    for i in range(ROUNDS):
        first.send(i)
        assert last.recv() == i
    for each in ring:
        each.result(SLACK)


def test_a_token_in_a_ring_of_its_own():
    """No interpreter outside holds anything: whoever has the token is the only one."""
    ends = [atoll.create_channel(1) for _ in range(4)]
    ends[0][1].send("token")
    ring = [
        atoll.spawn(deadlocks.wander, (ends[i][0], ends[(i + 1) % 4][1]), i, ROUNDS)
        for i in range(4)
    ]
    ends.clear()
    for each in ring:
        error = each.exception(60)
        # When the first one has ended its channels close, which others may see.
        assert not isinstance(error, atoll.DeadlockError), error


def test_ends_that_travel():
    """The end that somebody waits for is in a message, or in another's hands."""
    inbox = atoll.create_queue()
    carriers = [atoll.spawn(deadlocks.carry, inbox, ROUNDS) for _ in range(3)]
    for i in range(3 * ROUNDS):
        (r1, s1), (r2, s2) = atoll.create_channel(), atoll.create_channel()
        inbox.put((r1, s2))
        del r1, s2
        s1.send(i)
        assert r2.recv() == i + 1
    for each in carriers:
        each.result(SLACK)


def test_threads_that_take_turns():
    (r1, s1), (r2, s2) = atoll.create_channel(), atoll.create_channel()
    task = atoll.spawn(deadlocks.many_threads, r1, s2, ROUNDS)
    for i in range(ROUNDS):
        s1.send(i)
        assert r2.recv() == i
    task.result(SLACK)


def test_tasks_and_pools():
    with atoll.InterpreterPoolExecutor(2) as pool:
        for _ in range(ROUNDS):
            some = [pool.submit(tasks.square, i) for i in range(4)]
            assert [future.result() for future in some] == [0, 1, 4, 9]
    for _ in range(ROUNDS // 10):
        with atoll.TaskGroup() as group:
            recv, send = atoll.create_channel()
            waiter = group.spawn(deadlocks.receive, recv)
            group.spawn(deadlocks.hold_and_sleep, send, random.random() * 0.005)
            del recv, send
        assert waiter.result() == "awake"


def test_selects():
    ends = [atoll.create_channel() for _ in range(3)]
    rng = random.Random(1)

    def feed():
        for i in range(3 * ROUNDS):
            time.sleep(rng.random() * 0.0005)
            ends[i % 3][1].send(i)

    feeder = Task(feed)
    for i in range(3 * ROUNDS):
        assert atoll.select(*[recv for recv, _ in ends]) == (i % 3, i)
    feeder.result()


def test_calls_and_interpreters_that_come_and_go():
    for i in range(max(3, ROUNDS // 10)):
        recv, send = atoll.create_channel()
        with atoll.create() as one, atoll.create() as two:
            there = Task(one.call, deadlocks.receive, recv)
            time.sleep(random.random() * 0.01)
            two.call(deadlocks.keep_end, send)
            del send
            two.call(deadlocks.use_end, i)
            assert there.result() == i


def test_the_same_without_pytests_own_ways_out():
    """Here main's time limits are functions that a signal calls, and a thread that
    belongs to nobody; so nobody takes main for stuck. There it may be."""
    if "ATOLL_ALARM_CHILD" in os.environ:
        recv, _send = atoll.create_channel()
        with pytest.raises(atoll.DeadlockError):
            recv.recv()  # it may indeed
        return
    command = ["-m", "pytest", "-q", "-x", "--timeout=0", "-o", "faulthandler_timeout=0"]
    done = subprocess.run(
        [sys.executable, *command, __file__],
        env={**os.environ, "ATOLL_ALARM_CHILD": "1"},
        capture_output=True,
        text=True,
        timeout=100 * STRESS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
