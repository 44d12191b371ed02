"""Objects that lend their memory, and what interpreters do with lent memory."""

import _interpreters
import os
import threading
import time

import atoll

#: What this interpreter holds on to.
held = []


class Lender:
    """Lends a bytearray, and says on a queue in which interpreter it came back."""

    def __init__(self, data, released):
        self.data = data
        self.released = released

    def __buffer__(self, flags):
        return memoryview(self.data)

    def __release_buffer__(self, view):
        view.release()
        # Not atoll.get_current(), which an interpreter that is closing has not.
        self.released.put(("released", _interpreters.get_current()[0]))


def can_grow(array):
    try:
        array.append(0)
    except BufferError:
        return False
    array.pop()
    return True


def lend(queue, released, size=100):
    queue.put(memoryview(Lender(bytearray(b"x" * size), released)))


def lend_many(queue, released, count):
    for _ in range(count):
        lend(queue, released)


def lend_and_read(queue, released, fd):
    """Lend, then block in read() until somebody writes a byte."""
    lend(queue, released)
    os.read(fd, 1)


def lend_and_sleep(queue, released, seconds):
    lend(queue, released)
    time.sleep(seconds)


def lend_and_get(queue, released, other):
    lend(queue, released)
    return other.get()


def lend_and_lock(queue, released, go):
    """Lend, then block on a lock that a thread lets go of when something comes."""
    lend(queue, released)
    lock = threading.Lock()
    lock.acquire()
    thread = threading.Thread(target=lambda: (go.get(), lock.release()))
    thread.start()
    lock.acquire()
    thread.join()


def lend_and_run(queue, released, stop):
    """Lend, then run Python code until something comes."""
    lend(queue, released)
    while stop.empty():
        pass


def hold(queue, count=1):
    for _ in range(count):
        held.append(queue.get())
    return len(held)


def let_go():
    held.clear()


def take_and_drop(queue, count):
    for _ in range(count):
        queue.get()


def hold_then_release(queue, go):
    """Hold what comes until a word comes on `go`."""
    view = queue.get()
    go.get()
    view.release()


def write(view, index, value):
    view[index] = value


def read(view):
    return bytes(view)


def fill(buffer, value):
    with memoryview(buffer) as view:
        view[:] = bytes([value]) * len(view)
    return len(buffer), type(buffer).__name__


def change_array(array):
    """All that makes a bytearray allocate, move and free."""
    first = bytes(array[:4])
    array += b"tail"
    del array[:2]
    array.insert(0, 1)
    array.extend(range(256))
    array.clear()
    array.extend(first * 1000)
    return array


def make_and_move(queue, size):
    array = bytearray(b"m" * size)
    queue.put(atoll.move(array))
    return len(array)


def receive_and_change(queue, count):
    total = 0
    for _ in range(count):
        total += len(change_array(queue.get()))
    return total


def append_one(array):
    array.append(1)
    return array
