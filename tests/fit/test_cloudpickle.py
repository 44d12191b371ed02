"""cloudpickle's own tests, with atoll's encoding in the place of its pickles.

They are those of its last source distribution that has any, run with the cloudpickle
that is installed.
"""

import shutil
import sys
from pathlib import Path

import pytest
import theirs

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


@pytest.mark.timeout(theirs.LIMIT + 60)
def test_what_passes_with_cloudpickle_passes_with_atoll(tmp_path, capsys):
    folder = theirs.source(RELEASE, tmp_path)
    shutil.rmtree(folder / "cloudpickle")
    shutil.copy(Path(__file__).with_name("sent_by.py"), folder / "tests" / "testutils.py")
    (folder / "conftest.py").write_text("import testutils\n")
    path = (folder / "tests" / "cloudpickle_testpkg", folder / "tests")
    count, text = theirs.compare(folder, "cloudpickle", CHOSEN, DIFFERS, path)
    with capsys.disabled():
        print(text, file=sys.stderr)
    assert count > 90
