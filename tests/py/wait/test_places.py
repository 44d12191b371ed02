"""Who waits keeps the place in line while handlers of signals run that return."""

import pytest
from support import check_python

# The main thread waits, with a signal every millisecond; another thread comes later,
# and is served later. `waits` is a call, `serve` lets one in, `kind` is what dump says.
HARNESS = """
import atoll, signal, threading, time
from support import Task, until

ROUNDS = 10
handled = 0

def handler(number, frame):
    global handled
    handled += 1

signal.signal(signal.SIGALRM, handler)

def waiting(text):
    return atoll.dump().count(text)

def some_signals():
    before = handled
    until(lambda: handled >= before + 5)

def race(text, wait, serve, undo=lambda: None):
    for _ in range(ROUNDS):
        order = []
        def referee():
            until(lambda: waiting(text) == 1)
            some_signals()
            other = Task(lambda: (wait(), order.append("other")))
            until(lambda: waiting(text) == 2)
            some_signals()
            serve()
            until(lambda: order)
            undo()
            serve()
            other.result()
            undo()
        task = Task(referee)
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        wait()
        order.append("main")
        task.result()
        signal.setitimer(signal.ITIMER_REAL, 0)
        assert order == ["main", "other"], order
    print("in order")
"""

KINDS = {
    "get": """
queue = atoll.create_queue()
race(f"get from queue {queue.id}", queue.get, lambda: queue.put(1))
""",
    "put": """
queue = atoll.create_queue(1)
queue.put(0)
race(f"put into queue {queue.id}", lambda: queue.put(1), queue.get)
""",
    "recv": """
recv, send = atoll.create_channel()
race(f"recv on channel {recv.id}", recv.recv, lambda: send.send(1))
""",
    "send": """
recv, send = atoll.create_channel()
race(f"send on channel {recv.id}", lambda: send.send(1), recv.recv)
""",
    "select": """
queue, (recv, send) = atoll.create_queue(), atoll.create_channel()
race(f"get from queue {queue.id}", lambda: atoll.select(recv, queue),
     lambda: queue.put(1))
""",
    "lock": """
lock = atoll.Lock()
lock.acquire()
race(f"Lock {lock.id}", lock.acquire, lock.release)
""",
    "semaphore": """
permits = atoll.Semaphore(0)
race(f"Semaphore {permits.id}", permits.acquire, permits.release)
""",
    "condition": """
condition = atoll.Condition()
def wait():
    with condition:
        condition.wait()
def notify():
    with condition:
        condition.notify()
race(f"Condition {condition.id}", wait, notify)
""",
}


@pytest.mark.parametrize("kind", KINDS)
def test_in_order(kind):
    assert check_python(HARNESS + KINDS[kind]).endswith("in order")


PULSES = {
    "event": """
event = atoll.Event()
wait, name = event.wait, f"Event {event.id}"
def pulse():
    event.set()
    event.clear()
""",
    "event in select": """
event = atoll.Event()
wait, name = lambda: atoll.select(event), f"Event {event.id}"
def pulse():
    event.set()
    event.clear()
""",
    "join": """
queue = atoll.create_queue()
queue.put(0)
wait, name = queue.join, f"join of queue {queue.id}"
def pulse():
    queue.task_done()
    queue.put(0)
""",
}


@pytest.mark.parametrize("kind", PULSES)
def test_what_passes_while_a_handler_runs(kind):
    """Whoever waited before it has seen it, as one who sleeps has."""
    out = check_python(
        HARNESS
        + PULSES[kind]
        + """
done = False
def handler(number, frame):
    pulse()
signal.signal(signal.SIGALRM, handler)
def referee():
    until(lambda: waiting(name) == 1)
    signal.raise_signal(signal.SIGALRM)
for _ in range(ROUNDS):
    task = Task(referee)
    wait()
    task.result()
print("seen")
"""
    )
    assert out.endswith("seen")


def test_shares_of_a_periodic_signal():
    """Half of what comes, as without the signal."""
    out = check_python(
        HARNESS
        + """
queue = atoll.create_queue()
got = {"main": 0, "other": 0}
def take(name):
    while queue.get() is not None:
        got[name] += 1
other = Task(take, "other")
def feed():
    for i in range(60):
        until(lambda: waiting(f"get from queue {queue.id}") == 2)
        some_signals()
        queue.put(i)
    queue.put(None)
    queue.put(None)
feeder = Task(feed)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
take("main")
signal.setitimer(signal.ITIMER_REAL, 0)
feeder.result(), other.result()
print(got["main"])
"""
    )
    assert 27 <= int(out) <= 33


def test_a_handler_may_wait_for_the_same():
    """It has its thread's place for itself: who waits has none while it runs."""
    out = check_python(
        HARNESS
        + """
lock = atoll.Lock()
lock.acquire()
entered = []
def handler(number, frame):
    entered.append(1)
    assert lock.acquire(timeout=10)
    lock.release()
    print("handler", end=" ")
signal.signal(signal.SIGALRM, handler)
def referee():
    until(lambda: waiting(f"Lock {lock.id}") == 1)
    signal.raise_signal(signal.SIGALRM)
    until(lambda: entered)
    lock.release()
task = Task(referee)
lock.acquire()
task.result()
print("main")
"""
    )
    assert out == "handler main"
