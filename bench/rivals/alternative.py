"""One way to have a second worker: how soon it answers, its memory, a round trip.

    python bench/rivals/alternative.py WAY [TRIPS]

Runs in any CPython that has what the way needs. Prints JSON: `first`, seconds from before
the import of the library until the first worker has answered; `further`, the same for
three more workers, each; `memory`, KiB of PSS that a further worker adds, over the whole
tree of processes; and `trip`, seconds of an int there and back, for five rounds of TRIPS.
"""

import json
import os
import statistics
import sys
import time

ROUNDS, FURTHER = 5, 3


class Echo:
    """What a worker is: it answers with what it got."""

    def echo(self, n):
        return n


def echo_pipe(pipe):
    while (n := pipe.recv()) is not None:
        pipe.send(n)


def echo_queues(there, back):
    while (n := there.get()) is not None:
        back.put(n)


# Each `start` imports its library and returns a function that makes a worker, which is a
# pair: a function of an int that has it sent there and back, and one that ends it.


def start_threads():
    import queue
    import threading

    def make():
        there, back = queue.SimpleQueue(), queue.SimpleQueue()
        threading.Thread(target=echo_queues, args=(there, back)).start()
        return lambda n: (there.put(n), back.get())[1], lambda: there.put(None)

    return make


def start_processes():
    import multiprocessing

    def make():
        here, there = multiprocessing.Pipe()
        multiprocessing.Process(target=echo_pipe, args=(there,)).start()
        return lambda n: (here.send(n), here.recv())[1], lambda: here.send(None)

    return make


def start_interpreters():
    import threading
    from concurrent import interpreters

    def make():
        worker = interpreters.create()
        there, back = interpreters.create_queue(), interpreters.create_queue()
        worker.prepare_main(there=there, back=back)
        code = "while (n := there.get()) is not None: back.put(n)"
        threading.Thread(target=worker.exec, args=(code,)).start()
        return lambda n: (there.put(n), back.get())[1], lambda: there.put(None)

    return make


def start_atoll():
    import atoll

    def make():
        worker = atoll.create()
        there, back = atoll.create_queue(), atoll.create_queue()
        worker.call_in_thread(echo_queues, there, back)
        return lambda n: (there.put(n), back.get())[1], lambda: there.put(None)

    return make


def start_ray():
    import ray

    ray.init(num_cpus=FURTHER + 2, include_dashboard=False, log_to_driver=False)
    actor = ray.remote(Echo)

    def make():
        worker = actor.remote()
        return lambda n: ray.get(worker.echo.remote(n)), lambda: ray.kill(worker)

    return make


WAYS = {
    "atoll": start_atoll,
    "threads": start_threads,
    "processes": start_processes,
    "interpreters": start_interpreters,
    "ray": start_ray,
}


def tree(root):
    """The ids of the process `root` and of all below it."""
    parents = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat") as file:
                    parents[int(name)] = int(file.read().rpartition(")")[2].split()[1])
            except OSError:
                pass  # it has ended
    found, grown = {root}, True
    while grown:
        more = {pid for pid, parent in parents.items() if parent in found} - found
        grown = bool(more)
        found |= more
    return found


def memory():
    """KiB (PSS) of this process and all below it."""
    total = 0
    for pid in tree(os.getpid()):
        try:
            with open(f"/proc/{pid}/smaps_rollup") as file:
                total += sum(int(line.split()[1]) for line in file if line[:4] == "Pss:")
        except OSError:
            pass
    return total


def main():
    way, trips = sys.argv[1], int(sys.argv[2])
    begin = time.perf_counter()
    make = WAYS[way]()
    workers = [make()]
    workers[0][0](1)
    first = time.perf_counter() - begin
    before, further = memory(), []
    for _ in range(FURTHER):
        begin = time.perf_counter()
        workers.append(make())
        workers[-1][0](1)
        further.append(time.perf_counter() - begin)
    added = (memory() - before) / FURTHER
    ask, rounds = workers[0][0], []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        for n in range(trips):
            ask(n)
        rounds.append((time.perf_counter() - begin) / trips)
    said = {
        "first": first,
        "further": statistics.median(further),
        "memory": added,
        "trip": rounds,
    }
    print(json.dumps(said), flush=True)
    for _, end in workers:
        end()


if __name__ == "__main__":
    main()
