"""The examples run, and say what they promise."""

import importlib.util
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import atoll
import page
import pytest

EXAMPLES = Path(__file__).parents[3] / "examples"
DOCS = Path(__file__).parents[3] / "docs"


def run(*args, **env):
    return subprocess.run(
        [sys.executable, *map(str, args)],
        capture_output=True,
        text=True,
        timeout=100,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **env},
    )


def test_who_reads_of_deadlocks_reads_when_they_are_found():
    """Outside of tasks they are only looked for if the program has asked for it."""
    pages = [DOCS.parent / "README.md", *DOCS.glob("*.md"), *(DOCS / "howto").glob("*.md")]
    promising = [page for page in pages if "DeadlockError" in page.read_text()]
    assert len(promising) >= 3
    assert not [page for page in promising if "detect_deadlocks()" not in page.read_text()]


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


def test_one_line():
    done = run(EXAMPLES / "one_line.py")
    assert (done.returncode, done.stderr) == (0, "")
    timings, picture = done.stdout.splitlines()[:2], done.stdout.splitlines()[2:]
    assert re.fullmatch(r"\d+ threads: \d+\.\d\d s", timings[0])
    assert re.fullmatch(r"\d+ interpreters: \d+\.\d\d s", timings[1])
    assert len(picture) == 32
    assert picture[1:] == picture[:0:-1]  # the set is symmetric
    assert "@" * 20 in picture[16]


def monte_carlo(**env):
    done = run(EXAMPLES / "monte_carlo.py", **env)
    assert (done.returncode, done.stderr) == (0, "")
    *said, alone, together = done.stdout.splitlines()
    number = r": (\d\.\d{4} ± 0\.\d{4}) from ([\d,]+) years, \d+\.\d\d s"
    alone = re.fullmatch("one after the other" + number, alone)
    together = re.fullmatch(r"\d+ interpreters" + number, together)
    assert alone.groups() == together.groups()
    price, error = map(float, alone[1].split(" ± "))
    assert abs(price - 3.18) < 5 * error
    return said, alone[2]


def test_monte_carlo():
    pytest.importorskip("numpy")
    assert monte_carlo() == ([], "160,000")


def test_monte_carlo_without_numpy(tmp_path):
    (tmp_path / "numpy.py").write_text("raise ImportError")
    said, years = monte_carlo(PYTHONPATH=str(tmp_path))
    assert said == ["NumPy is not installed: fewer years, in pure Python."]
    assert years == "12,800"


def test_crawler():
    done = run(EXAMPLES / "crawler.py", "60")
    assert (done.returncode, done.stderr) == (0, "")
    pages, loop = done.stdout.splitlines()
    assert pages.startswith("60 pages with 180,000 words in ")
    assert re.fullmatch(r"the loop was never more than \d+\.\d ms late", loop)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_anyio(backend):
    pytest.importorskip(backend)
    pytest.importorskip("anyio")
    done = run(EXAMPLES / "anyio_search.py", backend)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "100 primes, the last one is 999,983\nthe search has been stopped: True\n"
    )


def test_progress():
    pytest.importorskip("tqdm")
    done = run(EXAMPLES / "progress.py")
    assert done.returncode == 0, done.stderr
    # Two bars, to their ends; tqdm may draw an end twice.
    assert done.stderr.count("40/40") >= 2
    assert "Traceback" not in done.stderr
    assert done.stdout == "40 keys, the first one is 282dbfd8\n"


def test_pytest_fixture():
    file = EXAMPLES / "pytest_pool.py"
    # Not with this project's options, and not into its cache.
    alone = ("-c", os.devnull, "-p", "no:cacheprovider")
    done = run("-m", "pytest", "-q", *alone, file)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 passed" in done.stdout


def test_spell_checker():
    done = run(EXAMPLES / "spell_checker.py")
    assert (done.returncode, done.stderr) == (0, "")
    size, interpreters, processes, count, *found = done.stdout.splitlines()
    words = re.fullmatch(r"([\d,]+) words, \d+ MB, frozen in \d+\.\d\d s", size)[1]
    assert int(words.replace(",", "")) > 100_000
    for line, what in ((interpreters, "interpreters"), (processes, "processes")):
        assert re.fullmatch(rf"\d+ {what}: \d+\.\d\d s(, [+-]\d+ MB)?", line)
    slips, unknown = re.fullmatch(r"(\d+) slips in 24 texts; (\d+) words .*:", count).groups()
    assert int(slips) / 3 < int(unknown) < 2 * int(slips)
    assert len(found) >= 5
    assert sum(not line.endswith(": ?") for line in found) >= 2


def test_hot_reload():
    done = run(EXAMPLES / "hot_reload.py")
    assert (done.returncode, done.stderr) == (0, "")
    *workers, memory = done.stdout.splitlines()
    assert len(workers) == 3
    for line in workers:
        assert re.fullmatch(r"\d+ requests, versions \[0, 1, 2, 3, 4, 5\]", line)
    assert "6 with the workers open, 1 when they are closed" in memory


def test_readme_has_the_examples():
    """They run without a __main__ guard, also from stdin."""
    readme = (EXAMPLES.parent / "README.md").read_text()
    blocks = [part.split("```", 1)[0] for part in readme.split("```python\n")[1:]]
    pool, queues, select, arrays = blocks
    answer = run(EXAMPLES / "hello.py").stdout
    for code in (pool, queues):
        done = run("-c", code)
        assert (done.returncode, done.stderr, done.stdout) == (0, "", answer)
    done = run("-c", "import atoll\n" + select)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "answered: 42\n")
    if importlib.util.find_spec("numpy"):
        done = run("-c", arrays)
        assert (done.returncode, done.stderr, done.stdout) == (0, "", "6.0\n")


PAGES = [
    DOCS / "index.md",
    DOCS / "tutorial.md",
    *sorted(DOCS.glob("howto/*.md")),
    *sorted(DOCS.glob("api/*.md")),
]


@pytest.mark.parametrize("path", PAGES, ids=[str(path.relative_to(DOCS)) for path in PAGES])
def test_pages_are_true(path):
    """What the documentation shows runs from top to bottom, and prints what it says."""
    found = page.blocks(path.read_text())
    for package in ("numpy", "pandas", "dask", "joblib", "sklearn", "anyio"):
        if any(re.search(rf"^(import|from) {package}\b", code, re.M) for _, code, _ in found):
            pytest.importorskip(package)
    done = run(Path(page.__file__), path)
    assert (done.returncode, done.stderr) == (0, "")


def test_pages_have_blocks():
    counts = {
        str(path.relative_to(DOCS).with_suffix("")): len(page.blocks(path.read_text()))
        for path in PAGES
    }
    assert counts["tutorial"] >= 6
    assert counts.pop("api/index") == counts.pop("howto/pytest") == 0
    assert all(counts.values()), counts


def test_a_page_that_is_not_true(tmp_path):
    wrong = tmp_path / "wrong.md"
    wrong.write_text("```python\nprint(1 + 1)\n```\n\n```output\n3\n```\n")
    done = run(Path(page.__file__), wrong)
    assert done.returncode == 1
    assert f"{wrong}:1 printed\n2" in done.stderr


def test_pictures_are_drawn():
    """The files are what the script draws."""
    drawn = runpy.run_path(str(DOCS / "pictures" / "draw.py"))["PICTURES"]
    assert len(drawn) >= 6
    for name, draw in drawn.items():
        assert (DOCS / "pictures" / f"{name}.svg").read_text() == draw().svg()


def test_every_name_has_an_entry():
    entries = "\n".join(path.read_text() for path in DOCS.glob("api/*.md"))
    listed = set(re.findall(r"^\.\. [a-z]+:: (\w+)$", entries, re.M))
    assert set(atoll.__all__) <= listed, "docs/api/ has no entry for these"


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
