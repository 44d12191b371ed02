"""AnyIO: a hundred coroutines wait for four interpreters; the same under Trio.

    python examples/anyio_search.py [trio]

A future of atoll's is awaited as it is, without a thread. When the time is up, the scope
cancels the tasks too, those that run as well.
"""

import sys

import anyio
import atoll


def largest_prime_below(n):
    def is_prime(k):
        return all(k % d for d in range(2, int(k**0.5) + 1))

    return next(k for k in range(n - 1, 1, -1) if is_prime(k))


def search_for_ever(n):
    while True:
        n += largest_prime_below(n)


async def main():
    found = {}

    async def find(n):
        found[n] = await pool.submit(largest_prime_below, n)

    with atoll.InterpreterPoolExecutor(4) as pool:
        async with anyio.create_task_group() as group:
            for n in range(10_000, 1_010_000, 10_000):
                group.start_soon(find, n)
        print(f"{len(found)} primes, the last one is {max(found.values()):,}")

        with anyio.move_on_after(0.2) as scope:
            await pool.submit(search_for_ever, 1000)
        print("the search has been stopped:", scope.cancelled_caught)


anyio.run(main, backend=(sys.argv[1:] or ["asyncio"])[0])
