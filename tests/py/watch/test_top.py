"""atoll.serve_stats and `atoll top`: the user who may look sees what goes on."""

import errno
import itertools
import json
import os
import socket
import subprocess
import threading
import time

import atoll
import pytest
import tasks
from atoll._cli import top as _top_show
from atoll._look import top as _top
from support import SLACK, python_args, until


@pytest.fixture(autouse=True)
def own_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


@pytest.fixture
def server():
    with atoll.serve_stats() as server:
        yield server


def top(*args):
    return subprocess.run(
        [*python_args("-m", "atoll", "top"), *map(str, args)],
        capture_output=True,
        text=True,
        timeout=SLACK,
        check=False,
    )


def test_what_it_shows(server):
    queue = atoll.create_queue(7)
    queue.put("x")
    ready = atoll.create_queue()
    with atoll.InterpreterPoolExecutor(2, name="shown") as pool:
        assert pool.submit(tasks.square, 3).result(SLACK) == 9
        waiting = pool.submit(tasks.get_after, ready, queue)
        ready.get(timeout=SLACK)
        until(lambda: any("get from queue" in w["what"] for w in _top.snapshot()["waits"]))
        done = top("--once", "--json", os.getpid())
        assert done.returncode == 0, done.stderr
        look = json.loads(done.stdout)
        text = top("--once")
        queue.put(None)
        waiting.result(SLACK)
    assert look["pid"] == os.getpid()
    assert look["memory"] > 1_000_000
    assert "main" in [interp["name"] for interp in look["interpreters"]]
    (found,) = [p for p in look["pools"] if p["name"] == "shown"]
    assert found["places"] == 2
    assert sum(w["done"] for w in found["workers"]) == 1
    assert sum(w["runs"] is not None for w in found["workers"]) == 1
    (row,) = [row for row in look["queues"] if row["capacity"] == 7]
    assert row["length"] == 0
    assert row["receiving"] == 1
    assert any("get from queue" in wait["what"] for wait in look["waits"])
    assert text.returncode == 0, text.stderr
    for word in ("shown", "main", "get from queue", "1 to receive"):
        assert word in text.stdout


def test_again_it_is_the_same_and_closed_it_is_gone(server):
    assert atoll.serve_stats() is server
    assert os.path.exists(server.path)
    server.close()
    server.close()
    assert not os.path.exists(server.path)
    done = top("--once", os.getpid())
    assert done.returncode == 2
    assert "ATOLL_TOP=1" in done.stderr
    with atoll.serve_stats() as again:
        assert again is not server
        assert top("--once", "--json").returncode == 0


def test_nobody_serves():
    for args in ((), (1,)):
        done = top(*args)
        assert done.returncode == 2
        assert "atoll.serve_stats()" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_directory_that_others_may_use(server, tmp_path):
    where = os.path.dirname(server.path)
    os.chmod(where, 0o777)
    done = top("--once", os.getpid())
    assert done.returncode == 2
    assert "chmod 700" in done.stderr
    server.close()
    with pytest.raises(PermissionError, match="others may use"):
        atoll.serve_stats()
    os.chmod(where, 0o700)
    assert os.stat(where).st_mode & 0o777 == 0o700


def test_a_link_is_no_directory(tmp_path):
    os.mkdir(tmp_path / "elsewhere", 0o700)
    os.symlink(tmp_path / "elsewhere", _top.directory())
    with pytest.raises(PermissionError, match="not a directory of this user's"):
        atoll.serve_stats()


def test_elsewhere_than_in_main(server):
    with atoll.create() as interp, pytest.raises(atoll.ExecutionFailed, match="main interp"):
        interp.call(atoll.serve_stats)


def test_it_ends_with_the_process():
    code = "import atoll, sys; print(flush=True); sys.stdin.read()"
    program = subprocess.Popen(
        [*python_args("-c", code)],
        env={**os.environ, "ATOLL_TOP": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with program:
        program.stdout.readline()
        viewer = subprocess.Popen(
            [*python_args("-m", "atoll", "top", "--json", "--interval", "1000")],
            stdout=subprocess.PIPE,
            text=True,
        )
        with viewer:
            assert json.loads(viewer.stdout.readline())["pid"] == program.pid
            program.stdin.close()
            assert viewer.stdout.read() == "it has ended\n"
        assert viewer.returncode == 0
    assert program.returncode == 0
    assert os.listdir(_top.directory()) == []


def test_many_viewers(server):
    links = []
    for _ in range(20):
        link = socket.socket(socket.AF_UNIX)
        link.connect(server.path)
        links.append(link)
    answers = 0
    for link in links:
        link.settimeout(SLACK)
        try:
            link.sendall(b"?")
            answers += link.makefile("rb").readline().endswith(b"\n")
        except OSError:
            pass  # turned away
    for link in links:
        link.close()
    assert answers == 8
    # Their places are free again.
    while top("--once", "--json").returncode != 0:
        pass


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_leaves_it_alone(server):
    pid = os.fork()
    if pid == 0:
        server.close()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert os.path.exists(server.path)
    assert top("--once", "--json").returncode == 0


def test_a_page_of_very_many():
    row = {"capacity": None, "length": 3, "closed": True, "receiving": 0, "sending": 2}
    look = {
        "pid": 1,
        "command": ["x" * 500],
        "time": 5.0,
        "cpu": 2.0,
        "memory": 5 << 30,
        "interpreters": [
            {"id": n, "name": "y" * 90, "state": "idle", "memory": 1 << 20} for n in range(99)
        ],
        "waits": [{"interpreter": 3, "seconds": 0.5, "what": "w"} for _ in range(1000)],
        "pools": [],
        "queues": [{"id": n, **row} for n in range(99)],
        "channels": [],
    }
    before = {**look, "time": 4.0, "cpu": 1.5}
    page = list(_top_show.lines(look, before))
    assert len(page) < 45
    assert "5.0 GiB, 50 % CPU" in page[1]
    assert any("… and 84 more" in line for line in page)


def busy_look():
    """A process where much goes on."""
    worker = {"runs": 12.3, "done": 123_456}
    row = {"capacity": 1000, "length": 999, "closed": False, "receiving": 0, "sending": 12}
    pools = [
        {
            "name": name,
            "queued": 12_345,
            "places": 16,
            "workers": [{"interpreter": n, **worker} for n in range(1, 13)],
        }
        for name in ("crawlers", "a pool with a name that is rather long")
    ]
    return {
        "pid": 4_194_304,
        "command": ["crawl.py", "--depth\n", "3"],
        "time": 5.0,
        "cpu": 2.0,
        "memory": 5 << 30,
        "interpreters": [
            {"id": n, "name": "crawlers", "state": "idle", "memory": 900 << 20}
            for n in range(30)
        ],
        "waits": [
            {"interpreter": n, "seconds": 3600.0, "what": f"recv on channel {n}"}
            for n in range(20, 26)
        ],
        "pools": pools,
        "queues": [{"id": 12_345, **row}],
        "channels": [{"id": 7, **row}],
    }


@pytest.mark.parametrize("width", [30, 40, 60, 80, 100])
def test_a_page_on_a_narrow_terminal(width):
    look = busy_look()
    page = list(_top_show.lines(look, {**look, "time": 4.0, "cpu": 1.5}, width))
    assert max(map(len, page)) <= width
    assert all(line.isprintable() for line in page)
    text = "\n".join(page)
    tables = [table.splitlines() for table in text.split("\n\n")[1:]]
    if width < 40:
        return
    assert [table[0].split()[0] for table in tables] == ["POOL", "INTERPRETER", "QUEUE,"]
    for word in ("BUSY", "QUEUED", "12345", "DOES", "LENGTH", "999", "WAITING"):
        assert word in text, word
    # What one looks for is said in full.
    for word in ("crawlers", "runs a task for 12.3 s", "50 % CPU", "RATE", "12 to send"):
        assert word in text, word
    if width >= 60:
        for word in ("MEMORY", "900 MiB", "WORKERS", "12/16", "123", "1000"):
            assert word in text, word
    # Columns stand under their headings.
    at = tables[0][0].index("BUSY") + len("BUSY")
    assert {line[:at].split()[-1] for line in tables[0][1:]} == {"12"}


def test_a_page_where_there_is_room():
    """A number is never cut, a name is."""
    look = busy_look()
    look["pools"][0]["queued"] = 10**9
    page = list(_top_show.lines(look, look))
    assert page[4].split() == ["crawlers", "12/16", "12", str(10**9), "1481472"]
    assert page[5].startswith("a pool with a name that… ")


@pytest.mark.parametrize("width", [40, 60])
def test_a_terminal_says_how_narrow_it_is(server, width):
    import fcntl
    import pty
    import struct
    import termios

    atoll.create_queue(7).put("x")
    us, them = pty.openpty()
    fcntl.ioctl(them, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    env = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    with atoll.InterpreterPoolExecutor(1, name="x" * 50) as pool:
        pool.submit(tasks.square, 3).result(SLACK)
        command = python_args("-m", "atoll", "top", "--once", str(os.getpid()))
        subprocess.run(command, stdout=them, env=env, timeout=SLACK, check=True)
    os.close(them)
    out = b""
    try:
        while block := os.read(us, 4096):
            out += block
    except OSError:
        pass
    os.close(us)
    page = out.decode().splitlines()
    assert max(map(len, page)) <= width
    assert any("x" * 5 in line and "…" in line for line in page), page


def ask(path):
    """One look, by a client of its own; None if it was turned away."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(SLACK)
        client.connect(path)
        try:
            client.sendall(b"x")
            with client.makefile() as file:
                line = file.readline()
        except (BrokenPipeError, ConnectionResetError):
            line = ""
    return json.loads(line) if line else None


@pytest.mark.parametrize("number", ["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM", "ECONNABORTED"])
def test_an_error_that_passes_does_not_end_it(server, number, monkeypatch):
    """Nor does it make it spin: with each failure in a row it waits longer."""
    asked, accept = [], server._socket.accept

    class Failing:
        def __getattr__(self, name):
            return getattr(real, name)

        def accept(self):
            asked.append(time.monotonic())
            if len(asked) <= 5:
                raise OSError(getattr(errno, number), "not now")
            return accept()

    real = server._socket
    assert ask(server.path)["pid"] == os.getpid()
    monkeypatch.setattr(server, "_socket", Failing())
    for _ in range(2):  # the first one is still the real accept's
        assert ask(server.path)["pid"] == os.getpid()
    assert len(asked) >= 6
    gaps = [b - a for a, b in itertools.pairwise(asked[:5])]
    if number != "ECONNABORTED":
        assert gaps == sorted(gaps)
        assert sum(gaps) > 0.2
    assert ask(server.path)["pid"] == os.getpid()


def test_no_descriptor_is_left_for_a_while(server):
    """The one who asks meanwhile is answered when there is one again."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    taken = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(before[0], 200), before[1]))
        with pytest.raises(OSError):
            while True:
                taken.append(os.dup(0))
        client.settimeout(SLACK)
        client.connect(server.path)
        client.sendall(b"x")
        spent = time.process_time()
        time.sleep(0.3)
        spent = time.process_time() - spent
    finally:
        for fd in taken:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    with client, client.makefile() as file:
        assert json.loads(file.readline())["pid"] == os.getpid()
    assert spent < 0.2
    assert ask(server.path)["pid"] == os.getpid()


def test_no_thread_is_left_for_a_while(server, monkeypatch):
    start = threading.Thread.start

    def refuse(self):
        if self.name == "atoll-top":
            raise RuntimeError("can't start new thread")
        start(self)

    for _ in range(2 * _top._MOST_CLIENTS):  # each gives its place back
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            assert ask(server.path) is None
    assert ask(server.path)["pid"] == os.getpid()


def test_it_is_closed_while_it_waits_for_a_descriptor(server, monkeypatch):
    class Failing:
        def __getattr__(self, name):
            return getattr(real, name)

        def accept(self):
            raise OSError(errno.EMFILE, "not now")

    real = server._socket
    monkeypatch.setattr(server, "_socket", Failing())
    monkeypatch.setattr(_top, "_LATE", 1000)
    monkeypatch.setattr(_top, "_SOON", 1000)
    ask(server.path)
    serving = [t for t in threading.enumerate() if t.name == "atoll-top"]
    server.close()
    for thread in serving:
        thread.join(SLACK)
        assert not thread.is_alive()
