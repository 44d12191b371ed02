"""A soak test: packages with extension modules, mixed in interpreters that come and go.

mix.py [SECONDS [SEED]] starts a child for each part, so that a crash is counted and not
the end. Part one uses packages in up to four interpreters at once, under a load that
changes. Part two makes, uses and closes interpreters one after the other and says how
much memory each leaves behind once things have settled.
"""

import itertools
import json
import os
import random
import statistics
import subprocess
import sys
import threading
import time
import traceback
from typing import Any

import atoll
import ext_packages as packages
import run_one
import within

MIX = ("numpy", "pandas", "scipy", "scikit-learn", "lxml", "pydantic", "Pillow")
SLOTS = 4
CYCLES = 12
#: How many of the slots work, in turn.
PHASES = (4, 1, 3, 2, 4)
PHASE_SECONDS = 8


def memory() -> dict[str, int]:
    """Resident memory, and our share of it, in KiB."""
    found = {}
    with open("/proc/self/smaps_rollup") as file:
        for line in file:
            name, _, value = line.partition(":")
            if name in ("Rss", "Pss"):
                found[name.lower()] = int(value.split()[0])
    return found


def modules(names: tuple[str, ...]) -> list[str]:
    return [packages.BY_NAME[name].use for name in names if packages.BY_NAME[name].installed()]


class Mix:
    """Part one: threads with an interpreter each, which is replaced now and then."""

    def __init__(self, seconds: float, seed: int) -> None:
        self.begin = time.monotonic()
        self.end = self.begin + seconds
        self.seed = seed
        self.lock = threading.Lock()
        self.rounds = self.interpreters = 0
        self.errors: list[str] = []

    def resting(self, slot: int) -> bool:
        phase = int((time.monotonic() - self.begin) / PHASE_SECONDS)
        return slot >= PHASES[phase % len(PHASES)]

    def work(self, slot: int) -> None:
        chance = random.Random(self.seed * SLOTS + slot)
        uses = modules(MIX)
        try:
            while time.monotonic() < self.end:
                if self.resting(slot):
                    time.sleep(0.2)
                    continue
                self.one_life(slot, chance, uses)
        except Exception as error:
            with self.lock:
                self.errors.append("".join(traceback.format_exception(error)))

    def one_life(self, slot: int, chance: random.Random, uses: list[str]) -> None:
        with run_one.create() as interp:
            with self.lock:
                self.interpreters += 1
            for _ in range(chance.randint(1, 12)):
                interp.call(within.use, chance.choice(uses), chance.randrange(1000))
                with self.lock:
                    self.rounds += 1
                if time.monotonic() > self.end or self.resting(slot):
                    break

    def run(self) -> dict[str, Any]:
        threads = [threading.Thread(target=self.work, args=(i,)) for i in range(SLOTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        taken = time.monotonic() - self.begin
        return {
            "rounds": self.rounds,
            "interpreters": self.interpreters,
            "rounds_per_second": round(self.rounds / taken, 2),
            "errors": self.errors,
            **memory(),
        }


def left_behind(package: str) -> dict[str, Any]:
    """Part two: what a closed interpreter leaves behind, in KiB."""
    uses = modules((package,)) if package else []
    steps = []
    for cycle in range(CYCLES):
        with run_one.create() as interp:
            for use in uses:
                interp.call(within.use, use, cycle)
        steps.append(memory())
    settled = steps[CYCLES // 3 :]
    growth = {
        kind: round((settled[-1][kind] - settled[0][kind]) / (len(settled) - 1), 1)
        for kind in ("rss", "pss")
    }
    middle = statistics.median(b["rss"] - a["rss"] for a, b in itertools.pairwise(steps))
    return {
        "growth": growth,
        "median": middle,
        "rss": steps[-1]["rss"],
        "first": steps[0]["rss"],
    }


def child(*args: str) -> dict[str, Any]:
    """Run a part in a process of its own; what it found, or that it crashed."""
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", os.path.abspath(__file__), "--part", *args],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    try:
        found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    except (ValueError, IndexError):
        found = {}
    if done.returncode:
        found["crash"] = f"status {done.returncode}\n{done.stderr[-4000:]}"
    return found


def part(name: str, *args: str) -> dict[str, Any]:
    if name == "mix":
        return Mix(float(args[0]), int(args[1])).run()
    return left_behind(*args)


def main(seconds: float = 300, seed: int = 0) -> int:
    bad = 0
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 1:
        found = child("mix", str(min(left, 100)), str(seed))
        seed += 1
        if "crash" in found:
            bad += 1
            print(f"CRASH (seed {seed - 1}): {found['crash']}", flush=True)
            continue
        for error in found["errors"]:
            bad += 1
            print(f"ERROR (seed {seed - 1}): {error}", flush=True)
        print(
            f"mixed: {found['rounds']} rounds in {found['interpreters']} interpreters, "
            f"{found['rounds_per_second']} rounds/s; at the end {found['rss'] // 1024} MiB "
            f"resident, {found['pss'] // 1024} MiB shared fairly",
            flush=True,
        )
    for package in ("", *MIX):
        found = child("left", package)
        if "crash" in found:
            bad += 1
            print(f"CRASH (cycles of {package}): {found['crash']}", flush=True)
            continue
        print(
            f"{package or 'nothing imported'}: each closed interpreter leaves "
            f"{found['growth']['rss'] / 1024:.2f} MiB (of our share "
            f"{found['growth']['pss'] / 1024:.2f}, median {found['median'] / 1024:.2f}); "
            f"{found['first'] // 1024} MiB after the "
            f"first, {found['rss'] // 1024} MiB after {CYCLES}",
            flush=True,
        )
    print(f"crashes and errors: {bad}; atoll {atoll.__version__}")
    return 1 if bad else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--part"]:
        print(json.dumps(part(*sys.argv[2:])))
    else:
        given = dict(zip(("seconds", "seed"), map(int, sys.argv[1:]), strict=False))
        sys.exit(main(**given))
