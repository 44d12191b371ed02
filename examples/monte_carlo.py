"""What is an option worth? NumPy on every core, in one process.

    python examples/monte_carlo.py

An Asian call pays what the mean price of a share over a year is above a strike.
Each batch simulates some years with random numbers of its own; a pool of
interpreters, each with its own NumPy, does them at once. Without NumPy there are
fewer years, in pure Python.
"""

import math
import os
import random
import time

from atoll import InterpreterPoolExecutor

START, STRIKE, RATE, VOLATILITY, DAYS = 100.0, 105.0, 0.03, 0.2, 252
DRIFT = (RATE - VOLATILITY**2 / 2) / DAYS
SPREAD = VOLATILITY / math.sqrt(DAYS)


def with_numpy(seed, years):
    """The sum of what `years` years pay, and of the squares."""
    import numpy as np

    steps = np.random.default_rng(seed).normal(DRIFT, SPREAD, (years, DAYS))
    means = START * np.exp(steps.cumsum(axis=1)).mean(axis=1)
    pays = np.maximum(means - STRIKE, 0) * math.exp(-RATE)
    return float(pays.sum()), float((pays**2).sum())


def without_numpy(seed, years):
    """The same in pure Python."""
    chance = random.Random(seed)
    total = squares = 0.0
    for _ in range(years):
        logarithm = mean = 0.0
        for _ in range(DAYS):
            logarithm += chance.gauss(DRIFT, SPREAD)
            mean += START * math.exp(logarithm) / DAYS
        pay = max(mean - STRIKE, 0) * math.exp(-RATE)
        total += pay
        squares += pay * pay
    return total, squares


def report(how, results, count, seconds):
    total, squares = (math.fsum(column) for column in zip(*results, strict=True))
    price = total / count
    error = math.sqrt((squares / count - price**2) / count)
    print(f"{how}: {price:.4f} ± {error:.4f} from {count:,} years, {seconds:.2f} s")


def main():
    workers = os.process_cpu_count()
    try:
        import numpy  # noqa: F401

        batch, years, preload = with_numpy, 5000, ["numpy"]
    except ImportError:
        print("NumPy is not installed: fewer years, in pure Python.")
        batch, years, preload = without_numpy, 400, []
    seeds, sizes = range(32), [years] * 32

    start = time.perf_counter()
    alone = [batch(*job) for job in zip(seeds, sizes, strict=True)]
    report("one after the other", alone, sum(sizes), time.perf_counter() - start)

    with InterpreterPoolExecutor(workers, preload=preload) as pool:
        pool.submit(batch, 0, 1).result()  # the first worker is there
        start = time.perf_counter()
        together = list(pool.map(batch, seeds, sizes))
        seconds = time.perf_counter() - start
    report(f"{workers} interpreters", together, sum(sizes), seconds)
    assert together == alone, "the same seeds, other results"


if __name__ == "__main__":
    main()
