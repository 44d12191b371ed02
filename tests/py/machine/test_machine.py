"""Programs over all of atoll, made at random, against a model; see helpers/machine.

200 programs, others each time; ATOLL_MACHINE_SEED=N begins with that seed, and
ATOLL_MACHINE_PROGRAMS says how many. With ATOLL_NIGHTLY=1 it is as many as come in an
hour, or in ATOLL_MACHINE_SECONDS. A failure prints its program as a script.
"""

import os
import random
import time
from pathlib import Path

import pytest
from machine import drive, program

NIGHTLY = os.environ.get("ATOLL_NIGHTLY") == "1"
SEED = int(os.environ.get("ATOLL_MACHINE_SEED", random.randrange(10**9)))
SECONDS = float(os.environ.get("ATOLL_MACHINE_SECONDS", 3600 if NIGHTLY else 300))
PROGRAMS = int(os.environ.get("ATOLL_MACHINE_PROGRAMS", 10**6 if NIGHTLY else 200))
PARTS = 8  # they can run side by side

FOUND = sorted((Path(__file__).parent / "found").glob("*.py"))


@pytest.mark.timeout(SECONDS + 600)
@pytest.mark.parametrize("part", range(PARTS))
def test_nothing_hangs_is_lost_or_crashes(part):
    begin, done, count = time.monotonic(), 0, PROGRAMS // PARTS
    seeds = range(SEED + part * count, SEED + (part + 1) * count)
    for batch in drive.batches(seeds, 10):
        right, failure = drive.run(batch)
        done += right
        if failure is not None:
            pytest.fail(drive.narrow(failure, seconds=60).report(), pytrace=False)
        if time.monotonic() - begin > SECONDS / PARTS:
            break
    assert done


@pytest.mark.parametrize("path", FOUND, ids=lambda path: path.stem)
def test_what_it_has_found(path):
    one = program.read(path.read_text())
    for _ in range(20 if NIGHTLY else 2):
        _, failure = drive.run([one])
        assert failure is None, failure.report()


# ------------------------------------------------------------ does it see anything?

QUEUE = ("create_queue", {"maxsize": 0})
ITEM = ("send", {"line": 0, "kind": "small", "timeout": 0})
LOCK = ("create_lock", {"kind": "Lock"})
SABOTAGE = {
    "lost": ([QUEUE, ITEM, ("lose", {"line": 0})], "lost: "),
    "doubled": ([QUEUE, ITEM, ("double", {"line": 0})], "came to"),
    "out of order": ([QUEUE, ("swap", {"line": 0})], "after"),
    "left behind": ([("keep", {})], "left behind"),
    "crash": ([("crash", {})], "status -6"),
    "said": ([("complain", {})], "something is wrong"),
    "held": ([LOCK, ("forget_lock", {"lock": 0})], "cannot be had"),
    "raced": ([LOCK, ("race", {"lock": 0})], "times, and not 1"),
    "hang": ([("wait", {})], "Timeout"),
}


@pytest.mark.parametrize("case", SABOTAGE)
def test_it_sees_what_must_not_be(case, monkeypatch):
    steps, why = SABOTAGE[case]
    monkeypatch.setenv("ATOLL_MACHINE_PATIENCE", "5")
    right, failure = drive.run([program.Program(1, ()), program.Program(2, tuple(steps))])
    assert right == 1
    assert why in failure.why
    assert failure.program.seed == 2


def test_a_script_is_read_as_it_was_written():
    for seed in range(20):
        one = program.make(seed)
        again = program.read(one.script())
        assert again.script() == one.script()
        assert program.make(seed) == one
        compile(one.script(), "program", "exec")


def test_what_fails_is_made_small(monkeypatch):
    monkeypatch.setenv("ATOLL_MACHINE_PATIENCE", "3")
    steps = (QUEUE, ("pause", {"seconds": 0}), ("crash", {}), ("collect", {}), ITEM)
    _, failure = drive.run([program.Program(1, steps)])
    small = drive.narrow(failure, tries=1).program
    assert small.steps == (("crash", {}),)
    assert "world.crash()" in small.script()
