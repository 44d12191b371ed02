"""python -m machine: run the programs of some seeds, or of some scripts."""

import argparse
import random
import sys
import time
from pathlib import Path

from . import drive
from . import program as programs


def arguments():
    parser = argparse.ArgumentParser(prog="python -m machine", description=__doc__)
    parser.add_argument("scripts", nargs="*", help="run these instead of seeds")
    parser.add_argument("--seed", type=int, help="the first seed (default: at random)")
    parser.add_argument("--programs", type=int, default=200, help="how many (default: 200)")
    parser.add_argument("--seconds", type=float, help="no new process after so long")
    parser.add_argument("--batch", type=int, default=10, help="programs in one process")
    parser.add_argument("--narrow", type=float, default=120, metavar="SECONDS",
                        help="for making a failing program small")  # fmt: skip
    parser.add_argument("--keep-going", action="store_true", help="after a failure")
    parser.add_argument("--times", type=int, default=1, help="run each process so often")
    parser.add_argument("--without", action="append", default=[], metavar="NAME",
                        help="leave out steps of that name, or that do such work")  # fmt: skip
    parser.add_argument("--into", type=Path, help="a folder for the scripts of failures")
    parser.add_argument("--show", action="store_true", help="print the scripts only")
    parser.add_argument("--flag", action="append", default=[], help="of the Python")
    return parser.parse_args()


def main():
    options = arguments()
    seed = random.randrange(10**9) if options.seed is None else options.seed
    if options.scripts:
        work = [[programs.read(Path(path).read_text())] for path in options.scripts]
    else:
        seeds = range(seed, seed + options.programs)
        work = drive.batches(seeds, options.batch, options.without)
    if options.show:
        for batch in work:
            for one in batch:
                print(f"# seed {one.seed}\n{one.script()}")
        return 0
    begin, done, found = time.monotonic(), 0, 0
    told = begin
    for batch in work:
        if time.monotonic() - told > 60:
            told = time.monotonic()
            print(f"{done} of {options.programs} right, {found} failures", flush=True)
        if options.seconds and time.monotonic() - begin > options.seconds:
            break
        for _ in range(options.times):
            while batch:
                right, failure = drive.run(batch, options.flag)
                done += right
                if failure is None:
                    break
                found += 1
                if options.narrow:
                    failure = drive.narrow(failure, seconds=options.narrow)
                print(f"=== failure {found}\n{failure.report()}", flush=True)
                if options.into:
                    options.into.mkdir(parents=True, exist_ok=True)
                    path = options.into / f"{failure.program.seed}-{int(time.time())}.py"
                    path.write_text(failure.program.script())
                    path.with_suffix(".txt").write_text(failure.report())
                if not options.keep_going:
                    return 1
                batch = batch[len(failure.before) + 1 :] if options.times == 1 else []
    print(f"{done} programs from seed {seed} right, {found} failures, "
          f"{time.monotonic() - begin:.0f} s")  # fmt: skip
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
