"""Tracing: what it costs the program that is traced.

The same work with and without atoll.trace(), in turns: tasks of 20 µs and of 1 ms, and
messages of which each takes 20 µs to work on. Writing the file comes after that and is
measured apart. Also the bare message, where there is nothing but what is traced.
"""

import os
import statistics
import tempfile
import time

import atoll
import common

now = time.perf_counter_ns


def spin(micro):
    end = time.perf_counter_ns() + micro * 1000
    while time.perf_counter_ns() < end:
        pass


def tasks(pool, micro, count):
    start = now()
    for future in [pool.submit(spin, micro) for _ in range(count)]:
        future.result()
    return now() - start


def worker(jobs, results):
    while (micro := jobs.get()) is not None:
        spin(micro)
        results.put(micro)


def messages(pool, micro, count):
    """One worker; main sends and receives."""
    jobs, results = atoll.create_queue(), atoll.create_queue()
    busy = pool.submit(worker, jobs, results)
    start = now()
    for _ in range(count):
        jobs.put(micro)
    for _ in range(count):
        results.get()
    taken = now() - start
    jobs.put(None)
    busy.result()
    return taken


def bare(pool, micro, count):
    del pool, micro
    queue = atoll.create_queue()
    put, get = queue.put, queue.get
    start = now()
    for _ in range(count):
        put(1)
        get()
    return now() - start


WAYS = (
    ("tasks.20", "tasks of 20 µs", tasks, 20, 5_000, 5),
    ("tasks.1000", "tasks of 1 ms", tasks, 1000, 200, 5),
    ("messages", "messages, 20 µs of work on each", messages, 20, 5_000, 5),
    ("bare", "put and get of an int, and nothing else", bare, 0, 200_000, None),
)


def run(args):
    results = common.Results()
    rounds = 2 if args.quick else 15
    descriptor, path = tempfile.mkstemp(suffix=".json")
    os.close(descriptor)
    written = []
    with atoll.InterpreterPoolExecutor(2) as pool:
        for key, what, work, micro, count, most in WAYS:
            count = count // 20 if args.quick else count
            work(pool, micro, count)
            times = {"traced": [], "not": []}
            for _ in range(rounds):
                times["not"].append(work(pool, micro, count) / count / 1000)
                tracing = atoll.trace(path)
                times["traced"].append(work(pool, micro, count) / count / 1000)
                start = now()
                events = tracing.stop()
                written.append((now() - start) / 1000 / max(events, 1))
            median = {
                way: results.number(
                    f"tracing.{key}.{way}",
                    values,
                    "µs",
                    f"{what}: {'traced' if way == 'traced' else 'not traced'}",
                )
                for way, values in times.items()
            }
            # Of pairs: what the machine does beside it changes slowly.
            more = 100 * (
                statistics.median(
                    a / b for a, b in zip(times["traced"], times["not"], strict=True)
                )
                - 1
            )
            if most is not None:
                results.goal(
                    f"what tracing costs: {what}",
                    f"< {most} %",
                    f"{more:.1f} %",
                    f"{median['traced']:.1f} and {median['not']:.1f} µs",
                    more < most,
                )
    results.number("tracing.write", written, "µs", "writing the file, each event")
    os.unlink(path)
    return results


if __name__ == "__main__":
    common.main(run, __doc__)
