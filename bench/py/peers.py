"""What runs on the other side: in an interpreter, a thread or a process."""

import os
import time

END = None


def echo(receive, send):
    """Send back what comes, until END."""
    while (message := receive()) is not END:
        send(message)


def echo_queue(there, back):
    echo(there.get, back.put)


def echo_channel(there, back):
    echo(there.recv, back.send)


def echo_pipe(pipe):
    try:
        echo(pipe.recv, pipe.send)
    except (EOFError, ConnectionError):
        pass


def spinning(get_nowait, empty):
    """A `get` that is never blocked: it tries again and again."""

    def get():
        while True:
            try:
                return get_nowait()
            except empty:
                continue

    return get


def echo_queue_spinning(there, back, empty):
    echo(spinning(there.get_nowait, empty), back.put)


def stamp_queue(there, back):
    """Answer each message with the time when it came, in ns, until END."""
    now = time.monotonic_ns
    while (message := there.get()) is not END:
        came = now()
        del message  # before the next one comes
        back.put(came)


def drain(receive, count):
    """Receive `count` messages; return the last one."""
    message = None
    for _ in range(count):
        message = receive()
    return message


def drain_queue(queue, done):
    """Receive what `done` says; answer with the last. Until it says END."""
    while (count := queue.get()) is not END:
        done.put(drain(queue.get, count))


def drain_queue_spinning(queue, done, empty):
    """The same, but never blocked: it tries again and again."""
    get = queue.get_nowait
    while (count := queue.get()) is not END:
        message = None
        while count:
            try:
                message = get()
            except empty:
                continue
            count -= 1
        done.put(message)


def drain_pipe(pipe, done):
    try:
        while (count := pipe.recv()) is not END:
            done.send(drain(pipe.recv, count))
    except (EOFError, ConnectionError):
        pass


def stay_on(cpu):
    """Keep the calling thread on one CPU; None leaves it where it is."""
    if cpu is not None:
        os.sched_setaffinity(0, {cpu})


def receive_stamps(count, get):
    """How long did each message take? Each is the time when it was sent.

    Times are in nanoseconds. The clock is the same in every thread and
    interpreter.
    """
    now = time.perf_counter_ns
    latencies = []
    for _ in range(count):
        sent = get()
        latencies.append(now() - sent)
    return tuple(latencies)


def send_stamps(count, idle, put):
    """Send the time `count` times, and sleep `idle` seconds before each."""
    now, sleep = time.perf_counter_ns, time.sleep
    for _ in range(count):
        sleep(idle)
        put(now())


def receive_stamps_queue(cpu, count, queue, done):
    stay_on(cpu)
    done.put(None)
    done.put(receive_stamps(count, queue.get))


def send_stamps_queue(cpu, count, idle, queue, done):
    stay_on(cpu)
    send_stamps(count, idle, queue.put)


CLOCK_EVERY = 16  # round trips between two looks at the clock, as in C


def ping(send, receive, gate, ready, seconds):
    """Play ping-pong for `seconds`. Returns round trips a second."""
    clock = time.perf_counter
    ready.put(None)
    gate.get()
    trips = 0
    start = now = clock()
    while now - start < seconds:
        for _ in range(CLOCK_EVERY):
            send(trips)
            receive()
            trips += 1
        now = clock()
    send(END)
    return trips / (now - start)


def ping_channel(there, back, gate, ready, done, seconds):
    done.put(ping(there.send, back.recv, gate, ready, seconds))


def wait_queue(queue, ready):
    """Say that we are here, and block."""
    ready.put(None)
    queue.get()


def crunch(size):
    """Some work in pure Python: dicts, strings, lists and ints."""
    words = {}
    total = 0
    text = []
    for i in range(size):
        key = (i * 7919) % 1009
        words[key] = words.get(key, 0) + i % 13
        total += len(str(i)) * (key & 3)
        if key < 16:
            text.append(f"{key}:{total}")
        elif len(text) > 512:
            total ^= len("".join(text))
            text = [word.upper() for word in text[:8]]
    return total + sum(words.values())


def crunch_queue(there, back):
    """Do `crunch` of each size that comes."""
    while (size := there.get()) is not END:
        back.put(crunch(size))


def crunch_pipe(pipe):
    """The same, in a process."""
    try:
        while (size := pipe.recv()) is not END:
            pipe.send(crunch(size))
    except (EOFError, ConnectionError):
        pass


def nothing(*args):
    """Return the arguments."""
    return args


def spin(size):
    """A little work in pure Python."""
    total = 0
    for i in range(size):
        total += i
    return total


def monte_carlo(seed):
    """What an Asian option is worth, from 5,000 years of 252 days, with NumPy."""
    import numpy as np

    steps = np.random.default_rng(seed).normal(0.00004, 0.0126, (5000, 252))
    means = 100 * np.exp(steps.cumsum(axis=1)).mean(axis=1)
    return float(np.maximum(means - 105, 0).mean())
