"""atoll.doctor and its command line, on packages of our own."""

import io
import json
import os
import platform
import pty
import signal
import subprocess
import sys

import atoll
import packages
import pytest
from support import SLACK, check_python, count_fds, python_env, until

NATIVE, ISOLATED, FAILS, MAIN = "native", "isolated", "fails", "main-fails"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    site = tmp_path_factory.mktemp("site")
    packages.make_all(site)
    return site


@pytest.fixture
def diagnose(site, monkeypatch):
    """A function that looks at packages of ours, in this process."""
    monkeypatch.syspath_prepend(str(site))

    def diagnose(*names, **kwargs):
        return atoll.doctor(names, **{"jobs": 2, **kwargs})

    return diagnose


def start(site, *args, **kwargs):
    return subprocess.Popen(
        [sys.executable, "-m", "atoll", *args],
        env=python_env(PYTHONPATH=str(site), **kwargs.pop("env", {})),
        stdin=subprocess.DEVNULL,
        text=True,
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **kwargs},
    )


def cli(site, *args, **kwargs):
    process = start(site, *args, **kwargs)
    out, err = process.communicate(timeout=100)
    return process.returncode, out, err


# ---------------------------------------------------------------------- verdicts

VERDICTS = {
    "adt-plain": (ISOLATED, None),
    "adt-declared": (NATIVE, None),
    "adt-single": (ISOLATED, None),
    "adt-crash": (FAILS, "adt_crash: SIGSEGV"),
    "adt-abort": (FAILS, "adt_abort: SIGABRT (free(): invalid size)"),
    "adt-leave": (FAILS, "adt_leave: it ended the process with status 3"),
    "adt-raise": (FAILS, "adt_raise: RuntimeError: not"),
    "adt-broken": (MAIN, "adt_broken: OSError: no such device"),
    "adt-missing": (MAIN, "adt_missing: ImportError: libadt_needed.so: cannot open"),
    "adt-late": (FAILS, "isolated: closing the interpreter: SIGSEGV"),
    "adt-once": (FAILS, "adt_once: in two interpreters at once: ImportError: only once"),
    "adt-noisy": (ISOLATED, None),
    "adt-pure": (NATIVE, None),
    "adt-exit": (ISOLATED, None),
    "adt-exit-after": (FAILS, "at the exit of the process: it ended the process with"),
    "adt-unlisted": (ISOLATED, None),
}


def test_verdicts(diagnose, capfd):
    found = {each.name: each for each in diagnose(*VERDICTS)}
    assert {name: each.verdict for name, each in found.items()} == {
        name: verdict for name, (verdict, _) in VERDICTS.items()
    }
    for name, (verdict, reason) in VERDICTS.items():
        if reason is None:
            assert found[name].reason is None
        else:
            assert found[name].reason.startswith(reason)
        assert found[name].works == (verdict in (NATIVE, ISOLATED))
    # Nothing of what the packages print is printed here.
    assert capfd.readouterr() == ("", "")
    (note,) = found["adt-exit"].notes
    assert "status 5" in note and "without interpreters" in note


def test_where_it_was_tried(diagnose):
    declared, plain, single = diagnose("adt-declared", "adt-plain", "adt-single")
    ok = dict.fromkeys(("main", "strict", "isolated", "both"), "ok")
    (module,) = declared.modules
    assert module.tried == ok
    assert os.path.isfile(module.file)
    for package in (plain, single):
        (module,) = package.modules
        reason = module.tried["strict"]
        assert module.tried == ok | {"strict": reason}
        assert reason.startswith("ImportError: module adt_") and "subinterpreters" in reason
        assert package.imports == ()


def test_a_package_goes_on_after_a_crash(diagnose):
    (suite,) = diagnose("adt_suite")  # by its name in Python
    assert (suite.name, suite.version, suite.verdict) == ("Adt.Suite", "2.5", FAILS)
    assert suite.reason.startswith("adt_suite.middle: SIGSEGV")
    assert {m.name: (m.verdict, m.test) for m in suite.modules} == {
        "adt_suite.first": (ISOLATED, False),
        "adt_suite.middle": (FAILS, False),
        "adt_suite.part": (ISOLATED, False),
        "adt_suite.private": (MAIN, False),
        "adt_suite.tests.probe": (FAILS, True),
    }
    assert [(m.name, m.verdict, m.file) for m in suite.imports] == [
        ("adt_suite", NATIVE, None)
    ]


def test_timeout(diagnose):
    (sleep,) = diagnose("adt-sleep", timeout=1.5)
    assert (sleep.verdict, sleep.reason) == (FAILS, "adt_sleep: timeout after 1.5 s")


def test_crashes_name_the_place(diagnose):
    """The shared object where CPython tells it, else a line of Python."""
    (module,) = diagnose("adt-crash")[0].modules
    if sys.version_info >= (3, 14):
        assert module.reason == f"SIGSEGV in {module.file}"
    else:
        assert module.reason.startswith("SIGSEGV at <frozen importlib")


def test_progress(diagnose):
    news = []
    found = diagnose("adt-plain", "adt-declared", jobs=1, progress=news.append)
    assert [each.diagnosis for each in news if each.diagnosis] == found
    assert {each.package for each in news} == {"adt-plain", "adt-declared"}
    assert "isolated: adt_plain" in [each.doing for each in news]
    assert (news[-1].done, news[-1].total) == (2, 2)


def test_an_error_in_progress_ends_it(diagnose):
    def progress(news):
        raise KeyError("mine")

    before = count_fds()
    with pytest.raises(KeyError, match="mine"):
        diagnose("adt-sleep", progress=progress)
    assert count_fds() == before


def test_wrong_arguments(diagnose):
    with pytest.raises(LookupError, match=r"'adt-plian'.*did you mean 'adt-plain'"):
        diagnose("adt-plian")
    with pytest.raises(LookupError, match="'sqlite3' belongs to Python itself"):
        diagnose("sqlite3")
    with pytest.raises(TypeError, match="not a str"):
        atoll.doctor("numpy")
    with pytest.raises(TypeError, match="not int"):
        diagnose(7)
    for kwargs in ({"timeout": 0}, {"timeout": float("nan")}, {"jobs": 0}):
        with pytest.raises(ValueError, match=r"not (0|nan)"):
            diagnose("adt-plain", **kwargs)


def test_all_that_is_installed(site, monkeypatch):
    """What has extension modules, but for atoll itself."""
    from atoll import _doctor_find

    monkeypatch.syspath_prepend(str(site))
    found = [package.name for package in _doctor_find.find(None)]
    assert {"adt-plain", "Adt.Suite", "adt-unlisted", "adt-noisy"} <= set(found)
    assert not {"adt-pure", "atoll", "pytest"} & set(found)
    assert found == sorted(found, key=_doctor_find.normal)
    (core,) = _doctor_find.find(["atoll"])[0].extensions
    assert core.name == "atoll._core"


def test_a_child_that_cannot_start(diagnose, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(RuntimeError, match="did not start"):
        diagnose("adt-plain")


def test_import_of_atoll_does_not_load_it():
    out = check_python(
        """
        import sys, atoll
        print([name for name in sys.modules if "doctor" in name])
        assert "doctor" in dir(atoll) and "subprocess" not in sys.modules
        print(atoll.doctor.__name__, atoll.Diagnosis.__name__)
        """
    )
    assert out == "[]\ndoctor Diagnosis"


# ------------------------------------------------------------------ command line


def test_text(site):
    status, out, err = cli(site, "doctor", "adt-plain", "adt.DECLARED", "adt_suite")
    assert (status, err) == (1, "")
    table = out.split("\n\n")[0].splitlines()
    assert [line.split() for line in table] == [
        ["package", "version", "modules", "as", "it", "is", "isolated", "verdict"],
        ["adt-declared", "1.0", "1", "1", "1", "native"],
        ["adt-plain", "1.0", "1", "0", "1", "isolated"],
        ["Adt.Suite", "2.5", "4", "0", "2", "fails"],
    ]
    assert "\x1b" not in out
    assert "  adt_suite.middle: fails: SIGSEGV" in out
    assert "  -> use it in the main interpreter only" in out
    assert "tests.probe" not in out and "adt_suite.first" not in out
    assert "2 modules are not listed that failed" in out


def test_all(site):
    status, out, err = cli(site, "doctor", "--all", "adt-plain", "adt_suite")
    assert (status, err) == (1, "")
    assert "  adt_plain: isolated\n" in out
    assert "  adt_suite: native\n" in out
    assert "  adt_suite.first: isolated\n" in out
    assert "  adt_suite.private: main: fails: OSError: no such device\n" in out
    assert "  adt_suite.tests.probe (test): fails: RuntimeError: not\n" in out


def test_json(site):
    status, out, err = cli(site, "doctor", "--json", "adt-plain", "adt-raise")
    assert (status, err) == (1, "")
    data = json.loads(out)
    plain, raises = data.pop("packages")
    assert data == {
        "schema": 1,
        "atoll": atoll.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "interrupted": False,
    }
    strict = plain["modules"][0]["tried"]["strict"]
    assert plain == {
        "name": "adt-plain",
        "version": "1.0",
        "verdict": "isolated",
        "reason": None,
        "imports": [],
        "modules": [
            {
                "name": "adt_plain",
                "file": str(site / ("adt_plain" + packages.EXTENSION_SUFFIXES[0])),
                "test": False,
                "verdict": "isolated",
                "reason": None,
                "tried": {"main": "ok", "strict": strict, "isolated": "ok", "both": "ok"},
            }
        ],
        "notes": [],
    }
    (module,) = raises["modules"]
    assert module["tried"]["isolated"] == "RuntimeError: not"
    assert "both" not in module["tried"]
    assert raises["reason"] == f"adt_raise: {module['reason']}"


def test_exit_status(site):
    assert cli(site, "doctor", "adt-plain", "adt-declared", "--jobs=1")[0] == 0
    assert cli(site, "doctor", "adt-broken", "adt-plain")[0] == 1
    assert cli(site, "doctor", "adt-raise")[0] == 1


@pytest.mark.parametrize(("args", "expected"), [([], 0), (["x"], 1)])
def test_what_is_broken_anyway_counts_only_if_named(monkeypatch, capsys, args, expected):
    from atoll import __main__, _doctor

    broken = atoll.Diagnosis("x", "1", MAIN, "x: OSError", (), (), ())

    def doctor(packages, *, progress, **kwargs):
        progress(_doctor.Progress("x", "exit", 1, 1, broken))

    monkeypatch.setattr(_doctor, "doctor", doctor)
    assert __main__.main(["doctor", *args]) == expected
    assert "main: fails" in capsys.readouterr().out


def test_a_terminal_without_rich(monkeypatch):
    from atoll import _doctor_show

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setitem(sys.modules, "rich.console", None)
    file = Terminal()
    works = atoll.Diagnosis("a-name", "1", NATIVE, None, (), (), ("a note",))
    _doctor_show.show([works], False, file)
    lines = file.getvalue().splitlines()
    assert lines[0].startswith("package  version  modules") and len(lines) == 5
    assert lines[1].endswith("native") and lines[-1] == "  note: a note"
    file = io.StringIO()
    _doctor_show.show([], False, file)
    assert file.getvalue() == "no installed package has extension modules\n"


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ([], "COMMAND"),
        (["nonsense"], "nonsense"),
        (["doctor", "adt-plian"], "did you mean 'adt-plain'"),
        (["doctor", "--jobs", "0"], "positive number"),
        (["doctor", "--timeout", "soon"], "number of seconds"),
        (["doctor", "--frobnicate"], "--frobnicate"),
    ],
)
def test_wrong_usage(site, args, text):
    status, out, err = cli(site, *args)
    assert (status, out) == (2, "")
    assert text in err and "Traceback" not in err


def test_help_and_version(site):
    status, out, err = cli(site, "--version")
    assert (status, out, err) == (0, f"atoll {atoll.__version__}\n", "")
    assert "doctor" in cli(site, "--help")[1]
    status, out, err = cli(site, "doctor", "--help")
    assert (status, err) == (0, "")
    for word in ("--json", "--all", "--timeout", "--jobs", "exit status: 0"):
        assert word in out


def test_the_console_script(site):
    script = os.path.join(os.path.dirname(sys.executable), "atoll")
    done = subprocess.run(
        [script, "doctor", "adt_plain"],
        env=python_env(PYTHONPATH=str(site)),
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "isolated" in done.stdout


def test_folder_of_sources_does_not_hide_what_is_installed(site, tmp_path):
    (tmp_path / "adt_plain.py").write_text("raise SystemExit('the wrong one')")
    assert cli(site, "doctor", "adt-plain", cwd=tmp_path)[0] == 0


def interrupted(site, tmp_path, number, *args):
    """Send a signal to its process group while adt-sleep sleeps."""
    mark = tmp_path / "mark"
    process = start(
        site, "doctor", "--jobs=1", *args, "adt-plain", "adt-sleep",
        env={"ATOLL_TEST_MARK": str(mark)}, start_new_session=True,
    )  # fmt: skip
    try:
        until(lambda: mark.exists() and mark.read_text().endswith("\n"), 60)
        os.killpg(process.pid, number)
        out, err = process.communicate(timeout=SLACK)
    finally:
        process.kill()
    with pytest.raises(ProcessLookupError):
        os.kill(int(mark.read_text()), 0)
    return process.returncode, out, err


def test_interrupt(site, tmp_path):
    status, out, err = interrupted(site, tmp_path, signal.SIGINT)
    assert (status, err) == (130, "interrupted\n")
    assert "adt-plain" in out and "adt-sleep" not in out


def test_interrupt_and_json(site, tmp_path):
    status, out, err = interrupted(site, tmp_path, signal.SIGINT, "--json")
    assert (status, err) == (130, "interrupted\n")
    data = json.loads(out)
    assert data["interrupted"] is True
    assert [each["name"] for each in data["packages"]] == ["adt-plain"]


def test_termination_ends_the_children(site, tmp_path):
    assert interrupted(site, tmp_path, signal.SIGTERM) == (143, "", "")


def test_nobody_reads(site):
    reader, writer = os.pipe()
    os.close(reader)
    try:
        status, _, err = cli(site, "doctor", "adt-plain", stdout=writer)
    finally:
        os.close(writer)
    assert (status, err) == (1, "")


def read_terminal(fd):
    text = b""
    while True:
        try:
            data = os.read(fd, 4096)
        except OSError:  # EIO: nobody has it open for writing any more
            return text.decode()
        text += data


@pytest.mark.parametrize("which", ["stdout", "stderr"])
def test_terminals(site, which):
    """The table in colour, and a line that says what is going on."""
    master, slave = pty.openpty()
    try:
        env = {"TERM": "xterm", "COLUMNS": "80"}
        process = start(site, "doctor", "adt-plain", env=env, **{which: slave})
        os.close(slave)
        text = read_terminal(master)
        out, err = process.communicate(timeout=SLACK)
    finally:
        os.close(master)
    assert process.returncode == 0
    if which == "stdout":
        assert "adt-plain" in text and "isolated" in text
        assert err == ""
    else:
        assert "\r\x1b[K0/1 adt-plain isolated: adt_plain" in text
        assert text.endswith("\r\x1b[K")
        assert "\x1b" not in out
