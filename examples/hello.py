"""The example of the README: two interpreters, two queues, one job each."""

import atoll


def count_primes(jobs, results):
    while (limit := jobs.get()) is not None:
        results.put(
            sum(all(n % d for d in range(2, int(n**0.5) + 1)) for n in range(2, limit))
        )


if __name__ == "__main__":
    jobs, results = atoll.create_queue(), atoll.create_queue()
    workers = [atoll.create() for _ in range(2)]
    threads = [w.call_in_thread(count_primes, jobs, results) for w in workers]
    for limit in (50_000, 60_000, 70_000, 80_000, None, None):
        jobs.put(limit)
    print(sorted(results.get() for _ in range(4)))
    [t.join() for t in threads]
