"""Programs in which everybody waits for ever: what they run as tasks."""

import threading
import time

import atoll


def answer(mine, other):
    """Receives first, and only then sends."""
    other.send(mine.recv())


def philosopher(left, right, ready, go):
    """Takes the left fork, and when all have one the right."""
    fork = left[0].recv()
    ready.put(None)
    go.get()
    right[0].recv()
    right[1].send(None)
    left[1].send(fork)


def nested(value):
    """Waits for a task that is queued behind this one."""
    return atoll.get_current().submit(abs, value).result()


def receive(end):
    return end.recv()


def outcome(end):
    try:
        return end.recv()
    except atoll.AtollError as exc:
        return type(exc).__name__, str(exc)


def hold_and_sleep(end, seconds):
    time.sleep(seconds)
    end.send("awake")


def hold_in_thread(end, mine, seconds):
    """The home thread waits for ever; another thread of it does not."""

    def later():
        time.sleep(seconds)
        end.send("from a thread")

    threading.Thread(target=later).start()
    return mine.recv()


def hold_in_lock(end, seconds):
    lock = threading.Lock()
    lock.acquire()
    lock.acquire(timeout=seconds)
    end.send("unlocked")


def hold_with_deadline(end, mine, seconds):
    try:
        mine.recv(timeout=seconds)
    except atoll.ChannelTimeout:
        end.send("late")


async def hold_in_loop(end, seconds):
    import asyncio

    await asyncio.sleep(seconds)
    await end.send_async("from a loop")


async def hold_in_loop_waiting(end, mine):
    """A loop waits for ever with no thread in it that does: not known."""
    value = await mine.recv_async()
    await end.send_async(value)


def forward(mine, other):
    other.send(mine.recv())


def keep_end(end):
    """An interpreter that is idle, and has an end in a module of its own."""
    globals()["KEPT"] = end


def use_end(value):
    globals()["KEPT"].send(value)


def wander(ends, seed, rounds):
    """Passes on what it receives, now and then after a while outside of atoll."""
    import random

    rng = random.Random(seed)
    recv, send = ends
    for _ in range(rounds):
        token = recv.recv()
        if rng.random() < 0.3:
            time.sleep(rng.random() * 0.003)
        elif rng.random() < 0.1:
            sum(range(20_000))
        send.send(token)


def carry(inbox, rounds):
    """Gets ends in messages, uses them and lets go of them."""
    for _ in range(rounds):
        recv, send = inbox.get()
        send.send(recv.recv() + 1)
        del recv, send


def many_threads(recv, send, rounds):
    """Each of its threads is in turn the one that is awake."""
    ends = [atoll.create_channel() for _ in range(4)]

    def relay(i):
        for _ in range(rounds):
            ends[i + 1][1].send(ends[i][0].recv())

    threads = [threading.Thread(target=relay, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(rounds):
        ends[0][1].send(recv.recv())
        send.send(ends[3][0].recv())
    for thread in threads:
        thread.join()


def grab_both(left, right, barrier):
    """Takes the left one, and when all have one the right."""
    with left:
        barrier.wait()
        with right:
            pass


def take(lock):
    with lock:
        return "taken"


def keep_for(lock, ready, seconds):
    with lock:
        ready.put(None)
        time.sleep(seconds)
