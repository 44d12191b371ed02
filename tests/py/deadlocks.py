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
