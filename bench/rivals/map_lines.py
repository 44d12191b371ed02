"""The job of bench/py/mapping.py in other ways: in this process, with multiprocessing.

    python map_lines.py serial|pool FILE PROCESSES > OUT
    python map_lines.py serial - 1 < FILE > OUT

`work` is also what atoll map runs. MAP_LOOPS says how long it takes.
"""

import multiprocessing
import os
import sys

LOOPS = int(os.environ.get("MAP_LOOPS", "500"))
CHUNK = 256  # lines that Pool.imap sends at a time: 5 ms of work


def work(line):
    total = 0
    for number in range(LOOPS):
        total += number
    return line[::-1] if total else line


def records(file):
    for line in file:
        yield line.removesuffix("\n")


def main(way, path, processes):
    codec = {"encoding": "utf-8", "errors": "surrogateescape", "newline": "\n"}
    out = open(1, "w", closefd=False, **codec)
    file = open(0 if path == "-" else path, **codec)
    if way == "serial":
        for line in records(file):
            out.write(work(line))
            out.write("\n")
    else:
        with multiprocessing.Pool(processes) as pool:
            for result in pool.imap(work, records(file), CHUNK):
                out.write(result)
                out.write("\n")
    out.flush()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
