"""Tools that look at a program: these tests are run by `make tools`, with those tools."""

import sys
from pathlib import Path

# Helpers of tests/py; also for interpreters and processes that are started.
sys.path.insert(0, str(Path(__file__).parents[1] / "py" / "helpers"))
