"""A program with two workers that compute, for tools that look at it from outside.

It says `ready` when both do, and goes on until its standard input ends. With an argument,
`grind_coffee` or `knead_dough`, the interpreter that runs that is shown to tools. The
functions under test are FUNCTIONS; main waits in await_breakfast.
"""

import contextlib
import os
import subprocess
import sys
import time

import atoll

FUNCTIONS = ("grind_coffee", "knead_dough")

#: How long it runs if nobody ends it.
LIMIT = 100.0


def grind_coffee(started, over):
    started.put((atoll.get_current().id, "grind_coffee"))
    end = time.monotonic() + LIMIT
    while not over.is_set() and time.monotonic() < end:
        sum(k * k for k in range(2000))


def knead_dough(started, over):
    started.put((atoll.get_current().id, "knead_dough"))
    end = time.monotonic() + LIMIT
    while not over.is_set() and time.monotonic() < end:
        fold(2000)


def fold(times):
    dough = 0
    for k in range(times):
        dough ^= 3 * k
    return dough


def await_breakfast():
    sys.stdin.read()


def main(shown):
    started, over = atoll.create_queue(), atoll.Event()
    with atoll.InterpreterPoolExecutor(2, name="kitchen") as pool:
        tasks = [pool.submit(work, started, over) for work in (grind_coffee, knead_dough)]
        where = {name: id for id, name in (started.get() for _ in tasks)}
        if shown:
            atoll.show_to_tools(atoll.Interpreter(where[shown]))
        if os.environ.get("ATOLL_SPARES") != "0":
            atoll.warm(1)  # a spare one is the newest, and none is being made
        print("ready", flush=True)
        await_breakfast()
        over.set()
        for task in tasks:
            task.result()
    print("over")


@contextlib.contextmanager
def running(*command, shown="", env=None, **kwargs):
    """The program, run by `command` (default: Python); both work. Afterwards it has to
    have ended well."""
    child = subprocess.Popen(
        [*(command or (sys.executable,)), __file__, *filter(None, [shown])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=env,
        **kwargs,
    )
    with child:
        try:
            said = child.stdout.readline()
            assert said == "ready\n", said
            yield child
            rest, _ = child.communicate("", timeout=60)
            assert (rest, child.returncode) == ("over\n", 0)
        finally:
            child.kill()


if __name__ == "__main__":
    main(*sys.argv[1:] or [""])
