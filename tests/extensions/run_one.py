"""Use one package in one way: run_one.py PACKAGE MODE.

A program of its own, since what it tries may crash. It prints one line of JSON and
ends like any program: whoever started it looks at the status, too. The modes:

main       in the main interpreter; atoll is not imported
sequence   in three interpreters, one after the other
together   in three interpreters at the same time, twice in each
with-main  in main, then in three interpreters while main goes on using it
"""

import faulthandler
import json
import os
import resource
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

import ext_packages as packages
import within

MODES = ("main", "sequence", "together", "with-main")
HERE = os.path.dirname(os.path.abspath(__file__))
INTERPRETERS = 3


def in_threads(functions: list[Callable[[], None]]) -> None:
    """Run all at the same time; raises all that they raise."""
    errors: list[Exception] = []
    gate = threading.Barrier(len(functions))

    def run(function: Callable[[], None]) -> None:
        try:
            gate.wait()
            function()
        except Exception as error:
            errors.append(error)

    threads = [
        threading.Thread(target=run, args=(function,), name="caller") for function in functions
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise ExceptionGroup(f"in {len(errors)} of {len(functions)} threads", errors)


def create() -> Any:
    import atoll

    interp = atoll.create()
    interp.exec(f"import sys\nif {HERE!r} not in sys.path: sys.path.insert(0, {HERE!r})")
    return interp


def main_mode(module: str) -> None:
    for seed in range(3):
        within.use(module, seed)


def sequence(module: str) -> None:
    for seed in range(INTERPRETERS):
        with create() as interp:
            interp.call(within.use, module, seed)


def together(module: str, *, with_main: bool = False) -> None:
    interps = [create() for _ in range(INTERPRETERS)]

    def twice(interp: Any, seed: int) -> None:
        for i in range(2):
            interp.call(within.use, module, seed + i)

    def make(interp: Any, seed: int) -> Callable[[], None]:
        return lambda: twice(interp, seed)

    work = [make(interp, 100 * i) for i, interp in enumerate(interps)]
    try:
        if with_main:
            within.use(module, 7)
            in_threads_and_here(work, lambda: within.use(module, 8))
        else:
            in_threads(work)
    finally:
        for interp in interps:
            interp.close()


def in_threads_and_here(functions: list[Callable[[], None]], here: Callable[[], None]) -> None:
    """The same, and main's own thread does `here` meanwhile, as often as it can."""
    done = threading.Event()
    errors: list[Exception] = []

    def all_of_them() -> None:
        try:
            in_threads(functions)
        except Exception as error:
            errors.append(error)
        finally:
            done.set()

    thread = threading.Thread(target=all_of_them, name="caller")
    thread.start()
    try:
        here()
        while not done.is_set():
            here()
    except Exception as error:
        errors.append(error)
    thread.join()
    if errors:
        raise ExceptionGroup("in main and in interpreters", errors)


def text_of(error: BaseException) -> str:
    """All that is known of an error; what came from interpreters is its cause."""
    return "".join(traceback.format_exception(error))


def why(error: BaseException) -> str:
    """An error on one line, and the one in whose wake it came."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if error.__cause__ is not None and type(error).__name__ == "ExecutionFailed":
        error = error.__cause__
    text = one_line(error)
    first = error
    while first.__context__ is not None and not first.__suppress_context__:
        first = first.__context__
    return text if first is error else f"{text} (after {one_line(first)})"


def one_line(error: BaseException) -> str:
    text = traceback.format_exception_only(error)[-1].strip()
    text = text if text != "AssertionError" else f"{text} {last_line(error)}"
    return text.replace(HERE + os.sep, "")


def last_line(error: BaseException) -> str:
    """Where an error without a word was raised."""
    text = text_of(error).strip().splitlines()
    lines = [line for line in text if line.lstrip().startswith("File ")]
    return lines[-1].strip() if lines else ""


def run(package: packages.Package, mode: str) -> dict[str, Any]:
    result: dict[str, Any] = {
        "package": package.name,
        "mode": mode,
        "python": sys.version.split()[0],
        "version": package.version(),
    }
    start = time.perf_counter()
    try:
        if mode == "main":
            main_mode(package.use)
        elif mode == "sequence":
            sequence(package.use)
        else:
            together(package.use, with_main=mode == "with-main")
        result["ok"] = True
    except Exception as error:
        result["ok"] = False
        result["why"] = why(error)
        result["error"] = text_of(error)
    result["seconds"] = round(time.perf_counter() - start, 3)
    result["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return result


def main() -> int:
    if len(sys.argv) != 3 or sys.argv[2] not in MODES:
        print(f"usage: run_one.py PACKAGE {'|'.join(MODES)}", file=sys.stderr)
        return 2
    # What hangs says where, just before it is killed.
    if limit := float(os.environ.get("ATOLL_DUMP_AFTER", "0")):
        faulthandler.dump_traceback_later(limit)
    result = run(packages.BY_NAME[sys.argv[1]], sys.argv[2])
    faulthandler.cancel_dump_traceback_later()
    print(json.dumps(result), flush=True)
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
