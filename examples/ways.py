"""The same job in four ways: serially, in threads, processes, interpreters.

    python ways.py atoll [--workers N] [--limit FILES]

`with_atoll` below is all the code that atoll needs. The job itself is in
stdlib_ast.py; demo.py runs all four ways and compares them.
"""

import argparse
import multiprocessing
import os
import signal
import sys
import time
from concurrent.futures import (
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    as_completed,
)
from contextlib import ExitStack, closing
from multiprocessing.connection import Connection

import atoll
from stdlib_ast import Tally, batches, count, stdlib_files, worker

# Each way is a generator: it does the job, and yields the Tally of one batch
# of files after the other, in any order.


def with_atoll(jobs, workers):
    work, results = atoll.create_queue(), atoll.create_queue()
    for batch in jobs:
        work.put(batch)
    for _ in range(workers):
        work.put(None)

    with ExitStack() as stack:
        interpreters = [stack.enter_context(atoll.create()) for _ in range(workers)]
        threads = [
            interpreter.call_in_thread(worker, work, results) for interpreter in interpreters
        ]
        try:
            for _ in jobs:
                result = results.get()
                if isinstance(result, Exception):
                    raise result
                yield result
        finally:
            work.shutdown(immediate=True)  # for Ctrl-C: no more batches
            for thread in threads:
                thread.join()


def with_processes(jobs, workers):
    # Forking is the fastest way to make a process. It is safe here because
    # this one has no other threads and no other interpreters.
    fork = sys.platform == "linux"
    context = multiprocessing.get_context("fork" if fork else "spawn")
    with ProcessPoolExecutor(workers, context, ignore_ctrl_c) as pool:
        yield from pool_results(pool, jobs)


def with_threads(jobs, workers):
    with ThreadPoolExecutor(workers) as pool:
        yield from pool_results(pool, jobs)


def serially(jobs, workers):
    for batch in jobs:
        yield count(batch)


def pool_results(pool, jobs):
    futures = [pool.submit(count, batch) for batch in jobs]
    try:
        for future in as_completed(futures):
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)  # for Ctrl-C: no more batches


def ignore_ctrl_c():
    """Leave Ctrl-C, which a terminal sends to every process, to the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


WAYS = {
    "serially": serially,
    "threads": with_threads,
    "processes": with_processes,
    "atoll": with_atoll,
}


def run(way, jobs, workers, advance=lambda: None):
    """Do the whole job. Returns its Tally and the time in seconds.

    The time includes making the workers and ending them.
    """
    tally = Tally()
    start = time.perf_counter()
    with closing(WAYS[way](jobs, workers)) as results:
        for part in results:
            tally += part
            advance()
    return tally, time.perf_counter() - start


def positive(text):
    """An int of at least 1, for argparse."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is less than 1")
    return value


def add_job_arguments(parser):
    parser.add_argument(
        "--workers",
        type=positive,
        metavar="N",
        default=os.process_cpu_count() or 1,
        help="threads, processes or interpreters (default: one for each core)",
    )
    parser.add_argument(
        "--limit",
        type=positive,
        metavar="FILES",
        help="parse only the first FILES files",
    )


def main():
    parser = argparse.ArgumentParser(
        description="Parse the standard library in one of four ways."
    )
    parser.add_argument("way", choices=WAYS)
    add_job_arguments(parser)
    parser.add_argument("--report", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    jobs = batches(stdlib_files(args.limit))
    if args.report is None:
        tally, seconds = run(args.way, jobs, args.workers)
        print(f"{args.way}: {seconds:.2f} s")
        print(tally)
        return
    # For demo.py: say that we start, then each batch, then the result, and what CPU
    # there was for it.
    from atoll._cli.load import between, look

    with Connection(args.report, readable=False) as report:
        report.send(len(jobs))
        begin = look()
        result = run(args.way, jobs, args.workers, lambda: report.send(None))
        report.send((*result, between(begin, look())))


if __name__ == "__main__":
    try:
        main()
    except (KeyboardInterrupt, BrokenPipeError):  # Ctrl-C here, or in demo.py
        sys.exit(130)
