"""What the documentation shows of these packages runs, and prints what it says."""

import subprocess
import sys
from pathlib import Path

import page
import pytest

HOWTO = Path(__file__).parents[2] / "docs" / "howto"


@pytest.mark.parametrize("name", ["joblib", "dask"])
def test_page(name):
    path = HOWTO / f"{name}.md"
    assert len(page.blocks(path.read_text())) >= 3
    done = subprocess.run(
        [sys.executable, page.__file__, path],
        capture_output=True,
        text=True,
        timeout=150,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stdout + done.stderr
