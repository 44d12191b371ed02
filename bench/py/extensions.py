"""Extension modules: NumPy and what is built on it, in interpreters.

Rounds of work by two interpreters and by two processes, in turns; how long the
import of NumPy takes in an interpreter and in a fresh process; the memory that a
further interpreter has, and what it leaves behind.
"""

import importlib.util
import multiprocessing
import os
import statistics
import time

# One thread for each worker: what atoll gives two interpreters on two cores, and
# what a pool of processes should be told. Before anything reads it.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import atoll  # noqa: E402
import common  # noqa: E402

WORKERS = 2
STACK = [
    name
    for name in ("numpy", "scipy", "pandas", "sklearn")
    if importlib.util.find_spec(name) is not None
]

IMPORT = """
import json, time
start = time.perf_counter()
import numpy
print(json.dumps(time.perf_counter() - start))
"""

IMPORT_THERE = """
import atoll, json
CODE = '''
import time
start = time.perf_counter()
import numpy
queue.put(time.perf_counter() - start)
'''
times, queue, kept = [], atoll.create_queue(), []
for _ in range(4):
    interp = atoll.create()
    interp.prepare_main(queue=queue)
    interp.exec(CODE)
    times.append(queue.get())
    kept.append(interp)
for interp in kept:
    interp.close()
print(json.dumps(times))
"""

# Proportional set size: pages that are shared count by their share.
MEMORY = """
import atoll, gc, json, sys
code = "import " + sys.argv[1]
def pss():
    gc.collect()
    with open("/proc/self/smaps_rollup") as file:
        for line in file:
            if line.startswith("Pss:"):
                return int(line.split()[1])
alive, cycles, kept = [], [], []
def make():
    interp = atoll.create()
    interp.exec(code)
    return interp
for _ in range(4):
    before = pss()
    kept.append(make())
    alive.append(pss() - before)
for interp in kept:
    interp.close()
del kept, interp
for _ in range(8):
    before = pss()
    make().close()
    cycles.append(pss() - before)
print(json.dumps([alive[1:], cycles[2:]]))
"""


def rounds_of_work(seconds):
    """How often the stack's work was done in that time. Runs in a worker."""
    import numpy as np

    rng = np.random.default_rng(1)
    a = rng.normal(size=(200, 200))
    done, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        b = np.sort(a.ravel())[::3]
        s = np.linalg.svd(a[:60, :60])[1]
        total = float(np.fft.rfft(b).real.sum() + s.sum() + np.einsum("ij,jk->", a, a))
        texts = [f"{x:.3f}" for x in b[:300]]
        if not np.isfinite(total) or len(",".join(texts)) < 300:
            raise RuntimeError("a wrong result")
        if "pandas" in STACK:
            import pandas as pd

            frame = pd.DataFrame({"k": np.arange(2000) % 7, "v": b[:2000]})
            if len(frame.groupby("k").v.mean()) != 7:
                raise RuntimeError("a wrong result")
        if "scipy" in STACK:
            from scipy import optimize

            found = optimize.minimize(lambda x: ((x - 1) ** 2).sum(), np.zeros(3))
            if abs(found.x - 1).max() > 1e-3:
                raise RuntimeError("a wrong result")
        done += 1
    return done


def answer_pipe(pipe):
    while (seconds := pipe.recv()) is not None:
        pipe.send(rounds_of_work(seconds))


def answer_queue(jobs, results):
    while (seconds := jobs.get()) is not None:
        results.put(rounds_of_work(seconds))


def measure_rounds(args, results):
    seconds, repeats = (0.2, 2) if args.quick else (3.0, 5)
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    for _ in range(WORKERS):
        here, there = context.Pipe()
        process = context.Process(target=answer_pipe, args=(there,))
        process.start()
        pipes.append(here)
        processes.append(process)
    back = atoll.create_queue()
    jobs = [atoll.create_queue() for _ in range(WORKERS)]
    interpreters = [atoll.create() for _ in range(WORKERS)]
    threads = [
        interp.call_in_thread(answer_queue, queue, back)
        for interp, queue in zip(interpreters, jobs, strict=True)
    ]

    def by_processes(seconds):
        for pipe in pipes:
            pipe.send(seconds)
        return sum(pipe.recv() for pipe in pipes)

    def by_interpreters(seconds):
        for queue in jobs:
            queue.put(seconds)
        return sum(back.get() for _ in jobs)

    by_processes(0.3)
    by_interpreters(0.3)
    of_processes, of_interpreters = [], []
    for _ in range(repeats):
        of_processes.append(by_processes(seconds) / seconds)
        of_interpreters.append(by_interpreters(seconds) / seconds)
    for pipe, queue in zip(pipes, jobs, strict=True):
        pipe.send(None)
        queue.put(None)
    for worker in (*processes, *threads):
        worker.join()
    for interp in interpreters:
        interp.close()

    stack = " + ".join(STACK)
    there = results.number(
        "extensions.processes", of_processes, "rounds/s", f"{stack}: two processes"
    )
    here = results.number(
        "extensions.interpreters", of_interpreters, "rounds/s", f"{stack}: two interpreters"
    )
    ratio = statistics.median(
        a / b for a, b in zip(of_interpreters, of_processes, strict=True)
    )
    results.goal(
        f"work with {stack} in two interpreters",
        "≥ 0.95 × the rounds of two processes",
        f"{ratio:.2f} ×",
        f"{here:.1f} and {there:.1f} rounds/s",
        ratio >= 0.95,
    )


def measure_import(args, results):
    repeats = 2 if args.quick else 7
    in_main, further = [], []
    for _ in range(repeats):
        in_main.append(common.run_python(IMPORT) * 1e3)
        further.append(statistics.median(common.run_python(IMPORT_THERE)[1:]) * 1e3)
    main = results.number("extensions.import.main", in_main, "ms", "import numpy, in main")
    there = results.number(
        "extensions.import.further", further, "ms", "import numpy, further interpreters"
    )
    ratio = statistics.median(a / b for a, b in zip(further, in_main, strict=True))
    results.goal(
        "import of NumPy in the second and later interpreters",
        "≤ 1.3 × its time in main",
        f"{ratio:.2f} ×",
        f"{there:.0f} and {main:.0f} ms",
        ratio <= 1.3,
    )


def measure_memory(results):
    bare, _ = common.run_python(MEMORY, "sys")
    least = statistics.median(bare)
    for names, most, stays in (
        (["numpy"], 11, 3),
        (["numpy", "scipy", "pandas", "sklearn"], 80, 8),
    ):
        stack = " + ".join(names)
        if not set(names) <= set(STACK):
            results.goal(f"memory of {stack}", f"≤ {most} MB", "", "not installed", None)
            continue
        alive, cycles = common.run_python(MEMORY, ", ".join(names))
        key = "extensions.memory." + names[-1]
        added = results.number(
            key, [(value - least) / 1e3 for value in alive], "MB",
            f"PSS that {stack} adds in a further interpreter",
        )
        left = results.number(
            f"{key}.left", [value / 1e3 for value in cycles], "MB",
            f"what an interpreter with {stack} leaves behind",
        )
        results.goal(
            f"PSS of {stack} in a further interpreter", f"≤ {most} MB", f"{added:.1f} MB",
            f"the bare interpreter {least / 1e3:.1f} MB", added <= most,
        )
        results.goal(
            f"left behind by an interpreter with {stack}", f"≤ {stays} MB",
            f"{left:.1f} MB", "", left <= stays,
        )


def run(args):
    results = common.Results()
    measure_rounds(args, results)
    measure_import(args, results)
    measure_memory(results)
    return results


if __name__ == "__main__":
    common.main(run, __doc__)
