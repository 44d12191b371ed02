"""The tests of another package, with its own means and with atoll's in their place.

Each is run both ways, at the same time: what passes with its own passes with atoll's.
"""

import os
import re
import subprocess
import sys
import tarfile
import xml.etree.ElementTree as ET
from pathlib import Path

HERE = Path(__file__).parent
#: Also what takes long: in the night.
WHOLE = bool(os.environ.get("ATOLL_FIT_WHOLE"))
LIMIT = 900 if WHOLE else 280


def download(release, folder, kind):
    """The archive of a release, by pip: what `kind` of archive is its option."""
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", kind, ":all:",
         "--dest", str(folder), release],
        check=True,
    )  # fmt: skip
    [archive] = folder.glob(release.replace("==", "-") + "*")
    return archive


def source(release, folder):
    """The source distribution of a release, unpacked."""
    archive = download(release, folder, "--no-binary")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    return Path(str(archive).removesuffix(".tar.gz"))


def begin(folder, by, chosen, path):
    path = os.pathsep.join(map(str, (*path, folder)))
    argv = [sys.executable, "-m", "pytest", "-q", "-o", f"cache_dir={folder / by}-cache",
            *chosen, f"--junitxml={folder / by}.xml"]  # fmt: skip
    return subprocess.Popen(
        argv,
        cwd=folder,
        env={**os.environ, "RUN_BY": by, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def outcomes(folder, by, said):
    report = folder / f"{by}.xml"
    assert report.exists(), said[-5000:]
    found = {}
    for case in ET.parse(report).getroot().iter("testcase"):
        name = f"{case.get('classname').rpartition('.')[2]}::{case.get('name')}"
        bad = case.find("failure") is not None or case.find("error") is not None
        found[name] = (
            "failed" if bad else "skipped" if case.find("skipped") is not None else "passed"
        )
    return found


def compare(folder, own, chosen, differs, path=()):
    """Run the tests of `folder` both ways, with RUN_BY=own and RUN_BY=atoll.

    Args:
      own (str): the name of the package.
      chosen: arguments of pytest: which tests.
      differs (dict): what need not pass, as parts of names (which end with $), and why.
      path: more folders to import from.

    Some of them measure with sleeps, which a busy machine makes wrong: what fails has a
    second try, when nothing else of this runs.

    Returns how many pass with its own (int), and what there is to say (str).
    """
    running = {by: begin(folder, by, chosen, path) for by in (own, "atoll")}
    said = finish(running)
    results = {by: outcomes(folder, by, said[by]) for by in running}
    passed = {name for name, outcome in results[own].items() if outcome == "passed"}

    def worse():
        return {name for name in passed if results["atoll"].get(name) != "passed"}

    def wrong():
        return {name for name in worse() if not any(part in f"{name}$" for part in differs)}

    text = ""
    if first := wrong():
        said = finish({"atoll": begin(folder, "atoll", [*chosen, "--lf"], path)})
        results["atoll"].update(outcomes(folder, "atoll", said["atoll"]))
        text = "".join(f"\n{name} passes at the second try" for name in first - wrong())
    lines = [line for line in said["atoll"].splitlines() if re.match("FAILED|ERROR", line)]
    assert not wrong(), "\n".join([*sorted(wrong()), "", *lines])
    text += f"\n{len(passed)} pass with {own}, {len(passed - worse())} of them with atoll"
    for part in differs:
        named = {name for name in passed if part in f"{name}$"}
        if named and not named & worse():
            text += f"\n{part} passes: it need not be among what differs"
    return len(passed), text


def finish(running):
    """What they have said; none of them is left."""
    try:
        return {by: process.communicate(timeout=LIMIT)[0] for by, process in running.items()}
    finally:
        for process in running.values():
            process.kill()
            process.wait()
