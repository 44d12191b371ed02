"""Transfer: what it costs to encode, carry and decode larger messages.

Objects there and back between interpreters and processes; encoded and decoded
in one interpreter, beside pickle, marshal and the least that C can do; large
bytes and arrays beside one copy of their memory; buffers that are not copied.
All goals but two are ratios of what is measured in turns, in one run.
"""

import gc
import marshal
import os
import pickle
import queue
import statistics
import time
from contextlib import contextmanager

import atoll
import common
import messages
import peers
import samples

MB = 1_000_000
LARGE = 100 * MB
now = time.monotonic_ns  # CLOCK_MONOTONIC, as in C: one clock for all


def median_ratio(above, below):
    """The median of the ratios of the rounds; the two were measured in turns."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


# ------------------------------------------------------------- there and back


@contextmanager
def stdlib_spinning():
    """The standard library's queues at their best: no `get` that sleeps."""
    there, back = messages.stdlib.create_queue(), messages.stdlib.create_queue()
    call = "echo_queue_spinning(there, back, queue.Empty)"
    with messages.stdlib_peer(call, there=there, back=back):
        yield there.put, peers.spinning(back.get_nowait, queue.Empty)
        there.put(peers.END)


def there_and_back(way, message, count):
    """µs of one round trip. The other side lives only meanwhile."""
    with way() as (send, receive):
        for _ in range(count // 5 + 1):  # until both sides are awake
            send(message)
            receive()
        start = now()
        for _ in range(count):
            send(message)
            answer = receive()
        taken = now() - start
    if answer != message:
        raise RuntimeError("the wrong message came back")
    return taken / count / 1000


def measure_mapping(args, results):
    rounds, count = (2, 50) if args.quick else (7, 500)
    message = samples.mapping(1000)
    ways = {
        "atoll": (messages.atoll_queues, "atoll queues"),
        "pipe": (messages.pipes, "multiprocessing.Pipe, two processes"),
    }
    if messages.stdlib is not None:
        what = "standard library's interpreters, put and get_nowait in a loop"
        ways["stdlib"] = (stdlib_spinning, what)
    times = {key: [] for key in ways}
    for _ in range(rounds):
        for key, (way, _what) in ways.items():
            times[key].append(there_and_back(way, message, count))
    median = {
        key: results.number(
            f"transfer.trip.{key}", times[key], "µs", f"dict of 1,000, round trip: {what}"
        )
        for key, (_way, what) in ways.items()
    }
    goals = {"pipe": ("Pipe", 3), "stdlib": ("standard library", 1.5)}
    for key in list(ways)[1:]:
        name, least = goals[key]
        ratio = median_ratio(times[key], times["atoll"])
        results.goal(
            f"dict of 1,000 str to int there and back, against {name}",
            f"≥ {least:g} ×",
            f"{ratio:.2f} ×",
            f"atoll {median['atoll']:.0f} µs, {name} {median[key]:.0f} µs",
            ratio >= least,
        )


def measure_text(args, results):
    rounds, count = (2, 500) if args.quick else (7, 5000)
    sent = {"text": "x" * 1000, "int": 12345}
    times = {key: [] for key in sent}
    for _ in range(rounds):
        for key, message in sent.items():
            times[key].append(there_and_back(messages.atoll_queues, message, count))
    text = results.number("transfer.text", times["text"], "µs", "1 kB str, round trip")
    number = results.number("transfer.int", times["int"], "µs", "an int, round trip")
    results.goal(
        "1 kB str there and back",
        "≤ 2 µs",
        f"{text:.2f} µs",
        f"an int {number:.2f} µs",
        text <= 2,
    )


# ---------------------------------------- encoded and decoded in one interpreter


def keep_arenas(megabytes):
    """Objects, one in each arena, that keep CPython's allocator from unmapping it.

    Otherwise it gives memory back when a result is freed, or not, if a stray
    object is in the way, and whoever comes next pays a third more or does not.
    """
    size, apart = 500, 500_000  # an arena has 1 MiB, and 33 bytes are a header
    blocks = [bytes(size - 33) for _ in range(megabytes * MB // size)]
    return blocks[:: apart // size]


def once(way):
    """µs of one call. The result is freed after the clock, for all ways alike."""
    start = now()
    result = way()
    taken = now() - start
    del result
    return taken / 1000


def codecs(args, obj):
    """Each a function that makes an object equal to `obj`, from scratch."""
    floor = common.import_floor(args)
    plan = floor.plan(obj)
    pipe = atoll.create_queue()

    def through_atoll():
        pipe.put(obj)
        return pipe.get()

    ways = {
        "atoll": through_atoll,
        "pickle": lambda: pickle.loads(pickle.dumps(obj, 5)),
        "floor": lambda: floor.build(plan),
    }
    try:
        marshal.dumps(obj)
    except ValueError:
        pass  # it knows no classes
    else:
        ways["marshal"] = lambda: marshal.loads(marshal.dumps(obj))
    for key, way in ways.items():
        if way() != obj:
            raise RuntimeError(f"{key} made another object")
    return ways


CODEC_SAMPLES = (
    # key, what, how it is made, times in a round, goal against pickle
    ("document", "JSON-like, 9,000 records", lambda: samples.document(9000), 3, 2),
    ("orders", "10,000 dataclass instances", lambda: samples.orders(10_000), 5, 2),
    ("mapping", "dict of 1,000 str to int", lambda: samples.mapping(1000), 200, 1.5),
    ("integers", "list of 100,000 ints", lambda: samples.integers(100_000), 10, 1.5),
)


def measure_codec(args, results, key, what, obj, laps, least):
    rounds = 2 if args.quick else 9
    ways = codecs(args, obj)
    times = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            way()  # the caches are another way's
            lap = statistics.median(once(way) for _ in range(2 if args.quick else laps))
            times[name].append(lap)
    median = {
        name: results.number(
            f"transfer.{key}.{name}", times[name], "µs", f"encode and decode, {what}: {name}"
        )
        for name in ways
    }
    said = ", ".join(f"{name} {value:.0f}" for name, value in median.items()) + " µs"
    faster = median_ratio(times["pickle"], times["atoll"])
    results.goal(
        f"encode and decode, {what}, against pickle",
        f"≥ {least:g} ×",
        f"{faster:.2f} ×",
        said,
        faster >= least,
    )
    slower = median_ratio(times["atoll"], times["floor"])
    results.goal(
        f"encode and decode, {what}, against building it in C",
        "≤ 1.3 × floor",
        f"{slower:.2f} ×",
        said,
        slower <= 1.3,
    )


# ------------------------------------------------------ large, beside one copy


@contextmanager
def stamper():
    """A function that sends to another interpreter: ns until `get` has it."""
    there, back = atoll.create_queue(), atoll.create_queue()

    def send(make):
        start = now()
        there.put(make())
        return back.get() - start

    with messages.atoll_peer(peers.stamp_queue, there, back):
        yield send
        there.put(peers.END)


def measure_bytes(args, results):
    rounds = 3 if args.quick else 15
    floor = common.import_floor(args)
    data = b"\x01" * LARGE  # of zeros the system would keep one page
    same = atoll.create_queue()

    def through_one():
        same.put(data)
        return same.get()

    times = {"copy": [], "freeing": [], "between": [], "same": []}
    with stamper() as send:
        for i in range(rounds + 1):
            copy, free = floor.copy(data)
            lap = {
                "copy": copy / 1e6,
                "freeing": free / 1e6,
                "between": send(lambda: data) / 1e6,
                "same": once(through_one) / 1e3,
            }
            for key, value in lap.items() if i else ():  # the first one warms up
                times[key].append(value)
    what = {
        "copy": "100 MB: malloc and memcpy in C",
        "freeing": "100 MB: free in C",
        "between": "100 MB bytes, from put to get, two interpreters",
        "same": "100 MB bytes, put and get in one interpreter",
    }
    median = {
        key: results.number(f"transfer.bytes.{key}", times[key], "ms", what[key])
        for key in times
    }
    ratio = median_ratio(times["between"], times["copy"])
    alone = median_ratio(times["same"], times["copy"])
    results.goal(
        "100 MB bytes, put and get, two interpreters",
        "≤ 1.3 × one memcpy",
        f"{ratio:.2f} ×",
        f"atoll {median['between']:.0f} ms, memcpy {median['copy']:.0f} ms;"
        f" in one interpreter {alone:.2f} ×",
        ratio <= 1.3,
    )


def measure_array(args, results):
    what, goal = "100 MB NumPy array, put and get", "≤ 1.2 × one memcpy"
    try:
        import numpy
    except ImportError as error:
        results.goal(what, goal, "n/a", str(error), None)
        return
    rounds = 3 if args.quick else 15
    floor = common.import_floor(args)
    array = numpy.arange(LARGE // 8, dtype="int64")
    same = atoll.create_queue()

    def through_one():
        same.put(array)
        return same.get()

    if not numpy.array_equal(through_one(), array):
        raise RuntimeError("another array came back")
    copies, times = [], []
    for _ in range(rounds):
        copies.append(floor.copy(array)[0] / 1e6)
        times.append(once(through_one) / 1e3)
    copy = results.number("transfer.array.copy", copies, "ms", "100 MB: the array's memcpy")
    ours = results.number("transfer.array.atoll", times, "ms", f"{what} in one interpreter")
    ratio = median_ratio(times, copies)
    beside = f"atoll {ours:.0f} ms, memcpy {copy:.0f} ms"
    results.goal(what, goal, f"{ratio:.2f} ×", beside, ratio <= 1.2)


# ------------------------------------------------------- buffers, not copied

BUFFERS = {"1 B": 1, "1 kB": 1000, "1 MB": MB, "100 MB": LARGE, "1 GB": 1000 * MB}


def free_memory():
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def why_no_views():
    """The reason why a memoryview does not cross as one, or None if it does."""
    same = atoll.create_queue()
    try:
        same.put(memoryview(bytearray(1)))
    except atoll.NotShareableError as error:
        return str(error)
    came = same.get()
    if not isinstance(came, memoryview):
        return f"a memoryview arrives as {type(came).__name__}, a copy"
    return None


def measure_views(args, results):
    what = "buffer of 1 B to 1 GB, as a memoryview, put and get"
    reason = why_no_views()
    if reason is not None:
        results.goal(what, "≤ 3 µs", "n/a", reason, None)
        results.goal(f"{what}: flat", "slowest ≤ 2 × fastest", "n/a", reason, None)
        return
    rounds, count = (2, 20) if args.quick else (7, 300)
    sizes = {name: n for name, n in BUFFERS.items() if n < LARGE or n * 2 < free_memory()}
    times = {name: [] for name in sizes}
    buffers = {name: bytearray(n) for name, n in sizes.items()}
    with stamper() as send:
        for _ in range(rounds):
            for name, buffer in buffers.items():
                make = lambda buffer=buffer: memoryview(buffer)
                send(make)
                lap = statistics.median(send(make) for _ in range(count))
                times[name].append(lap / 1000)
    median = [
        results.number(
            f"transfer.view.{name.replace(' ', '_')}", times[name], "µs", f"view of {name}"
        )
        for name in sizes
    ]
    beside = ", ".join(f"{n} {t:.2f} µs" for n, t in zip(sizes, median, strict=True))
    if len(sizes) < len(BUFFERS):
        beside += "; too little memory for more"
    slowest = max(median)
    flat = slowest / min(median)
    results.goal(what, "≤ 3 µs", f"{slowest:.2f} µs", beside, slowest <= 3)
    results.goal(f"{what}: flat", "slowest ≤ 2 × fastest", f"{flat:.2f} ×", beside, flat <= 2)


def run(args):
    results = common.Results()
    measure_mapping(args, results)
    measure_text(args, results)
    arenas = keep_arenas(10 if args.quick else 100)
    for key, what, make, laps, least in CODEC_SAMPLES:
        measure_codec(args, results, key, what, make(), laps, least)
        gc.collect()  # this sample, so that it is not the next one's
    del arenas
    measure_bytes(args, results)
    measure_views(args, results)
    measure_array(args, results)
    return results


if __name__ == "__main__":
    common.main(run, __doc__)
