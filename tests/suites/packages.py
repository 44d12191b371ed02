"""Run a package's own tests in main and in an interpreter, and compare.

packages.py NAME FOLDER [PYTEST ARGS...] runs both in child processes, one after the
other, and prints which tests passed in main and not in the interpreter. The exit status
is 0 if all of those are in known_NAME.txt. FOLDER gets what the tests did.

A child that crashes, or where nothing happens for a long time, is started again
without the tests that are done; the test that ran then counts as crashed.
"""

import collections
import json
import os
import re
import sys
import time

import pytest_in
import record

HERE = os.path.dirname(os.path.abspath(__file__))
#: So many seconds may pass without a test beginning or ending.
PATIENCE = 300
MOST_SHOWN = 100


def run(name: str, where: str, folder: str, args: list[str]) -> dict[str, str]:
    """All outcomes of the tests in one place."""
    path = os.path.join(folder, f"{name}-{where}.txt")
    # Plugins that happen to be installed have no part in this.
    env = os.environ | {
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTHONPATH": HERE,
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    begun = time.monotonic()
    record.run_recorded(
        [sys.executable, "-X", "faulthandler", os.path.join(HERE, "pytest_in.py")]
        + [where, name, path, *args],
        [path],
        os.path.join(folder, f"{name}-{where}.log"),
        env,
        PATIENCE,
        lambda text: print(f"  {where}: {text}", flush=True),
        cwd=folder,
    )
    outcomes, _, _ = record.read(path)
    outcomes.pop(record.ALL, None)
    counts = collections.Counter(outcomes.values())
    text = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items()))
    print(f"{name}, {where}: {text}; {time.monotonic() - begun:.0f} s", flush=True)
    return outcomes


def known(name: str) -> dict[str, str]:
    """Tests that may differ: "NODE-ID # REASON" on each line; "*" stands for anything."""
    path = os.path.join(HERE, f"known_{name}.txt")
    found: dict[str, str] = {}
    with open(path) as file:
        for line in file:
            test, _, why = line.strip().partition(" # ")
            if test and not test.startswith("#"):
                assert why, f"{path}: why does {test} differ?"
                found[test] = why
    return found


def matches(pattern: str, test: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), test) is not None


def main() -> int:
    name, folder, *args = sys.argv[1:]
    assert name in pytest_in.SUITES, f"no such suite: {name}"
    folder = os.path.abspath(folder)
    os.makedirs(folder, exist_ok=True)
    there = run(name, "main", folder, args)
    here = run(name, "atoll", folder, args)
    good = [test for test, outcome in there.items() if outcome in record.GOOD]
    if not good:
        print(f"error: no test passed in main; see {folder}")
        return 1
    differing = {
        test: here.get(test, "missing") for test in good if here.get(test) != there[test]
    }
    if record.END in here and record.END not in there:
        differing[record.END] = here[record.END]
    reasons = known(name)
    used = set()
    new = {}
    for test, outcome in differing.items():
        pattern = next((p for p in reasons if matches(p, test)), None)
        used.add(pattern)
        if pattern is None:
            new[test] = outcome
        else:
            print(f"known: {test}: {outcome}: {reasons[pattern]}")
    for test, outcome in list(new.items())[:MOST_SHOWN]:
        print(f"NEW: {test}: {outcome}")
    if len(new) > MOST_SHOWN:
        print(f"... and {len(new) - MOST_SHOWN} more: see {folder}")
    if not args:  # all tests ran
        for pattern in set(reasons) - used:
            print(f"known_{name}.txt: this one passes now: {pattern}")
    with open(os.path.join(folder, f"{name}-difference.json"), "w") as file:
        json.dump(differing, file, indent=1)
    print(
        f"{name}: {len(good)} tests pass in main; of those {len(differing)} do not in an "
        f"interpreter, {len(differing) - len(new)} of them for known reasons"
    )
    return 1 if new else 0


if __name__ == "__main__":
    sys.exit(main())
