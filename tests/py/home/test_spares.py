"""Spares: interpreters that are ready before somebody needs one."""

import contextlib
import subprocess
import textwrap
import threading
import time

import atoll
import pytest
import tasks
from support import (
    SLACK,
    STRESS,
    UNDER_ASAN,
    Task,
    check_python,
    count_threads,
    leaves_interpreters,
    open_interpreters,
    python_args,
    python_env,
    until,
)


@pytest.fixture(autouse=True)
def off_afterwards():
    yield
    atoll.warm(0)


def test_a_spare_is_taken_and_replaced():
    assert atoll.warm(2) == 2
    spares = open_interpreters()
    assert len(spares) == 2
    with atoll.create("Eve") as interp:
        assert interp.id in spares
        assert interp.name == "Eve"
        assert interp.call(tasks.who) == interp.id
        until(lambda: len(open_interpreters()) == 3)
    atoll.warm(0)
    until(lambda: not open_interpreters())


def test_executors_and_tasks_take_them():
    atoll.warm(1)
    spare = open_interpreters()
    assert {atoll.spawn(tasks.who).result(SLACK)} == spare
    until(lambda: not spare & open_interpreters())
    atoll.warm(1)  # waits until it is ready
    spare = open_interpreters()
    log = atoll.create_queue()
    with atoll.InterpreterPoolExecutor(
        1, initializer=tasks.append, initargs=(log, "x")
    ) as pool:
        assert {pool.submit(tasks.who).result(SLACK)} == spare
        assert log.get_nowait() == "x"


def test_nobody_sees_them():
    before = atoll.list_all()
    atoll.warm(2)
    assert atoll.list_all() == before
    for id in open_interpreters():
        with pytest.raises(atoll.InterpreterNotFoundError):
            atoll.Interpreter(id)


def test_they_fit_or_are_not_taken(monkeypatch):
    atoll.warm(1, preload=["colorsys"])
    (spare,) = open_interpreters()
    with atoll.create() as plain:
        assert plain.id != spare
    with atoll.create(extensions="strict", preload=["colorsys"]) as strict:
        assert strict.id != spare
    monkeypatch.syspath_prepend("/nowhere")
    with atoll.create(preload=["colorsys"]) as other:
        assert other.id != spare
        assert other.call(tasks.imported, "colorsys")
    monkeypatch.undo()
    with atoll.create(preload=["colorsys"]) as interp:
        assert interp.id == spare
        assert interp.call(tasks.imported, "colorsys")


def test_there_are_limits():
    with pytest.raises(ValueError):
        atoll.warm(-1)
    with pytest.raises(TypeError):
        atoll.warm(1, preload="json")
    assert atoll.warm(3, preload=["no_such_module"]) <= 3
    until(lambda: not open_interpreters())
    for kind in ("colorsys", "wave", "string", "textwrap", "calendar", "csv"):
        atoll.warm(1, preload=[kind])
    until(lambda: len(open_interpreters()) <= 4)


def test_one_is_kept_after_an_executor():
    out = check_python("""
        import atoll, tasks, time
        from support import open_interpreters, until
        with atoll.InterpreterPoolExecutor(1) as pool:
            first = pool.submit(tasks.who).result()
        until(lambda: len(open_interpreters()) == 1)
        (spare,) = open_interpreters()
        atoll.warm(1)
        with atoll.InterpreterPoolExecutor(1) as pool:
            assert pool.submit(tasks.who).result() == spare
        print("ok")
    """)
    assert out == "ok"


@pytest.mark.parametrize("count", ["0", "2", "-3", "x"])
def test_the_environment_says_how_many(count):
    code = """
        import atoll, tasks, time
        from support import open_interpreters, until
        with atoll.InterpreterPoolExecutor(1) as pool:
            pool.submit(tasks.who).result()
        time.sleep(0.4)
        print(len(open_interpreters()))
    """
    done = subprocess.run(
        python_args("-c", textwrap.dedent(code)),
        env=python_env(ATOLL_SPARES=count),
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert int(done.stdout) == (2 if count == "2" else 0)


@leaves_interpreters
def test_a_forked_child_has_none():
    if UNDER_ASAN:
        pytest.skip("ASan cannot fork with threads")
    check_python("""
        import atoll, os, tasks, warnings
        warnings.simplefilter("ignore")
        atoll.warm(2)
        if os.fork() == 0:
            assert atoll.spawn(tasks.square, 3).result() == 9
            atoll.warm(1)
            assert atoll.create().call(tasks.square, 2) == 4
            raise SystemExit
        assert os.wait()[1] == 0
    """)


def test_nothing_is_left_behind():
    atoll.create().close()
    until(lambda: not open_interpreters())
    threads = count_threads()  # with that of the timers, of which closes have one
    for _ in range(5):
        atoll.warm(3)
        atoll.create().close()
        atoll.warm(0)
    until(lambda: count_threads() <= threads)


def test_a_spare_is_a_pools_before_anybody_sees_it():
    """While others close, and use, whatever they see: each task ends, and the pool's
    places are filled again."""
    with (
        atoll.InterpreterPoolExecutor(
            1, initializer=list, initargs=(list(range(100_000)),), max_tasks_per_child=1
        ) as pool,
        Meddlers(),
    ):
        end = time.monotonic() + 1.5 * STRESS
        count = 0
        while time.monotonic() < (end if count > 10 else end + 3 * SLACK):
            atoll.warm(4, wait=False)
            for future in [pool.submit(int) for _ in range(4)]:
                try:
                    assert future.result(SLACK) == 0
                    count += 1
                except (KeyboardInterrupt, atoll.InterpreterNotFoundError):
                    pass  # theirs
        assert count > 10
    atoll.warm(0)


class Meddlers:
    """Threads that close, interrupt and use every interpreter that they can find."""

    def __enter__(self):
        self.over = threading.Event()
        self.tasks = [Task(self.meddle, use) for use in (self.close, self.use, self.submit)]

    def __exit__(self, *exc):
        self.over.set()
        for task in self.tasks:
            task.result()

    def meddle(self, use):
        while not self.over.wait(0.0003):
            for interp in atoll.list_all():
                if interp.id != 0:
                    with contextlib.suppress(atoll.InterpreterError, RuntimeError):
                        use(interp)

    @staticmethod
    def close(interp):
        interp.close()

    @staticmethod
    def use(interp):
        interp.call(int)

    @staticmethod
    def submit(interp):
        interp.submit(int)
