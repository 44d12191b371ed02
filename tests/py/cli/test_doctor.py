"""atoll.doctor, on packages of our own."""

import os
import sys

import atoll
import pytest
from support import check_python, count_fds

NATIVE, ISOLATED, FAILS, MAIN = "native", "isolated", "fails", "main-fails"


@pytest.fixture
def diagnose(site, monkeypatch):
    """A function that looks at packages of ours, in this process."""
    monkeypatch.syspath_prepend(str(site))

    def diagnose(*names, **kwargs):
        return atoll.doctor(names, **{"jobs": 2, **kwargs})

    return diagnose


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
    from atoll._doctor import find as _doctor_find

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
