"""The examples run, and say what they promise."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(*args):
    return subprocess.run(
        [sys.executable, *map(str, args)],
        capture_output=True,
        text=True,
        timeout=100,
        stdin=subprocess.DEVNULL,
    )


def test_hello():
    done = run(EXAMPLES / "hello.py")
    assert (done.returncode, done.stderr) == (0, "")
    # How many primes there are below 50, 60, 70 and 80 thousand.
    assert done.stdout == "[5133, 6057, 6935, 7837]\n"


def test_database():
    done = run(EXAMPLES / "database.py")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert [line.split(":")[0] for line in lines] == ["Avarua", "Funafuti"]
    assert all("10,000 sales" in line for line in lines)


def test_shared_memory():
    done = run(EXAMPLES / "shared_memory.py")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "200,000 squares, the last one is 39,999,600,001\n"


def test_readme_has_the_example():
    """The README's example without its __main__ guard runs, also from stdin."""
    readme = (EXAMPLES.parent / "README.md").read_text()
    code = readme.split("```python\n", 1)[1].split("```", 1)[0]
    done = run("-c", code)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == run(EXAMPLES / "hello.py").stdout


def test_demo_on_few_files():
    pytest.importorskip("rich")
    done = run(EXAMPLES / "demo.py", "--limit", "40", "--workers", "2", "--no-messages")
    assert (done.returncode, done.stderr) == (0, "")
    for word in ("serially", "threads", "processes", "atoll"):
        assert word in done.stdout
    assert done.stdout.count("yes") >= 3, done.stdout  # the answers are equal


def test_demo_refuses_nonsense():
    pytest.importorskip("rich")
    done = run(EXAMPLES / "demo.py", "--workers", "0")
    assert done.returncode == 2
    assert "workers" in done.stderr
