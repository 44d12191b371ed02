"""A program with a thread pool, and the same program with one line changed.

    python examples/one_line.py

It draws the Mandelbrot set. Threads take turns, since all of it is Python;
interpreters have a GIL each. The line is the one in WAYS.
"""

import os
import time
from concurrent.futures import ThreadPoolExecutor

from atoll import InterpreterPoolExecutor

WIDTH, HEIGHT, LIMIT = 78, 32, 20_000
WAYS = {
    "threads": ThreadPoolExecutor,
    "interpreters": InterpreterPoolExecutor,
}


def draw(row):
    """One line of the picture: what stays small is in the set."""
    line = ""
    for column in range(WIDTH):
        c = complex(3 * column / WIDTH - 2.2, 2.4 * row / HEIGHT - 1.2)
        z, steps = 0j, 0
        while steps < LIMIT and z.real * z.real + z.imag * z.imag < 4:
            z = z * z + c
            steps += 1
        line += "@" if steps == LIMIT else " .:-=+*#%"[min(steps // 4, 8)]
    return line


def main():
    workers = os.process_cpu_count()
    pictures = set()
    for name, executor in WAYS.items():
        start = time.perf_counter()
        with executor(workers) as pool:
            picture = "\n".join(pool.map(draw, range(HEIGHT)))
        print(f"{workers} {name}: {time.perf_counter() - start:.2f} s")
        pictures.add(picture)
    assert len(pictures) == 1, "the pictures differ"
    print(picture)


if __name__ == "__main__":
    main()
