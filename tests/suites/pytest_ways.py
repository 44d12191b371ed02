"""Run the tests of well-known projects three ways: with pytest alone, with xdist's two
processes, and with two interpreters of atoll's. Compare what comes of each test.

    pytest_ways.py FOLDER [--rounds 7] [PROJECT ...]

FOLDER gets the source distributions, which pip downloads, and what the tests need. The
exit status is 0 if each test ends with two interpreters as it does with pytest alone. It
also prints, for each way: the time from the command to the first test, that without the
time of pytest alone (what the workers add), the whole time, and the largest memory (PSS)
of all its processes together.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import time
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

#: A project: what else its tests import, and more arguments of pytest.
PROJECTS: dict[str, tuple[list[str], list[str]]] = {
    "attrs": (["hypothesis", "pympler", "cloudpickle"], []),
    "click": ([], []),
    "jinja2": (["trio", "markupsafe"], []),
    "toolz": ([], []),
}
WAYS = {"pytest": ["-p", "no:xdist"], "xdist": ["-n", "2"], "atoll": ["--atoll=2"]}
GOAL = 0.5  # of what xdist's workers add to the time to the first test

# A plugin for the controller, or for pytest alone: when the first test begins.
CLOCK = """
import os, time
def pytest_runtest_logstart(nodeid):
    path = os.environ.get("FIRST_TEST")
    if path and not os.path.exists(path) and "PYTEST_XDIST_WORKER" not in os.environ:
        with open(path + ".new", "w") as file:
            file.write(repr(time.time()))
        os.rename(path + ".new", path)
"""


def fetch(project: str, folder: Path) -> Path:
    """The unpacked source distribution, with what its tests need beside it."""
    place = folder / project
    found = [path for path in place.glob("*") if path.is_dir() and path.name != "site"]
    if not found:
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        pip = [sys.executable, "-m", "pip", "--quiet"]
        subprocess.run(
            [*pip, "download", "--no-deps", "--no-binary", project, "--dest", place, project],
            check=True,
        )
        needs = [project, *PROJECTS[project][0]]
        subprocess.run([*pip, "install", "--target", place / "site", *needs], check=True)
        [archive] = place.glob("*.tar.gz")
        with tarfile.open(archive) as tar:
            tar.extractall(place, filter="data")
        (place / "site" / "first_test_clock.py").write_text(CLOCK)
        found = [path for path in place.glob("*") if path.is_dir() and path.name != "site"]
    [source] = found
    return source


def command(project: str, source: Path, way: str, *more: str) -> dict[str, object]:
    """The arguments of subprocess.Popen."""
    args = ["-q", "-p", "first_test_clock", "-p", "no:cacheprovider", *PROJECTS[project][1]]
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    env.pop("PYTHONDONTWRITEBYTECODE", None)  # rewritten assertions are kept
    env["PYTHONPATH"] = str(source.parent / "site")
    return {
        "args": [sys.executable, "-m", "pytest", *args, *WAYS[way], *more],
        "cwd": source,
        "env": env,
        "stdin": subprocess.DEVNULL,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.STDOUT,
        "text": True,
    }


def outcomes(path: Path) -> Counter[tuple[str, str, str]]:
    """How often which (class, name) has ended how."""
    found: Counter[tuple[str, str, str]] = Counter()
    for case in ET.parse(path).getroot().iter("testcase"):
        tags = {child.tag for child in case}
        how = next((t for t in ("failure", "error", "skipped") if t in tags), "passed")
        found[case.get("classname", ""), case.get("name", ""), how] += 1
    return found


def run(
    project: str, source: Path, way: str
) -> tuple[Counter[tuple[str, str, str]], float, str]:
    """What has come of the tests, the seconds it took, and pytest's last line."""
    report = source.parent / f"{way}.xml"
    report.unlink(missing_ok=True)
    begun = time.monotonic()
    how = command(project, source, way, f"--junitxml={report}")
    with subprocess.Popen(**how) as process:  # type: ignore[call-overload]
        said, _ = process.communicate(timeout=900)
    took = time.monotonic() - begun
    (source.parent / f"{way}.txt").write_text(said)
    last = said.strip().splitlines()[-1] if said.strip() else "nothing"
    if not report.is_file():
        return Counter(), took, last
    return outcomes(report), took, last


def start(project: str, source: Path, way: str) -> float:
    """The seconds from the command to the first test; the rest is not run."""
    path = source.parent / "first"
    path.unlink(missing_ok=True)
    how = command(project, source, way)
    how["env"]["FIRST_TEST"] = str(path)  # type: ignore[index]
    how["stdout"] = subprocess.DEVNULL
    begun = time.time()
    with subprocess.Popen(**how, start_new_session=True) as process:  # type: ignore
        while not path.exists():
            if process.poll() is not None:
                raise RuntimeError(f"{project}, {way}: ended without a test")
            time.sleep(0.002)
        os.killpg(process.pid, 9)
    return float(path.read_text()) - begun


def tree(pid: int) -> list[int]:
    """The process and all below it."""
    found = [pid]
    for one in found:
        for task in Path(f"/proc/{one}/task").glob("*/children"):
            try:
                found += map(int, task.read_text().split())
            except OSError:
                pass  # it has ended
    return found


def memory(project: str, source: Path, way: str) -> int:
    """The largest PSS of all processes together, in KiB, looked at all the time."""
    how = command(project, source, way)
    how["stdout"] = subprocess.DEVNULL
    most = 0
    with subprocess.Popen(**how) as process:  # type: ignore[call-overload]
        while process.poll() is None:
            total = 0
            for pid in tree(process.pid):
                try:
                    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
                except OSError:
                    continue
                total += sum(
                    int(line.split()[1]) for line in text.splitlines() if line[:4] == "Pss:"
                )
            most = max(most, total)
            time.sleep(0.02)
    return most


def compare(project: str, folder: Path, rounds: int) -> bool:
    """Run and print all of one project; the same outcomes?"""
    source = fetch(project, folder)
    print(f"{source.name}, on {os.cpu_count()} CPUs", flush=True)
    results = {way: run(project, source, way) for way in WAYS}
    first: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(rounds):
        for way in WAYS:
            first[way].append(start(project, source, way))
    begins = {way: statistics.median(times) for way, times in first.items()}
    for way, (_, took, last) in results.items():
        added = begins[way] - begins["pytest"]
        print(
            f"  {way:7} first test after {begins[way]:.3f} s (workers add {added:.3f} s), "
            f"all {took:.1f} s, {memory(project, source, way) / 1024:.0f} MiB: {last}",
            flush=True,
        )
    share = (begins["atoll"] - begins["pytest"]) / (begins["xdist"] - begins["pytest"])
    print(
        f"  what workers add to the start: {share:.2f} × xdist's (goal: {GOAL}); "
        f"the whole start: {begins['atoll'] / begins['xdist']:.2f} ×"
    )
    expected = results["pytest"][0]
    same = True
    for way in ("xdist", "atoll"):
        missing, extra = expected - results[way][0], results[way][0] - expected
        print(f"  {way}: {'the same outcomes' if not (missing or extra) else 'DIFFERS'}")
        for case in sorted([*missing, *extra])[:20]:
            sign = "-" if case in missing else "+"
            print(f"    {sign} {' '.join(case)}")
        if way == "atoll" and (missing or extra or not expected):
            same = False
    return same


def main() -> int:
    parser = argparse.ArgumentParser(description="tests of projects, three ways")
    parser.add_argument("folder", type=Path)
    parser.add_argument("projects", nargs="*", default=[*PROJECTS], metavar="PROJECT")
    parser.add_argument("--rounds", type=int, default=7, help="of the start")
    given = parser.parse_args()
    folder = given.folder.resolve()
    good = [compare(project, folder, given.rounds) for project in given.projects]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
