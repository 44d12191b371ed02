"""`pytest --atoll=2`, run on small projects in processes of their own."""

import os
import re
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET

import pytest

#: Seconds for a run, on a machine that does much else.
PATIENCE = 90

pytest_plugins = ["pytester"]


@pytest.fixture
def run(pytester, monkeypatch):
    """run(*args) runs pytest with two workers, and no plugin but what `args` name."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)  # this may be one

    def run(*args, workers=2):
        return pytester.runpytest_subprocess(
            "-p", "pytest_atoll", f"--atoll={workers}", *args, timeout=PATIENCE
        )

    return run


#: One of each outcome, and what is captured.
SAMPLE = """
    import logging, os, sys, threading, warnings
    import pytest

    @pytest.fixture(scope="session")
    def once(tmp_path_factory):
        with open("made", "a") as file:
            print(os.environ["PYTEST_XDIST_WORKER"] if "PYTEST_XDIST_WORKER" in os.environ
                  else "master", file=file)
        return tmp_path_factory.mktemp("once")

    @pytest.mark.parametrize("n", range(8))
    def test_numbers(n, once, tmp_path):
        assert tmp_path.parts[:-1] == once.parts[:-1]

    def test_fails():
        print("a line")
        print("another", file=sys.stderr)
        logging.getLogger("sample").warning("a record")
        assert [1, 2] == [1, 3]

    def test_warns():
        warnings.warn("take care")

    def test_thread():
        thread = threading.Thread(target=lambda: 1 / 0)
        thread.start()
        thread.join()

    def test_skipped():
        pytest.skip("not today")

    @pytest.mark.xfail(reason="known")
    def test_xfails():
        raise RuntimeError

    @pytest.mark.xfail
    def test_xpasses():
        pass

    @pytest.fixture
    def broken():
        yield
        raise ValueError("in the teardown")

    def test_teardown(broken):
        pass

    def test_property(record_property, capsys):
        print("kept")
        assert capsys.readouterr().out == "kept\\n"
        record_property("size", 3)

    class TestClass:
        def test_method(self, worker_id, testrun_uid):
            assert len(testrun_uid) == 32
"""


def cases(path):
    """(class, name) -> what the junit file says, but for times."""
    found = {}
    for case in ET.parse(path).getroot().iter("testcase"):
        said = [
            (child.tag, child.get("message"), child.get("type"))
            for child in case
            if child.tag != "properties"
        ]
        said += [("property", p.get("name"), p.get("value")) for p in case.iter("property")]
        found.setdefault((case.get("classname"), case.get("name")), []).extend(said)
    return found


def test_the_same_as_without(pytester, run):
    pytester.makepyfile(SAMPLE)
    both = "--junitxml={}.xml", "-ojunit_family=xunit1", "-rA", "--durations=3"
    both += ("--durations-min=0",)
    plain = run(*(a.format("plain") for a in both), workers=0)
    ours = run(*(a.format("ours") for a in both))
    outcomes = plain.parseoutcomes()
    ones = dict.fromkeys(["failed", "errors", "skipped", "xfailed", "xpassed"], 1)
    assert outcomes == {"passed": 13, "warnings": 2, **ones}
    assert ours.parseoutcomes() == outcomes
    assert ours.ret == plain.ret == pytest.ExitCode.TESTS_FAILED
    assert cases("ours.xml") == cases("plain.xml")
    ours.stdout.fnmatch_lines(["atoll: 2 interpreters", "collected 17 items"])
    text = ours.stdout.str()
    for words in (
        "assert [1, 2] == [1, 3]",
        "At index 1 diff: 2 != 3",
        "-- Captured stdout call --",
        "-- Captured stderr call --",
        "-- Captured log call --",
        "UserWarning: take care",
        "PytestUnhandledThreadExceptionWarning",
        "ZeroDivisionError",
        "slowest 3 durations",
        "ValueError: in the teardown",
        "[100%]",
    ):
        assert words in text
    # One fixture of the session for each worker that has used it, and one without.
    made = (pytester.path / "made").read_text().split()
    assert len(set(made)) == len(made)
    assert set(made) <= {"master", "atoll-1", "atoll-2"}


@pytest.mark.parametrize("options", [("-x",), ("--maxfail=2",)], ids=str)
def test_stops_after_failures(pytester, run, options):
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.parametrize("n", range(40))
        def test_all_fail(n):
            assert False
        """
    )
    result = run(*options, "-q")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    most = 1 if options == ("-x",) else 2
    result.stdout.fnmatch_lines([f"*stopping after {most} failures*"])
    assert most <= result.parseoutcomes()["failed"] <= most + 1  # one in each at a time


def test_last_failed_first(pytester, run):
    pytester.makepyfile(
        test_one="def test_good(): pass\ndef test_bad(): assert 0",
        test_two="def test_also_good(): pass",
    )
    assert run().parseoutcomes() == {"passed": 2, "failed": 1}
    again = run("--lf")
    assert again.parseoutcomes() == {"failed": 1}
    again.stdout.fnmatch_lines(["run-last-failure: rerun previous 1 failure*"])
    first = run("--ff", "-v", workers=1)
    assert first.parseoutcomes() == {"passed": 2, "failed": 1}
    first.stdout.fnmatch_lines(["[[]atoll-1] [[] 33%] FAILED test_one.py::test_bad*"])


def test_choosing_and_deselecting(pytester, run):
    pytester.makepyfile(
        """
        import pytest

        def test_one(): pass
        @pytest.mark.skipif(True, reason="no")
        def test_two(): pass
        def test_other(): print("seen by -s")
        """
    )
    result = run("-k", "one or two", "-q")
    assert result.parseoutcomes() == {"passed": 1, "skipped": 1, "deselected": 1}
    assert "seen by -s" in run("-s", "-q").stdout.str()
    only = run("--collect-only", "-q")
    only.stdout.fnmatch_lines(["*::test_one", "*::test_two", "*::test_other"])


def test_no_tests_and_errors_of_collection(pytester, run):
    assert run().ret == pytest.ExitCode.NO_TESTS_COLLECTED
    pytester.makepyfile(test_good="def test(): pass", test_bad="import missing_module")
    result = run()
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert result.parseoutcomes() == {"errors": 1}
    result.stdout.fnmatch_lines(["*1 error during collection*"])
    goes_on = run("--continue-on-collection-errors")
    assert goes_on.parseoutcomes() == {"passed": 1, "errors": 1}


def test_different_collections_are_refused(pytester, run):
    pytester.makepyfile(
        """
        import time
        import _interpreters, pytest

        @pytest.mark.parametrize("n", [_interpreters.get_current()[0], -1])
        def test(n):
            while True:  # until the other worker has been heard
                time.sleep(0.01)
        """
    )
    process = pytester.popen(
        [sys.executable, "-m", "pytest", "-p", "pytest_atoll", "--atoll=2"],
        stdin=subprocess.DEVNULL,
    )
    try:
        said, _ = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    text = said.decode()
    assert process.returncode == pytest.ExitCode.INTERRUPTED, text
    assert "have collected different tests" in text
    assert re.search(r"^[-+].*test\[\d+\]", text, re.M), text


def test_ctrl_c(pytester, run):
    pytester.makepyfile(
        """
        import time
        import pytest

        @pytest.fixture
        def held():
            yield
            open("torn-down", "w").close()

        @pytest.mark.parametrize("n", range(2))
        def test(n, held):
            open(f"begun-{n}", "w").close()
            while True:
                time.sleep(0.01)
        """
    )
    process = pytester.popen(
        [sys.executable, "-m", "pytest", "-p", "pytest_atoll", "--atoll=2"],
        stdin=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        end = time.monotonic() + PATIENCE
        while not (pytester.path / "begun-0").exists():
            assert time.monotonic() < end and process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    assert process.returncode == pytest.ExitCode.INTERRUPTED
    assert b"KeyboardInterrupt" in said
    assert (pytester.path / "torn-down").exists()


def test_what_a_process_has_one_of(pytester, run):
    """The working directory, the umask and the environment are a worker's own, even if
    each test runs while the other is in the middle."""
    pytester.makeconftest("import atoll")
    pytester.makepyfile(
        """
        import os, subprocess, sys, time
        import pytest

        def both_are_here(folder, n):
            (folder / str(n)).touch()
            end = time.monotonic() + 60
            while not (folder / str(1 - n)).exists():
                assert time.monotonic() < end
                time.sleep(0.005)

        @pytest.mark.parametrize("n", range(2))
        def test(n, monkeypatch, tmp_path, request):
            shared = request.config.rootpath
            monkeypatch.chdir(tmp_path)
            monkeypatch.setenv("WHO", str(n))
            before = os.umask(0o70 + n)
            both_are_here(shared, n)
            assert os.getcwd() == str(tmp_path)
            assert os.environ["WHO"] == str(n)
            assert f"test[{n}]" in os.environ["PYTEST_CURRENT_TEST"]
            assert os.umask(before) == 0o70 + n
            for how in {}, {"close_fds": False}, {"cwd": tmp_path}:
                said = subprocess.check_output(["/bin/sh", "-c", "echo $WHO; pwd"], **how)
                assert said.decode().split() == [str(n), str(tmp_path)]
        """
    )
    result = run()
    assert result.parseoutcomes() == {"passed": 2}


def test_main_runs_what_workers_cannot(pytester, run):
    pytester.makepyfile(
        """
        import os, signal
        import pytest

        def test_worker(worker_id):
            assert worker_id.startswith("atoll-")

        @pytest.mark.atoll_main
        @pytest.mark.parametrize("url", ["http://a//b", "c::d"])
        def test_main(worker_id, url):
            assert worker_id == "master"
            signal.signal(signal.SIGALRM, signal.SIG_DFL)

        def test_descriptors(capfd):
            os.system("echo heard")
            assert capfd.readouterr().out == "heard\\n"
        """
    )
    result = run("-v")
    assert result.parseoutcomes() == {"passed": 4}
    result.stdout.fnmatch_lines(["*test_main[[]http://a//b] PASSED*", "*[[]100%]"])


def test_what_children_print_is_not_in_the_way(pytester, run):
    pytester.makepyfile(
        """
        import os
        def test_child():
            os.system("echo from a child")
            assert False
        """
    )
    lines = run("-rN").stdout.lines
    [at] = [n for n, line in enumerate(lines) if line == "from a child"]
    assert "descriptors" in lines[at - 1]


def test_time_limits(pytester, run):
    pytester.makepyfile(
        """
        import time
        import pytest
        @pytest.mark.timeout(0.2)
        def test_slow():
            while True:
                pass
        @pytest.mark.timeout(0.2)
        def test_deep_in_c():
            time.sleep(3)
        @pytest.mark.timeout(60)
        def test_quick():
            pass
        """
    )
    result = run("-p", "pytest_timeout", workers=1)
    assert result.parseoutcomes() == {"passed": 1, "failed": 2}
    result.stdout.fnmatch_lines(["*Timeout (>0.2s)*", "*cannot be stopped; atoll-1 is given*"])


def test_a_worker_that_is_lost(pytester, run):
    pytester.makepyfile(
        """
        import pytest
        import atoll._pytest.inside as inside

        @pytest.mark.parametrize("n", range(6))
        def test(n, request):
            if n == 2:
                inside.Inside._send = None  # what comes next is not reported
        """
    )
    result = run(workers=1)
    assert result.parseoutcomes() == {"passed": 5, "failed": 1}
    result.stdout.fnmatch_lines(["*atoll-1 ended*"])


def test_exit_and_internal_errors(pytester, run):
    pytester.makepyfile("import pytest\ndef test(): pytest.exit('enough', returncode=7)")
    result = run()
    assert result.ret == 7
    result.stdout.fnmatch_lines(["*Exit: enough*"])
    pytester.makeconftest("def pytest_runtest_setup(item): item.no_such_attribute")
    pytester.makeconftest("def pytest_runtest_protocol(item): raise RuntimeError('oops')")
    result = run()
    assert result.ret == pytest.ExitCode.INTERNAL_ERROR
    assert "oops" in result.stdout.str() + result.stderr.str()


def test_hooks_of_plugins_for_xdist(pytester, run):
    """As pytest-cov has them: something for each worker, and something back."""
    pytester.makeconftest(
        """
        import pytest

        @pytest.hookimpl(optionalhook=True)
        def pytest_configure_node(node):
            assert node.config.option.dist != "no"
            node.workerinput["given"] = node.gateway.id

        def pytest_sessionfinish(session):
            if hasattr(session.config, "workerinput"):
                assert session.config.option.dist == "no"
                session.config.workeroutput["back"] = session.config.workerinput["given"]

        @pytest.hookimpl(optionalhook=True)
        def pytest_testnodedown(node, error):
            with open("back", "a") as file:
                print(node.gateway.id, node.workeroutput["back"], file=file)
        """
    )
    pytester.makepyfile("def test(): pass")
    assert run(workers=1).parseoutcomes() == {"passed": 1}
    assert (pytester.path / "back").read_text() == "atoll-1 atoll-1\n"


def test_refused(pytester, run):
    pytester.makepyfile("def test(): pass")
    result = run("--pdb")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --pdb*"])
    assert run("--pdb", workers="auto").ret == 0
    for args in ["no_such_file.py"], ["--no-such-option"]:
        result = run(*args)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        assert result.stderr.str().count("ERROR: ") == 1
    result = run("-p", "xdist", "-n", "2")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --atoll and xdist's*"])


def test_costs_nothing_without_the_option(pytester):
    """Loaded by its entry point, it imports nothing of atoll's, and leaves atoll's modules
    out of what has its assertions rewritten."""
    pytester.makepyfile(
        """
        import sys
        def test(pytestconfig):
            assert pytestconfig.pluginmanager.has_plugin("atoll")
            assert not [name for name in sys.modules if name.split(".")[0] == "atoll"]
            import atoll.errors
            assert "AssertionRewritingHook" not in repr(atoll.errors.__loader__)
        """
    )
    env = {k: v for k, v in os.environ.items() if k != "PYTEST_DISABLE_PLUGIN_AUTOLOAD"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:hypothesispytest", "-p", "no:anyio"],
        cwd=pytester.path,
        env=env,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stdout
