"""Surroundings follow tasks: what is changed here is so in the worker of the next task."""

import decimal
import gc
import logging
import os
import sys
import threading
import warnings

import atoll
import pytest
from support import run_python


def get_environ(name):
    return os.environ.get(name)


@pytest.fixture
def pool():
    with atoll.InterpreterPoolExecutor(1) as pool:
        pool.submit(abs, 1).result()
        yield pool


@pytest.fixture
def interp():
    with atoll.create() as interp:
        yield interp


# ------------------------------------------------------------------------- environ


def test_environ(pool, monkeypatch):
    monkeypatch.setenv("FOLLOW_A", "1")
    assert pool.submit(get_environ, "FOLLOW_A").result() == "1"
    monkeypatch.setenv("FOLLOW_A", "2")
    assert pool.submit(get_environ, "FOLLOW_A").result() == "2"
    monkeypatch.delenv("FOLLOW_A")
    assert pool.submit(get_environ, "FOLLOW_A").result() is None


def test_each_task_has_that_of_its_submission(pool, monkeypatch):
    futures = []
    for n in range(20):
        monkeypatch.setenv("FOLLOW_B", str(n))
        futures.append(pool.submit(get_environ, "FOLLOW_B"))
    assert [future.result() for future in futures] == [str(n) for n in range(20)]


def test_map_call_exec_spawn(interp, monkeypatch):
    monkeypatch.setenv("FOLLOW_C", "yes")
    assert interp.call(get_environ, "FOLLOW_C") == "yes"
    interp.exec("import os; assert os.environ['FOLLOW_C'] == 'yes'")
    assert interp.submit(get_environ, "FOLLOW_C").result() == "yes"
    assert atoll.spawn(get_environ, "FOLLOW_C").result() == "yes"
    with atoll.InterpreterPoolExecutor(2) as pool:
        assert list(pool.map(get_environ, ["FOLLOW_C"] * 4, chunksize=2)) == ["yes"] * 4


def test_a_worker_s_own_changes_stay(pool, monkeypatch):
    def set_own():
        os.environ["FOLLOW_OWN"] = "own"
        os.environ["FOLLOW_D"] = "own"

    monkeypatch.setenv("FOLLOW_D", "1")
    try:
        pool.submit(set_own).result()
        monkeypatch.setenv("FOLLOW_E", "2")
        assert pool.submit(get_environ, "FOLLOW_OWN").result() == "own"
        assert pool.submit(get_environ, "FOLLOW_D").result() == "own"
        monkeypatch.setenv("FOLLOW_D", "3")
        assert pool.submit(get_environ, "FOLLOW_D").result() == "3"
    finally:
        os.unsetenv("FOLLOW_OWN")


def test_two_sources(pool, interp, monkeypatch):
    """Each task has the surroundings of whoever has submitted it."""
    monkeypatch.setenv("FOLLOW_F", "main")
    queue = atoll.create_queue()

    def submit(pool, queue):
        os.environ["FOLLOW_F"] = "there"
        queue.put(pool.call(get_environ, "FOLLOW_F"))

    other = atoll.create()
    try:
        for _ in range(3):
            interp.call(submit, other, queue)
            assert queue.get() == "there"
            assert other.call(get_environ, "FOLLOW_F") == "main"
    finally:
        other.close()


def test_a_spare_has_that_of_now(monkeypatch):
    atoll.warm(1)
    try:
        monkeypatch.setenv("FOLLOW_G", "now")
        with atoll.create() as interp:
            assert interp.call(get_environ, "FOLLOW_G") == "now"
    finally:
        atoll.warm(0)


def test_an_initializer_has_it(monkeypatch):
    def keep():
        sys.kept = os.environ["FOLLOW_H"]

    monkeypatch.setenv("FOLLOW_H", "early")
    with atoll.InterpreterPoolExecutor(1, initializer=keep) as pool:
        monkeypatch.setenv("FOLLOW_H", "late")
        assert pool.submit(lambda: (sys.kept, os.environ["FOLLOW_H"])).result() == (
            "early",
            "late",
        )


def test_threads_change_it_at_once(monkeypatch):
    """Each thread's task has at least what that thread has set before."""
    errors = []
    with atoll.InterpreterPoolExecutor(2) as pool:

        def run(name):
            for n in range(50):
                os.environ[name] = str(n)
                got = pool.submit(get_environ, name).result()
                if got != str(n):
                    errors.append((name, n, got))

        names = [f"FOLLOW_T{n}" for n in range(4)]
        threads = [threading.Thread(target=run, args=(name,)) for name in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for name in names:
        del os.environ[name]
    assert errors == []


# ---------------------------------------------------------------------------- path


def test_path(pool, tmp_path, monkeypatch):
    (tmp_path / "follow_late.py").write_text("def f(x): return x + 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import follow_late

    assert pool.submit(follow_late.f, 1).result() == 2
    assert pool.submit(lambda: sys.path[0]).result() == str(tmp_path)
    sys.path.remove(str(tmp_path))
    assert str(tmp_path) not in pool.submit(lambda: sys.path).result()
    del sys.modules["follow_late"]


def test_a_folder_that_was_not_there(pool, tmp_path, monkeypatch):
    """Its finder has been asked, and main has called invalidate_caches() since."""

    def look():
        try:
            import follow_later
        except ImportError:
            return None
        return follow_later.x

    folder = tmp_path / "folder"
    monkeypatch.syspath_prepend(str(folder))
    assert pool.submit(look).result() is None
    folder.mkdir()
    (folder / "other.py").write_text("")
    assert pool.submit(look).result() is None
    (folder / "follow_later.py").write_text("x = 1\n")
    assert pool.submit(look).result() == 1
    assert pool.submit(lambda: __import__("other").__file__).result()


def test_a_worker_s_own_paths_stay(pool, monkeypatch):
    pool.submit(lambda: sys.path.insert(0, "/own/first")).result()
    pool.submit(lambda: sys.path.append("/own/last")).result()
    monkeypatch.setattr(sys, "path", ["/from/main", *sys.path])
    path = pool.submit(lambda: sys.path).result()
    assert path == ["/own/first", *sys.path, "/own/last"]


# ------------------------------------------------------------------------ warnings


def warn(text, category=UserWarning):
    warnings.warn(text, category, stacklevel=1)


class OwnWarning(UserWarning):
    """Known by name in main alone, when the interpreter warns."""


def test_pytest_warns_sees_warnings_of_tasks(pool):
    with pytest.warns(UserWarning, match="of a task"):
        pool.submit(warn, "of a task").result()
    with pytest.warns(OwnWarning, match="own"):
        pool.submit(warn, "own", OwnWarning).result()


def test_record_has_place_and_text(pool):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        pool.submit(warn, "here").result()
        pool.submit(warn, "here").result()
    assert [str(item.message) for item in seen] == ["here", "here"]
    assert seen[0].filename == __file__
    assert seen[0].lineno == warn.__code__.co_firstlineno + 1


def test_filters(pool):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="as error"):
            pool.submit(warn, "as error").result()
        warnings.filterwarnings("ignore", message="not this", category=UserWarning)
        pool.submit(warn, "not this one").result()
        with pytest.raises(DeprecationWarning):
            pool.submit(warn, "but this", DeprecationWarning).result()


def test_a_worker_s_own_filters_stay(pool):
    pool.submit(warnings.simplefilter, "ignore", ResourceWarning).result()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pool.submit(warn, "ignored", ResourceWarning).result()


def test_a_category_that_is_not_there_yet(pool, tmp_path, monkeypatch):
    (tmp_path / "follow_category.py").write_text("class Late(UserWarning): pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    from follow_category import Late

    def warn_late():
        from follow_category import Late

        warnings.warn("late", Late, stacklevel=1)

    with warnings.catch_warnings():
        warnings.filterwarnings("error", category=Late)
        assert not pool.submit(lambda: "follow_category" in sys.modules).result()
        with pytest.raises(UserWarning, match="late"):
            pool.submit(warn_late).result()
    del sys.modules["follow_category"]


def test_code_there_catches_its_own(pool):
    def catch():
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            warn("mine")
        return [str(item.message) for item in seen]

    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        assert pool.submit(catch).result() == ["mine"]
    assert seen == []


def test_warnings_are_shown_as_in_main():
    script = (
        "import warnings, atoll\n"
        "def warn(): warnings.warn('shown')\n"
        "warn()\n"
        "with atoll.create() as interp:\n"
        "    interp.call(warn)\n"
    )
    result = run_python(script)
    line = "<string>:2: UserWarning: shown\n"
    assert result.returncode == 0
    assert result.stderr.count(line) == 2, result.stderr


# ------------------------------------------------------------------------- the rest


def test_recursion_limit(pool):
    before = sys.getrecursionlimit()
    try:
        sys.setrecursionlimit(before + 321)
        assert pool.submit(sys.getrecursionlimit).result() == before + 321
    finally:
        sys.setrecursionlimit(before)
    assert pool.submit(sys.getrecursionlimit).result() == before


def test_logging_levels(pool, caplog):
    name = "follow.levels"

    def log(text):
        logging.getLogger(name).debug(text)

    logger = logging.getLogger(name)
    pool.submit(log, "not this").result()
    logger.setLevel(logging.DEBUG)
    try:
        pool.submit(log, "this").result()
        pool.submit(lambda: logging.getLogger("follow.made.later")).result()
        logging.disable(logging.DEBUG)
        pool.submit(log, "nor this").result()
        logging.disable(logging.NOTSET)
        pool.submit(log, "and this").result()
        logger.setLevel(logging.WARNING)
        pool.submit(log, "neither").result()
    finally:
        logging.disable(logging.NOTSET)
        logger.setLevel(logging.NOTSET)
    assert [record.getMessage() for record in caplog.records] == ["this", "and this"]
    assert pool.submit(lambda: logging.getLogger(name).level).result() == 0


def test_decimal_context(pool):
    def divide():
        return str(decimal.Decimal(1) / 3)

    with decimal.localcontext() as context:
        context.prec = 5
        assert pool.submit(divide).result() == "0.33333"
        context.traps[decimal.Inexact] = True
        with pytest.raises(decimal.Inexact):
            pool.submit(divide).result()
        context.traps[decimal.Inexact] = False
        context.rounding = decimal.ROUND_UP
        assert pool.submit(divide).result() == "0.33334"
    assert pool.submit(divide).result() == "0." + "3" * 28


def test_authkey(pool):
    from multiprocessing import process

    def get_key():
        from multiprocessing import process

        return bytes(process.current_process().authkey)

    assert pool.submit(get_key).result() == bytes(process.current_process().authkey)
    old = process.current_process().authkey
    process.current_process().authkey = b"another"
    try:
        assert pool.submit(get_key).result() == b"another"
    finally:
        process.current_process().authkey = old


# --------------------------------------------------------------------------- follow


@pytest.mark.parametrize("follow", [False, (), atoll.FOLLOWS - {"environ"}, ["path"]])
def test_what_is_not_followed(follow, monkeypatch):
    with atoll.InterpreterPoolExecutor(1, follow=follow) as pool:
        pool.submit(abs, 1).result()
        monkeypatch.setenv("FOLLOW_N", "1")
        assert pool.submit(get_environ, "FOLLOW_N").result() is None
    with atoll.create(follow=follow) as interp:
        monkeypatch.setenv("FOLLOW_N", "2")
        assert interp.call(get_environ, "FOLLOW_N") == "1"


def test_the_others_are(monkeypatch):
    with atoll.InterpreterPoolExecutor(1, follow=atoll.FOLLOWS - {"path"}) as pool:
        pool.submit(abs, 1).result()
        monkeypatch.setenv("FOLLOW_M", "1")
        monkeypatch.setattr(sys, "path", ["/not/there", *sys.path])
        assert pool.submit(get_environ, "FOLLOW_M").result() == "1"
        assert "/not/there" not in pool.submit(lambda: sys.path).result()


@pytest.mark.parametrize(
    ("follow", "error", "text"),
    [
        ("environ", TypeError, "not one str"),
        (3, TypeError, "not int"),
        (["environs"], ValueError, "'environs'.*environ, path"),
    ],
)
def test_bad_follow(follow, error, text):
    with pytest.raises(error, match=text):
        atoll.InterpreterPoolExecutor(1, follow=follow)
    with pytest.raises(error, match=text):
        atoll.create(follow=follow)


def test_nothing_is_sent_when_nothing_has_changed(pool):
    """The function that collects is not called again."""
    from atoll._follow import collect

    def refuse(part):
        raise AssertionError(part)

    pool.submit(abs, 1).result()
    before = dict(collect._COLLECT)
    collect._COLLECT.update(dict.fromkeys(before, lambda: refuse("called")))
    try:
        for _ in range(5):
            pool.submit(abs, 1).result()
    finally:
        collect._COLLECT.update(before)


def test_what_cannot_be_collected_raises_where_it_is_submitted(pool):
    from atoll._follow import collect

    before = dict(collect._COLLECT)
    collect._COLLECT.update(dict.fromkeys(before, lambda: 1 / 0))
    level = logging.root.level
    try:
        logging.root.setLevel(level + 1)
        with pytest.raises(ZeroDivisionError):
            pool.submit(abs, 1)
    finally:
        collect._COLLECT.update(before)
        logging.root.setLevel(level)
    assert pool.submit(lambda: logging.root.level).result() == level


def test_changes_and_workers_in_great_number(monkeypatch):
    """Records are counted right: many changes, cancelled tasks, workers that come and
    go; the debug build and ASan see what is lost."""
    for n in range(2):
        with atoll.InterpreterPoolExecutor(2, max_tasks_per_child=7) as pool:
            futures = []
            for i in range(30):
                if i % 3 == 0:
                    monkeypatch.setenv("FOLLOW_X", f"{n} {i}")
                futures.append(pool.submit(get_environ, "FOLLOW_X"))
            for future in futures[1::2]:
                future.cancel()
            want = [f"{n} {i - i % 3}" for i in range(0, 30, 2)]
            assert [future.result() for future in futures[::2]] == want
    gc.collect()


def test_who_comes_while_another_collects_collects_as_well(pool):
    """What it gets is not older than its own submission."""
    from atoll._follow import LOGGING, collect

    own, other = collect._COLLECT[LOGGING], []
    begun, done = threading.Event(), threading.Event()

    def slowly():
        if begun.is_set():
            return own()
        begun.set()
        assert done.wait(10)
        return own()

    level = logging.root.level
    collect._COLLECT[LOGGING] = slowly
    try:
        logging.root.setLevel(level + 1)
        thread = threading.Thread(target=lambda: other.append(pool.submit(abs, 1)))
        thread.start()
        assert begun.wait(10)
        assert pool.submit(lambda: logging.root.level).result() == level + 1
    finally:
        done.set()
        thread.join()
        collect._COLLECT[LOGGING] = own
        logging.root.setLevel(level)
    assert other[0].result() == 1


def test_others_have_all_of_cpython_s_watchers():
    """Then what would be watched is compared."""
    script = (
        "import atoll, ctypes, os\n"
        "kind = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_int, *[ctypes.c_void_p] * 3)\n"
        "ignore = kind(lambda *args: 0)\n"
        "try:\n"
        "    while True: ctypes.pythonapi.PyDict_AddWatcher(ignore)\n"
        "except RuntimeError: pass\n"
        "with atoll.InterpreterPoolExecutor(1) as pool:\n"
        "    for text in '123':\n"
        "        os.environ['FOLLOW_W'] = text\n"
        "        assert pool.submit(lambda: os.environ['FOLLOW_W']).result() == text\n"
    )
    assert run_python(script).returncode == 0
