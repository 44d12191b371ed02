"""coverage.py: a plain `coverage run` measures what runs in interpreters."""

import json
import subprocess
import sys

import pytest
from support import python_env

LIBRARY = """
def size(n):
    if n > 3:
        return "big"
    return "small"

def late():
    return "at the exit of the worker"

def never():
    return "unused"
"""

PROGRAM = """
import atoll
from library import late, size

def of_main(n):
    text = size(n)
    return text + "!"

def at_exit():
    import atexit
    atexit.register(late)

if __name__ == "__main__":
    with atoll.InterpreterPoolExecutor(1) as pool:
        assert list(pool.map(size, [1, 5])) == ["small", "big"]
        assert pool.submit(of_main, 5).result() == "big!"
        pool.submit(at_exit).result()
    END
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "library.py").write_text(LIBRARY.lstrip())
    return tmp_path


def run(folder, *args, **kwargs):
    done = subprocess.run(
        [sys.executable, *args],
        cwd=folder,
        env=python_env(),
        capture_output=True,
        text=True,
        timeout=100,
        **kwargs,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def measured(folder, end="pass", *, options=(), combine=False):
    """The lines that were run, by file."""
    (folder / "program.py").write_text(PROGRAM.lstrip().replace("END", end))
    run(folder, "-m", "coverage", "run", *options, "program.py")
    if combine:
        run(folder, "-m", "coverage", "combine", "-q")
    assert [path.name for path in folder.glob(".coverage*")] == [".coverage"]
    run(folder, "-m", "coverage", "json", "-q", "-o", "found.json")
    files = json.loads((folder / "found.json").read_text())["files"]
    return {name: file["executed_lines"] for name, file in files.items()}


EVERYTHING = {
    "library.py": [1, 2, 3, 4, 6, 7, 9],
    "program.py": [1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, 15, 16, 17],
}


def test_plain(folder):
    # One worker has ended when coverage saves what it has, two have not.
    end = "atoll.create().call(late); keep = atoll.create(); keep.call(of_main, 1)"
    assert measured(folder, end) == EVERYTHING


def test_branches_of_one_file(folder):
    found = measured(folder, options=["--branch", "--include=library.py"])
    assert found == {"library.py": EVERYTHING["library.py"]}
    file = json.loads((folder / "found.json").read_text())["files"]["library.py"]
    assert file["executed_branches"] == [[2, 3], [2, 4]]
    assert file["missing_branches"] == []


def test_parallel(folder):
    assert measured(folder, options=["-p"], combine=True) == EVERYTHING


def test_with_the_patch_for_processes(folder):
    (folder / "setup.cfg").write_text(
        "[coverage:run]\npatch = subprocess\ndisable_warnings = no-ctracer\n"
    )
    assert measured(folder, combine=True) == EVERYTHING
