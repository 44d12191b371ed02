"""The command line, atoll doctor, on packages of our own."""

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
from support import SLACK, python_env, until


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
    from atoll._cli import main as __main__
    from atoll._doctor import doctor as _doctor

    broken = atoll.Diagnosis("x", "1", "main-fails", "x: OSError", (), (), ())

    def doctor(packages, *, progress, **kwargs):
        progress(_doctor.Progress("x", "exit", 1, 1, broken))

    monkeypatch.setattr(_doctor, "doctor", doctor)
    assert __main__.main(["doctor", *args]) == expected
    assert "main: fails" in capsys.readouterr().out


def test_a_terminal_without_rich(monkeypatch):
    from atoll._cli import doctor as _doctor_show

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setitem(sys.modules, "rich.console", None)
    file = Terminal()
    works = atoll.Diagnosis("a-name", "1", "native", None, (), (), ("a note",))
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
