"""The own tests of loky and joblib, with interpreters in the place of loky's processes.

by_atoll.py puts them there. What is only about processes is not run, with either.
"""

import sys
import zipfile
from pathlib import Path

import pytest
import theirs

LOKY, JOBLIB = "loky==3.7.0", "joblib==1.6.0"
HERE = Path(__file__).parent


def but(*named):
    """The option of pytest for all tests but these: parts of names, with reasons."""
    return "not (" + " or ".join(name for names in named for name in names) + ")"


# ----------------------------------------------------------------------- loky

LOKY_FILES = ["test_process_executor_loky.py", "test_reusable_executor.py",
              "test_cloudpickle_wrapper.py"]  # fmt: skip
KILLS = "a worker kills itself, or is killed: an interpreter would take the program with it"
RACES = "a busy machine decides how it ends"
INSIDE = "breaks loky's own threads from inside"
LOKY_NEVER = {
    "TerminatedWorkerError": KILLS,
    "(TestTerminateExecutor and shutdown_deadlock)": KILLS,
    "broken_start": KILLS,
    "test_call_item_gc_crash": KILLS,
    "test_callback_crash_on_submit": RACES,
    "test_compat_with_concurrent_futures_exception": KILLS,
    "test_crash_races": KILLS,
    "test_deadlock_kill": KILLS,
    "test_exited_child": KILLS,
    "test_faulthandler_enabled": KILLS,
    "test_kill_after_resize": KILLS,
    "test_killed_child": KILLS,
    "test_processes_crash_handling": KILLS,
    "test_sigkill_shutdown": KILLS,
    "memory_leak": "loky replaces a process that has grown",
    "test_feeder_error_hook": INSIDE,
    "test_manager_thread_crash": INSIDE,
    "(test_first_completed and not already)": RACES,
    "test_max_depth": "executors in executors have no limit",
    "test_no_failure_on_large_data": "takes 10 GB of memory",
    "test_shutdown_and_kill_workers": "what sleeps in C is left to itself, for half a minute",
}
AGAIN = "time: the cases of test_crashes, or a test that is run, in another way"
WAITS = "time: it waits for seconds"
MANY = "time: it makes many workers"
LOKY_TIME = {
    "test_first": WAITS,
    "test_hang_issue39205": WAITS,
    "test_interpreter_shutdown": WAITS,
    "test_in_callback_submit_with_crash": AGAIN,
    "test_map_timeout": WAITS,
    "test_no_crash_max_workers": MANY,
    "test_no_deadlock_on_nested": WAITS,
    "test_processes_terminate": AGAIN,
    "test_reference_cycle_collection": WAITS,
    "test_resize_after_timeout": WAITS,
    "test_reusable_executor_queue_size": MANY,
    "test_reusable_executor_resize": MANY,
    "test_reusable_executor_submit_with_concurrent": MANY,
    "test_reusable_executor_thread_safety": MANY,
    "test_reusable_initializer": MANY,
    "test_set_loky_pickler": WAITS,
    "test_shutdown_kill": WAITS,
    "test_shutdown_with": MANY,
    "test_worker_timeout": WAITS,
    "test_zero_timeout": WAITS,
}
EXITS = "code of a reducer runs in the thread that sends or asks, and ends that"
GOES_ON = "what cannot be rebuilt in a worker fails its task; the pool goes on"
PICKLER = "there is one encoding, and no choice of pickle for it"
LOKY_DIFFERS = {
    "[id-args0-PicklingError": EXITS,
    "[return_instance-args14-BrokenProcessPool-SystemExit": EXITS,
    "[id-args2-BrokenProcessPool-SystemExit": GOES_ON,
    "[id-args4-BrokenProcessPool-UnpicklingError": GOES_ON,
    "[return_instance-args15-BrokenProcessPool-UnpicklingError": GOES_ON,
    "test_informative_error_when_fail_at_unpickle": GOES_ON,
    "test_shutdown_with_sys_exit_at_pickle": EXITS,
    "test_reference_cycle_collection": "loky's processes collect garbage once a second",
    "test_reusable_executor_resize$": "asks the system for its workers by their numbers",
    "::test_serialization$": "reducers are registered for all, by atoll.register",
    "test_serialization_function_from_main": PICKLER,
    "test_set_loky_pickler['pickle']": PICKLER,
    "test_thread_local": "executors that nobody has go at once: their ids come again",
    "test_worker_timeout": "idle workers stay",
}


FROM_PICKLE = "from pickle import "


def loky_source(into):
    folder = theirs.source(LOKY, into)
    for name in ("_test_process_executor.py", "test_reusable_executor.py"):
        test = folder / "tests" / name
        test.write_text(test.read_text().replace(FROM_PICKLE, "from by_atoll import "))
    with (folder / "tests" / "_executor_mixin.py").open("a") as file:
        file.write("import sys, by_atoll\nby_atoll.adapt_tests(sys.modules[__name__])\n")
    return folder


def adapt(package):
    """Let the package take atoll's in the place of its own when it is imported."""
    with (package / "__init__.py").open("a") as file:
        file.write(f"\nimport by_atoll\nby_atoll.adapt_{package.name}()\n")


@pytest.mark.timeout(theirs.LIMIT + 60)
def test_what_passes_with_loky_passes_with_atoll(tmp_path, capsys):
    folder = loky_source(tmp_path)
    adapt(folder / "loky")
    files = [f"tests/{name}" for name in LOKY_FILES]
    chosen = [*files, "-p", "by_atoll", "--loky-verbosity=30", "-k",
              but(LOKY_NEVER, {} if theirs.WHOLE else LOKY_TIME)]  # fmt: skip
    count, text = theirs.compare(folder, "loky", chosen, LOKY_DIFFERS, [HERE])
    with capsys.disabled():
        print(text, file=sys.stderr)
    assert count > 50


# --------------------------------------------------------------------- joblib

JOBLIB_FILES = ["parallel", "config", "cloudpickle_wrapper", "memory", "memmapping"]
JOBLIB_TIME = {
    "--1-loky]": AGAIN,
    "[-1-": AGAIN,
    "[100-": AGAIN,
    "[args-": AGAIN,
    "[kwargs-": AGAIN,
    "[parallel_backend-": AGAIN,
    "_loky[-1]": AGAIN,
    "_loky[4]": AGAIN,
    "_workers[-1]": AGAIN,
    "_workers[4]": AGAIN,
    "fastest_first": WAITS,
    "gen_square": AGAIN,
    "loky-4]": AGAIN,
    "loky-multiprocessing": MANY,
    "memmap": "time: it is about files that are mapped",
    "multiprocessing-loky": MANY,
    "separated_gc": MANY,
    "test_backend_batch_statistics": WAITS,
    "test_backend_nesting_level": MANY,
    "test_error_capture": WAITS,
    "test_nested_parallel_warnings": MANY,
    "test_parallel_as_context_manager": WAITS,
    "test_parallel_timeout": WAITS,
}
MEMMAPS = "arrays are sent with one copy, not by way of files that are mapped"
NESTED = "calls inside calls are sequential, or work: there is nothing to warn of"
BETTER = "one executor for all generators is loky's limit, and its error"
JOBLIB_DIFFERS = {
    "memmap": MEMMAPS,
    "test_parallel_config_no_backend": MEMMAPS,
    "test_nested_parallel_warnings": NESTED,
    "test_multiple_generator_call_separated_gc": BETTER,
    "test_error_capture": "workers are kept after the error of a task",
    "bound_method_loky": "looks for the log of processes",
}


@pytest.mark.timeout(theirs.LIMIT + 60)
def test_what_passes_with_joblibs_loky_passes_with_atoll(tmp_path, capsys):
    folder = tmp_path / "joblib"
    with zipfile.ZipFile(theirs.download(JOBLIB, tmp_path, "--only-binary")) as archive:
        archive.extractall(folder)
    adapt(folder / "joblib")
    files = [f"joblib/test/test_{name}.py" for name in JOBLIB_FILES]
    chosen = [*files, "-p", "by_atoll", "-k",
              "(loky or default or race_condition_when_persisting) and "
              + but({"dask": "is not loky"}, {} if theirs.WHOLE else JOBLIB_TIME)]  # fmt: skip
    count, text = theirs.compare(folder, "loky", chosen, JOBLIB_DIFFERS, [HERE])
    with capsys.disabled():
        print(text, file=sys.stderr)
    assert count > 40
