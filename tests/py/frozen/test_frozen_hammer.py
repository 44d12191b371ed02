"""Twenty interpreters hammer at one frozen graph: right answers, and nothing is left.

ATOLL_NIGHTLY=1 makes it 5 minutes, with another seed each time. See frozenhammer.py.
"""

import os
import random
import subprocess
import sys

import pytest
from support import python_args, python_env

NIGHTLY = os.environ.get("ATOLL_NIGHTLY") == "1"
SECONDS = 300 if NIGHTLY else 6
SEED = random.randrange(10**6) if NIGHTLY else 5


@pytest.mark.timeout(2 * SECONDS + 200)
def test_twenty_interpreters_at_one_graph():
    done = subprocess.run(
        [*python_args("-W", "ignore", "-m", "frozenhammer"), str(SECONDS), str(SEED)],
        env=python_env(), capture_output=True, text=True, check=False,
        timeout=2 * SECONDS + 150,
    )
    assert done.returncode == 0, f"seed {SEED}\n{done.stdout[-1000:]}\n{done.stderr}"
    stats, numbers = done.stdout.splitlines()[-2:]
    lives, graphs, later, grown = map(int, numbers.split())
    assert stats == "{'graphs': 0, 'nbytes': 0, 'pins': 0}"
    assert lives >= 20
    assert graphs >= 5
    # What CPython leaves of each closed interpreter: on 3.13, much.
    if sys.version_info >= (3, 14):
        assert grown < 40_000 + 50 * later, (grown, later)
