"""The commands that a newcomer is told to type: README, installation, tutorial, how-tos.

Each is run here as it stands there, with stand-ins for the user's own files, or is named
with what else runs it. A command that is in neither list fails."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
BIN = Path(sys.executable).parent
# Pages with commands for programs and test suites of the reader's own: who tries them.
OWN = {
    "debug-and-profile": "tests/tools, tests/fit/test_coverage.py, tests/py/watch",
    "pytest": "tests/py/pytest_plugin",
}

PAGES = [
    ROOT / "README.md",
    *(ROOT / "docs" / f"{name}.md" for name in ("install", "tutorial")),
    *(path for path in sorted((ROOT / "docs" / "howto").glob("*.md")) if path.stem not in OWN),
]

# A line of a block of commands, or what looks like one in a sentence.
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`((?:make|atoll|python|pip|dask|venv/bin/\w+|[A-Z_]+=\S+) [^`]+)`")

# Said of a command in general, without what it needs.
NAMES = {"atoll map", "atoll run", "atoll trace report"}

# Not what they are run with, but who runs them.
ELSEWHERE = {
    "make demo": "test_examples.py: examples/demo.py",
    "make test": ".ci/run",
    "make bench": "measurements; test_make_knows runs nothing of it",
    "python bench/run.py": "the same",
    "make check": ".ci/run, step by step",
    "make docs": ".ci/run",
    "make help": "test_make_knows",
    "atoll bench": "test_a_bench_of_this_machine",
    "pip install /path/to/atoll": "make package-test",
    "pip wheel /path/to/atoll": "make package-test",
    "python3.14 -m venv venv": "make package-test: in an environment of its own",
    "venv/bin/pip install '.[cli]'": "make package-test",
    "venv/bin/python -c 'import atoll; print(atoll.create())'": "make package-test",
    "venv/bin/atoll doctor numpy pandas": "test_doctor_cli.py, with other packages",
    "pip install -e": "is said not to work",
    "dask scheduler": "tests/fit/test_dask.py",
    "dask worker --worker-class atoll.dask.Worker": "tests/fit/test_dask.py",
    "dask worker --worker-class atoll.dask.Worker --nthreads 8 tcp://SCHEDULER:8786": (
        "tests/fit/test_dask.py"
    ),
}

SCRIPT = """
import atoll, time
def work(n):
    return sum(range(n))
with atoll.InterpreterPoolExecutor(2) as pool:
    print(list(pool.map(work, range(5))))
    time.sleep(SECONDS)
"""


def commands(path):
    """The commands of a page, as they stand there."""
    text = path.read_text()
    found = set()
    for language, block in BLOCK.findall(text):
        for line in block.splitlines() if language in ("", "sh") else ():
            line = re.sub(r"\s+# .*", "", line).strip()
            if line:
                found.add(line)
    for span in SPAN.findall(BLOCK.sub("", text)):
        found.add(" ".join(span.split()))
    return found - NAMES


def everywhere():
    return set().union(*map(commands, PAGES))


def run(line, folder, **env):
    """In a shell, as a user would, with the commands of this environment."""
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        cwd=folder,
        env={**os.environ, "PATH": path, **env},
        capture_output=True,
        text=True,
        timeout=100,
        stdin=subprocess.DEVNULL,
    )


def find_and_map(line, folder):
    for n in (1, 3, 2, 5, 4):
        (folder / f"{n}.py").write_text("#" * n)
    done = run(line, folder)
    assert (done.returncode, done.stdout.split()) == (0, ["3", "4", "5"]), done.stderr


def run_script(line, folder):
    name = re.search(r"(\w+)\.py", line)[0]
    (folder / name).write_text(SCRIPT.replace("SECONDS", "0"))
    done = run(line, folder)
    assert done.returncode == 0, done.stderr
    assert "events in" in done.stderr
    assert done.stdout == "[0, 0, 1, 3, 6]\n"


def report(line, folder):
    (folder / "script.py").write_text(SCRIPT.replace("SECONDS", "0"))
    file = line.split()[-1]
    assert run(f"atoll run -o {file} script.py", folder).returncode == 0
    done = run(line, folder)
    assert done.returncode == 0, done.stderr
    assert "work" in done.stdout
    assert (folder / file).with_suffix(".svg").read_text().startswith("<svg")


def serve(line, folder):
    """Together with `atoll top`, which is after it everywhere."""
    name = re.search(r"(\w+)\.py", line)[0]
    (folder / name).write_text(SCRIPT.replace("SECONDS", "30"))
    # For a person it goes on until Ctrl-C.
    look = 'for n in $(seq 50); do atoll top --once "$!" && break; sleep 0.2; done'
    done = run(f"{line} {look}; kill $!", folder)
    assert re.search(r"interpreters", done.stdout), done.stdout + done.stderr


def doctor(line, folder):
    """Of everything that is installed here it takes long: of one package."""
    done = run(line + " cloudpickle", folder)
    assert done.returncode == 0, done.stderr


RUN = {
    "find . -name '*.py' | atoll map os.path:getsize | sort -n | tail -n 3": find_and_map,
    "atoll run script.py": run_script,
    "atoll run -o out.json crawl.py": run_script,
    "atoll trace report trace.json": report,
    "atoll trace report out.json": report,
    "ATOLL_TOP=1 python script.py &": serve,
    "ATOLL_TOP=1 python crawl.py &": serve,
    "atoll top": lambda line, folder: serve("ATOLL_TOP=1 python script.py &", folder),
    "atoll doctor": doctor,
}


@pytest.mark.parametrize("line", RUN)
def test_it_does_what_is_said(line, tmp_path):
    assert line in everywhere(), "nobody is told this any more"
    RUN[line](line, tmp_path)


def test_every_command_is_known():
    assert everywhere() - set(RUN) - set(ELSEWHERE) == set()
    assert set(ELSEWHERE) - everywhere() == set()


def test_make_knows():
    """Each target is there, and in the help."""
    targets = {line.split()[1] for line in everywhere() if line.startswith("make ")}
    assert {"demo", "test", "bench", "docs"} <= targets
    help_text = subprocess.run(
        ["make", "-s", "-C", ROOT, "help"], capture_output=True, text=True, check=True
    ).stdout
    for target in targets - {"help"}:
        done = subprocess.run(
            ["make", "-n", "-C", ROOT, target], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert f"make {target}" in help_text


def test_a_bench_of_this_machine(tmp_path):
    """Small: it measures, and what it writes can be read."""
    import json

    done = run("atoll bench --workers 2 --rounds 1 --json", tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert len(report["rows"]) == 5
    for row in report["rows"]:
        assert {"atoll", "threads", "processes"} <= set(row["values"])
        assert all(value > 0 for value in row["values"].values())
    done = run("atoll bench --workers 0", tmp_path)
    assert done.returncode == 2
    assert "positive number" in done.stderr
