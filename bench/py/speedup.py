"""Speed-up: pure-Python work in two interpreters, and in two processes.

In each round the work is done once by the main interpreter alone, then twice
at once by two processes, then twice at once by two interpreters. All workers
were made before. Twice the work in the same time is a speed-up of 2.
"""

import multiprocessing
import time

import atoll
import common
import messages
import peers

WORKERS = 2


def alone(size):
    start = time.perf_counter()
    peers.crunch(size)
    return time.perf_counter() - start


def together(size, sends, receives, answer):
    """Seconds until all workers have done `crunch` of `size`."""
    start = time.perf_counter()
    for send in sends:
        send(size)
    answers = [receive() for receive in receives]
    taken = time.perf_counter() - start
    if any(given != answer for given in answers):
        raise RuntimeError("a worker gave another answer")
    return taken


def run(args):
    results = common.Results()
    size, rounds = (300_000, 3) if args.quick else (4_000_000, 9)

    processes, pipes = [], []
    for _ in range(WORKERS):
        here, there = multiprocessing.Pipe()
        process = messages.process_peer(peers.crunch_pipe, there)
        process.__enter__()
        processes.append(process)
        pipes.append(here)
    by_processes = (
        [pipe.send for pipe in pipes],
        [pipe.recv for pipe in pipes],
    )
    back = atoll.create_queue()
    queues = [atoll.create_queue() for _ in range(WORKERS)]
    interpreters = [messages.atoll_peer(peers.crunch_queue, queue, back) for queue in queues]
    for interpreter in interpreters:
        interpreter.__enter__()
    by_interpreters = ([queue.put for queue in queues], [back.get] * WORKERS)

    answer = peers.crunch(size)
    for workers in (by_processes, by_interpreters):
        together(size, *workers, answer)  # warm up
    singles, of_processes, of_interpreters, ratios = [], [], [], []
    for _ in range(rounds):
        single = alone(size)
        process = together(size, *by_processes, answer)
        interpreter = together(size, *by_interpreters, answer)
        singles.append(single)
        of_processes.append(WORKERS * single / process)
        of_interpreters.append(WORKERS * single / interpreter)
        ratios.append(process / interpreter)

    for send in (*by_processes[0], *by_interpreters[0]):
        send(peers.END)
    for peer in (*processes, *interpreters):
        peer.__exit__(None, None, None)

    results.number("speedup.alone", singles, "s", "the work, done once")
    by_process = results.number(
        "speedup.processes", of_processes, "×", "speed-up: two processes"
    )
    by_interpreter = results.number(
        "speedup.interpreters",
        of_interpreters,
        "×",
        "speed-up: two interpreters",
    )
    ratio = results.number(
        "speedup.ratio",
        ratios,
        "×",
        "speed-up of interpreters against processes, round by round",
    )
    results.goal(
        "pure-Python speed-up with two workers",
        "≥ 0.97 × that of processes",
        f"{ratio:.3f} × ({by_interpreter:.2f})",
        f"two processes {by_process:.2f}",
        ratio >= 0.97,
    )
    return results


if __name__ == "__main__":
    common.main(run, __doc__)
