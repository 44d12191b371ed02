"""faulthandler.dump_traceback(): the threads of all interpreters."""

import faulthandler
import re

import atoll
import pytest
from support import run_python

BLOCKS = re.compile(r"^\S.*most recent call first.*:\n(?:  .*\n?)*", re.MULTILINE)


def wait_here(started, over):
    started.release()
    over.wait()


def compute_here(started, over):
    started.release()
    while not over.is_set():
        pass


@pytest.fixture
def busy():
    """A pool whose two workers are in these functions."""
    started, over = atoll.Semaphore(0), atoll.Event()
    with atoll.InterpreterPoolExecutor(2, name="two") as pool:
        tasks = [pool.submit(work, started, over) for work in (wait_here, compute_here)]
        for _ in tasks:
            assert started.acquire(timeout=30)
        yield pool
        over.set()
        for task in tasks:
            task.result()


def dumped(path, call):
    with open(path, "w+") as file:
        call(file)
        file.seek(0)
        return BLOCKS.findall(file.read())


def with_function(blocks, name):
    return [block for block in blocks if f" in {name}\n" in block]


def test_all_interpreters(tmp_path, busy):
    blocks = dumped(tmp_path / "out", faulthandler.dump_traceback)
    for name in ("wait_here", "compute_here"):
        (block,) = with_function(blocks, name)
        assert re.match(r"Thread 0x[0-9a-f]{16}.* of interpreter \d+ 'two' ", block)
        assert f'  File "{__file__}", line ' in block
    (own,) = with_function(blocks, "test_all_interpreters")
    assert own.startswith("Current thread ")


def test_one_thread(tmp_path, busy):
    blocks = dumped(tmp_path / "out", lambda file: faulthandler.dump_traceback(file, False))
    assert len(blocks) == 1 and with_function(blocks, "test_one_thread")


def test_to_a_descriptor(tmp_path, busy):
    def dump(file):
        faulthandler.dump_traceback(file=file.fileno(), all_threads=True)

    assert len(with_function(dumped(tmp_path / "out", dump), "compute_here")) == 1


def test_in_a_worker(tmp_path, busy):
    def dump(path):
        import faulthandler

        with open(path, "w") as file:
            faulthandler.dump_traceback(file)

    path = str(tmp_path / "out")
    with atoll.InterpreterPoolExecutor(1) as pool:
        pool.submit(dump, path).result()
    with open(path) as file:
        blocks = BLOCKS.findall(file.read())
    (own,) = with_function(blocks, "dump")
    assert own.startswith("Current thread ")
    (main,) = with_function(blocks, "test_in_a_worker")
    assert " of the main interpreter " in main
    assert len(with_function(blocks, "compute_here")) == 1


def test_who_cannot_be_looked_at():
    # ctypes.PyDLL keeps the GIL.
    done = run_python(
        """
        import atoll, ctypes, faulthandler, os
        def hold(started, fd):
            read = ctypes.PyDLL(None).read
            byte = ctypes.create_string_buffer(1)
            started.set()
            read(fd, byte, 1)
        started = atoll.Event()
        fro, to = os.pipe()
        task = atoll.spawn(hold, started, fro)
        started.wait()
        faulthandler.dump_traceback()
        os.write(to, b"x")
        task.result()
        """
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"^Threads of interpreter \d+ .*: .+", done.stderr, re.MULTILINE)


def test_a_crash_shows_the_worker():
    done = run_python(
        """
        import atoll, faulthandler, resource
        def crash_here():
            import faulthandler
            faulthandler._sigsegv()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        faulthandler.enable()
        with atoll.InterpreterPoolExecutor(1) as pool:
            pool.submit(crash_here).result()
        """
    )
    assert done.returncode < 0 and " in crash_here\n" in done.stderr
