"""Imports: how long `import atoll` takes, in a new Python and in a new
interpreter of one.

Each time is of one import in a Python, or an interpreter, that has done
nothing else. The interpreters are made by the standard library, so that atoll
has not been there before. Compiled files (.pyc) are there.
"""

import common
import messages

IN_MAIN = """
import sys, time
start = time.perf_counter()
__import__(sys.argv[1])
print((time.perf_counter() - start) * 1000)
"""

IN_INTERPRETER = """
import json, sys, time
from concurrent import interpreters

queue = interpreters.create_queue()
source = '''
import time
start = time.perf_counter()
import {0}
elapsed = (time.perf_counter() - start) * 1000
'''.format(sys.argv[1])
if sys.argv[3] == "after":
    __import__(sys.argv[1])
times = []
for _ in range(int(sys.argv[2])):
    interpreter = interpreters.create()
    interpreter.exec(source)
    interpreter.prepare_main(queue=queue)  # not before: it imports modules
    interpreter.exec("queue.put(elapsed)")
    times.append(queue.get())
    interpreter.close()
print(json.dumps(times))
"""


RIVAL = "concurrent.interpreters"


def in_main(repeats, rival, results):
    for name in ("atoll", RIVAL) if rival else ("atoll",):
        common.run_python(IN_MAIN, name)  # leaves the .pyc files behind
    ours, rivals = [], []
    for _ in range(repeats):
        ours.append(common.run_python(IN_MAIN, "atoll"))
        if rival:
            rivals.append(common.run_python(IN_MAIN, RIVAL))
    our = results.number("import.main", ours, "ms", "import atoll in a new Python")
    beside = "nothing"
    if rival:
        their = results.number(
            "import.main_stdlib", rivals, "ms", f"import {RIVAL} in a new Python"
        )
        beside = f"{RIVAL} {their:.1f} ms"
    results.goal("import atoll in main", "≤ 15 ms", f"{our:.1f} ms", beside, our <= 15)


def in_interpreter(repeats, results):
    ours, first, rivals = [], [], []
    for _ in range(3):
        count = -(-repeats // 3)
        ours += common.run_python(IN_INTERPRETER, "atoll", count, "after")
        first += common.run_python(IN_INTERPRETER, "atoll", 1, "first")
        rivals += common.run_python(IN_INTERPRETER, RIVAL, count, "after")
    our = results.number(
        "import.interpreter",
        ours,
        "ms",
        "import atoll in an interpreter, when main has it",
    )
    results.number(
        "import.interpreter_first",
        first,
        "ms",
        "import atoll in an interpreter, first in the process",
    )
    their = results.number(
        "import.interpreter_stdlib",
        rivals,
        "ms",
        f"import {RIVAL} in an interpreter",
    )
    results.goal(
        "import atoll in an interpreter",
        "≤ 3 ms",
        f"{our:.2f} ms",
        f"{RIVAL} {their:.2f} ms",
        our <= 3,
    )


def run(args):
    results = common.Results()
    repeats = 3 if args.quick else 15
    rival = messages.stdlib is not None
    in_main(repeats, rival, results)
    if rival:
        in_interpreter(repeats, results)
    return results


if __name__ == "__main__":
    common.main(run, __doc__)
