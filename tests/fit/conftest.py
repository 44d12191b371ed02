"""What atoll fits into: these tests are run by `make fit`, with those packages."""

import sys
from pathlib import Path

# Helpers of tests/py; also for interpreters and processes that are started.
sys.path.insert(0, str(Path(__file__).parents[1] / "py" / "helpers"))
