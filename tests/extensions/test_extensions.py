"""Packages with extension modules, in main and in interpreters, each in a process.

ATOLL_EXTENSIONS=all tests all packages, otherwise the quick ones are tested.
ATOLL_RESULTS names a file that gets one line of JSON for each test.
ATOLL_NO_WHEEL lists packages that the package index did not have; they are skipped.
"""

import json
import os
import signal
import subprocess
import sys

import ext_packages as packages
import pytest
import run_one

HERE = os.path.dirname(os.path.abspath(__file__))
ALL = os.environ.get("ATOLL_EXTENSIONS") == "all"
#: So many seconds has each process.
LIMIT = int(os.environ.get("ATOLL_LIMIT", "180"))

# Whatever works in them is tested by `together`, so the others can be left out when
# there is little time.
QUICK_MODES = ("sequence", "with-main")


def cases() -> list[object]:
    chosen = packages.PACKAGES if ALL else packages.QUICK
    modes = run_one.MODES if ALL else QUICK_MODES
    return [
        pytest.param(package, mode, id=f"{package.name}-{mode}")
        for package in chosen
        for mode in modes
    ]


def run(package: packages.Package, mode: str) -> dict[str, object]:
    """Run run_one.py; what came of it, and if need be why it failed."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    env |= {"PYTHONDONTWRITEBYTECODE": "1", "ATOLL_DUMP_AFTER": str(LIMIT - 10)}
    result: dict[str, object] = {
        "package": package.name,
        "mode": mode,
        "python": sys.version.split()[0],
        "version": package.version(),
        "ok": False,
    }
    child = subprocess.Popen(
        [sys.executable, "-X", "faulthandler", os.path.join(HERE, "run_one.py")]
        + [package.name, mode],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env=env,
        start_new_session=True,
    )
    try:
        stdout, stderr = child.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        # With its own children, which hold the pipes, too.
        os.killpg(child.pid, signal.SIGKILL)
        _, stderr = child.communicate()
        return result | {"why": f"still running after {LIMIT} s", "error": stderr}
    return judged(result, child.returncode, stdout, stderr)


def judged(
    result: dict[str, object], status: int, stdout: str, stderr: str
) -> dict[str, object]:
    """The result with what the child said, and how it ended."""
    try:
        result |= json.loads(stdout)
    except ValueError:
        result["error"] = f"stdout: {stdout}\n"
    if status:
        where = "at exit" if result["ok"] else "on the way"
        result["error"] = f"{result.get('error', '')}{stderr}"
        if status < 0:
            result["why"] = f"{signal.Signals(-status).name} {where}"
        elif result["ok"] or "why" not in result:
            result["why"] = f"status {status} {where}"
        result["ok"] = False
    elif not result["ok"]:
        result["why"] = f"it said nothing {result.setdefault('error', '')}".strip()
    return result


def note(result: dict[str, object]) -> None:
    if path := os.environ.get("ATOLL_RESULTS"):
        with open(path, "a") as file:
            print(json.dumps(result), file=file)


@pytest.mark.timeout(LIMIT + 60)
@pytest.mark.parametrize(("package", "mode"), cases())
def test_use(package: packages.Package, mode: str) -> None:
    if package.name in os.environ.get("ATOLL_NO_WHEEL", "").split(","):
        pytest.skip("the package index has no wheel")
    if not package.installed():
        why = package.missing_on.get(packages.MINOR)
        if why is not None:
            pytest.skip(why)
        pytest.fail("it is not installed")
    result = run(package, mode)
    note(result)
    if not result["ok"]:
        pytest.fail(f"{result['why']}\n{result['error']}", pytrace=False)


def test_the_table_is_complete() -> None:
    """Each use is in the table, and each package has its use."""
    uses = {name.removesuffix(".py") for name in os.listdir(os.path.join(HERE, "uses"))}
    uses = {name for name in uses if not name.startswith("__")}
    assert sorted(uses) == sorted(package.use for package in packages.PACKAGES)
