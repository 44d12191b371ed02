"""Executors under everything at once: every future ends, once. See chaos.py.

ATOLL_NIGHTLY=1 makes it 10 minutes of each, with another seed each time.
"""

import os
import random
import subprocess
import sys

import pytest
from support import python_args, python_env

NIGHTLY = os.environ.get("ATOLL_NIGHTLY") == "1"
SECONDS = 600 if NIGHTLY else 4
SEED = random.randrange(10**6) if NIGHTLY else 3


@pytest.mark.alone
@pytest.mark.timeout(3 * SECONDS if NIGHTLY else 180)
@pytest.mark.parametrize("kind", ["pools", "memory"])
def test_every_future_ends_once(kind):
    done = subprocess.run(
        [*python_args("-m", "chaos"), kind, str(SECONDS), str(SEED)],
        env=python_env(), capture_output=True, text=True, check=False,
        timeout=2 * SECONDS + 150,
    )
    assert done.returncode == 0, f"seed {SEED}\n{done.stdout[-1000:]}\n{done.stderr}"
    numbers, what = done.stdout.splitlines()[-2:]
    made, pools, grown, _threads = map(int, numbers.split())
    assert made > 10 * SECONDS, what
    assert pools >= 1, what
    # On 3.13 CPython itself leaves some of each closed interpreter.
    if sys.version_info >= (3, 14):
        assert grown < 30_000, (grown, what)
