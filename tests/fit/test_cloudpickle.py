"""cloudpickle's own tests, with atoll's encoding in the place of its pickles.

They are those of its last source distribution that has any. Each is run both ways, with
the cloudpickle that is installed: what passes with it passes here.
"""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import xml.etree.ElementTree as ET
from pathlib import Path

RELEASE = "cloudpickle==2.2.1"
#: Without the second class of tests, which has them again for an older pickle protocol.
CHOSEN = ["tests/cloudpickle_test.py", "-k", "not Protocol2 and not memory_leak"]

# What differs, and why.
KEPT = "a function of constants is kept by its receiver, with the globals that it has there"
READS = "looks into the bytes of the pickle, or loads them in another process"
DIFFERS = {
    "test_abc_cache_not_pickled": READS,
    "test_correct_globals_import": READS,
    "test_deterministic_pickle_bytes_for_function": READS,
    "test_load_dynamic_module_in_grandchild_process": READS,
    "test_logger": READS,
    "test_module_locals_behavior": READS,
    "test_out_of_band_buffers": "buffers are out of band whether they are asked for or not",
    "test_closure_interacting_with_a_global_variable": KEPT,
    "test_interactive_remote_function_calls_no_side_effect": KEPT,
    "test_interactively_defined_global_variable": KEPT,
    "test_pickle_reraise": "a reducer's TypeError is NotShareableError, with the place",
    "test_recursion_during_pickling": "raises RecursionError, which the code sent has caused",
}


def begin(folder, by):
    env = {
        **os.environ,
        "SENT_BY": by,
        "PYTHONPATH": os.pathsep.join(
            map(str, (folder / "tests" / "cloudpickle_testpkg", folder / "tests"))
        ),
    }
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *CHOSEN,
            f"--junitxml={folder / by}.xml"]  # fmt: skip
    return subprocess.Popen(
        argv, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def outcomes(folder, by):
    found = {}
    for case in ET.parse(folder / f"{by}.xml").getroot().iter("testcase"):
        bad = case.find("failure") is not None or case.find("error") is not None
        found[case.get("name")] = (
            "failed" if bad else "skipped" if case.find("skipped") is not None else "passed"
        )
    return found


def test_what_passes_with_cloudpickle_passes_with_atoll(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary",
         ":all:", "--dest", str(tmp_path), RELEASE],
        check=True,
    )  # fmt: skip
    [archive] = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path, filter="data")
    folder = Path(str(archive).removesuffix(".tar.gz"))
    shutil.rmtree(folder / "cloudpickle")
    shutil.copy(Path(__file__).with_name("sent_by.py"), folder / "tests" / "testutils.py")
    (folder / "conftest.py").write_text("import testutils\n")
    running = {by: begin(folder, by) for by in ("cloudpickle", "atoll")}
    said = {by: process.communicate(timeout=280)[0] for by, process in running.items()}
    own, ours = outcomes(folder, "cloudpickle"), outcomes(folder, "atoll")
    passed = {name for name, outcome in own.items() if outcome == "passed"}
    assert len(passed) > 90
    worse = {name for name in passed if ours.get(name) != "passed"}
    lines = [line for line in said["atoll"].splitlines() if re.match("FAILED|ERROR", line)]
    assert worse - DIFFERS.keys() == set(), "\n".join(lines)
    print(f"{len(passed)} pass with cloudpickle, {len(passed - worse)} of them with atoll")
