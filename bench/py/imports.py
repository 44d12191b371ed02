"""Imports: how long `import atoll` takes, in a new Python and in a new
interpreter of one.

Each time is of one import in a Python, or an interpreter, that has done
nothing else. The interpreters are made by the standard library, so that atoll
has not been there before. Compiled files (.pyc) are there.
"""

import common

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


def run(args):
    results = common.Results()
    repeats = 3 if args.quick else 15
    rival_name = "concurrent.interpreters"
    common.run_python(IN_MAIN, "atoll")  # leaves the .pyc files behind
    ours, rivals = [], []
    for _ in range(repeats):
        ours.append(common.run_python(IN_MAIN, "atoll"))
        rivals.append(common.run_python(IN_MAIN, rival_name))
    our = results.number("import.main", ours, "ms", "import atoll in a new Python")
    rival = results.number(
        "import.main_stdlib",
        rivals,
        "ms",
        f"import {rival_name} in a new Python",
    )
    results.goal(
        "import atoll in main",
        "≤ 15 ms",
        f"{our:.1f} ms",
        f"{rival_name} {rival:.1f} ms",
        our <= 15,
    )

    ours, first, rivals = [], [], []
    for _ in range(3):
        count = -(-repeats // 3)
        ours += common.run_python(IN_INTERPRETER, "atoll", count, "after")
        first += common.run_python(IN_INTERPRETER, "atoll", 1, "first")
        rivals += common.run_python(IN_INTERPRETER, rival_name, count, "after")
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
    rival = results.number(
        "import.interpreter_stdlib",
        rivals,
        "ms",
        f"import {rival_name} in an interpreter",
    )
    results.goal(
        "import atoll in an interpreter",
        "≤ 3 ms",
        f"{our:.2f} ms",
        f"{rival_name} {rival:.2f} ms",
        our <= 3,
    )
    return results


if __name__ == "__main__":
    common.main(run, __doc__)
