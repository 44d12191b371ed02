#!/usr/bin/env python3
"""Write tests/py/slow.txt, the tests that `make test-quick` leaves out.

    python tools/slow_tests.py build/pytest-3.14.xml ...

The files are those of `make test`. A test function is slow if one of its cases has
taken more than 0.3 s.
"""

import re
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

LIMIT = 0.3  # seconds


def main():
    slow = set()
    for path in sys.argv[1:]:
        for case in ET.parse(path).getroot().iter("testcase"):
            if float(case.get("time")) > LIMIT and "tests.py." in case.get("classname"):
                module = case.get("classname").rpartition(".")[2]
                function = re.sub(r"\[.*", "", case.get("name"), flags=re.S)
                slow.add(f"{module}.py::{function}")
    target = Path(__file__).parents[1] / "tests" / "py" / "slow.txt"
    target.write_text("\n".join(sorted(slow)) + "\n")
    print(f"{target}: {len(slow)} tests")


if __name__ == "__main__":
    main()
