"""What stands for a file descriptor arrives with a duplicate of it."""

import gc
import io
import multiprocessing
import os
import socket
import stat
import sys

import atoll
import plumbing
import pytest
import workers
from support import SLACK, check_python, count_fds, until


@pytest.fixture(autouse=True)
def no_descriptor_is_left(there_and_back):
    gc.collect()
    before = count_fds()
    yield
    gc.collect()
    until(lambda: count_fds() <= before)


@pytest.fixture
def pair():
    a, b = socket.socketpair()
    a.settimeout(SLACK)
    b.settimeout(SLACK)
    with a, b:
        yield a, b


@pytest.fixture
def pipe():
    r, w = os.pipe()
    with open(r, "rb") as reader, open(w, "wb", buffering=0) as writer:
        yield reader, writer


# ------------------------------------------------------------------------ sockets


def test_a_socket_arrives_as_another_one_of_the_same_connection(way, pair):
    a, b = pair
    with way(b) as got:
        assert type(got) is socket.socket
        assert got.fileno() not in (-1, a.fileno(), b.fileno())
        assert (got.family, got.type, got.proto) == (b.family, b.type, b.proto)
        got.sendall(b"from the copy")
        assert a.recv(100) == b"from the copy"
        b.close()
        a.sendall(b"to the copy")
        assert got.recv(100) == b"to the copy"


def test_a_socket_of_another_interpreter(interp, pair):
    a, b = pair
    interp.call(plumbing.say, b, b"there")
    assert a.recv(100) == b"there"
    b.sendall(b"still open")
    assert a.recv(100) == b"still open"


def test_the_timeout_of_a_socket(way, pair):
    _, b = pair
    for timeout in (None, 0, 1.5):
        b.settimeout(timeout)
        with way(b) as got:
            assert got.gettimeout() == timeout
            if timeout == 0:
                with pytest.raises(BlockingIOError):
                    got.recv(1)


def test_the_end_of_a_connection_is_seen_when_all_copies_are_closed(way, pair):
    a, b = pair
    got = way(b)
    b.close()
    a.settimeout(0.05)
    with pytest.raises(TimeoutError):
        a.recv(1)
    got.close()
    a.settimeout(SLACK)
    assert a.recv(1) == b""


def test_a_server_whose_connections_are_handled_elsewhere(interp):
    with socket.create_server(("127.0.0.1", 0)) as server:
        queue = atoll.create_queue()
        with socket.create_connection(server.getsockname(), timeout=SLACK) as client:
            connection, _ = server.accept()
            with connection:
                queue.put(connection)
            interp.call(plumbing.serve_one, queue, b"hello")
            assert client.recv(100) == b"hello"
            assert client.recv(100) == b""
        with socket.create_connection(server.getsockname(), timeout=SLACK) as client:
            interp.call(plumbing.accept_one, server, b"accepted there")
            assert client.recv(100) == b"accepted there"


def test_datagrams(way):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        with way(one) as got:
            assert got.type == socket.SOCK_DGRAM
            assert got.getsockname() == one.getsockname()


def test_descriptors_inside_other_objects(way, pair):
    a, b = pair
    point, table = way([workers.Point(b, 1), {"k": (b,)}])
    assert point.x is table["k"][0]
    with point.x as got:
        got.sendall(b"nested")
        assert a.recv(10) == b"nested"


# ---------------------------------------------------------------- pipes and files


def test_the_ends_of_a_pipe(way, pipe):
    reader, writer = pipe
    got_reader, got_writer = way((reader, writer))
    with got_reader, got_writer:
        assert type(got_reader) is io.BufferedReader
        assert type(got_writer) is io.FileIO
        assert got_reader.fileno() not in (reader.fileno(), writer.fileno())
        got_writer.write(b"abc")
        assert reader.read1(10) == b"abc"
        writer.write(b"def")
        assert got_reader.read1(10) == b"def"
        writer.close()
        got_writer.close()
        assert got_reader.read() == b""


@pytest.mark.parametrize("mode", ["rb", "wb", "ab", "r+b", "w+b", "r", "w", "a", "r+", "w+",
                                  "x", "xb"])
@pytest.mark.parametrize("buffering", [0, -1])
def test_files_of_every_mode(way, tmp_path, mode, buffering):
    if buffering == 0 and "b" not in mode:
        pytest.skip("text is always buffered")
    path = tmp_path / "file"
    if "x" not in mode:
        path.write_bytes(b"0123456789")
    kwargs = {} if "b" in mode else {"encoding": "utf-16-le"}
    with open(path, mode, buffering, **kwargs) as file, way(file) as got:
        assert type(got) is type(file)
        assert got.fileno() != file.fileno()
        assert (got.readable(), got.writable()) == (file.readable(), file.writable())
        if "b" not in mode:
            assert (got.encoding, got.errors) == (file.encoding, file.errors)
            assert got.line_buffering == file.line_buffering
        else:
            assert ("+" in got.mode) == ("+" in mode)
        if got.writable():
            got.write(b"new" if "b" in mode else "new\n")
            got.flush()
            assert b"n" in path.read_bytes()
        else:
            assert got.read(3) == (b"012" if "b" in mode else path.read_bytes()[:6].decode(
                "utf-16-le"))


def test_a_file_that_another_interpreter_writes(interp, tmp_path):
    path = tmp_path / "log"
    with open(path, "w", encoding="utf8") as file:
        file.write("main ä\n")
        file.flush()
        interp.call(plumbing.write_and_flush, file, "there €\n")
        file.write("main again\n")
    assert path.read_text("utf8") == "main ä\nthere €\nmain again\n"


def test_what_is_in_the_buffer_is_written_once(interp, tmp_path):
    path = tmp_path / "log"
    with open(path, "w") as file:
        file.write("first\n")
        interp.call(plumbing.write_and_flush, file, "second\n")
        file.write("third\n")
    lines = path.read_text().splitlines()
    assert sorted(lines) == ["first", "second", "third"]


def test_the_position_of_a_file_is_kept(interp, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    with open(path, "rb", buffering=0) as file:
        file.read(3)
        assert interp.call(plumbing.read, file, 2) == b"34"
        assert file.tell() == 5
    with open(path, "rb") as file:
        file.seek(4)
        assert interp.call(plumbing.read, file, 2) == b"45"


def test_a_temporary_file_without_a_name(interp, tmp_path):
    import tempfile

    with tempfile.TemporaryFile(dir=tmp_path) as file:
        interp.call(plumbing.write_and_flush, file, b"data")
        file.seek(0)
        assert file.read() == b"data"


# ------------------------------------------------------- multiprocessing's connections


def test_the_ends_of_a_multiprocessing_pipe(way):
    a, b = multiprocessing.Pipe()
    with a, b:
        got = way(b)
        with got:
            assert type(got) is type(b)
            assert (got.readable, got.writable) == (True, True)
            got.send({"k": [1]})
            assert a.recv() == {"k": [1]}
            a.send_bytes(b"abc")
            assert got.recv_bytes() == b"abc"
    r, w = multiprocessing.Pipe(duplex=False)
    with r, w, way(r) as got:
        assert (got.readable, got.writable) == (True, False)
        w.send(5)
        assert got.recv() == 5


def test_a_connection_that_another_interpreter_uses(interp):
    a, b = multiprocessing.Pipe()
    with a, b:
        a.send([1, 2])
        interp.call(plumbing.answer, b)
        assert a.poll(SLACK)
        assert a.recv() == ("answer", [1, 2])


# ------------------------------------------------------------------ nothing is leaked


@pytest.mark.parametrize("end", ["dropped", "full", "not sendable", "received", "receiver",
                                 "shut down"])
def test_no_descriptor_is_leaked(pair, pipe, end):
    queue = atoll.create_queue(1)
    before = count_fds()
    a, _ = multiprocessing.Pipe()
    del a, _
    message = [*pair, *pipe]
    for _ in range(5):
        if end == "full":
            queue.put(1)
            with pytest.raises(atoll.QueueFull):
                queue.put(message, timeout=0.001)
            queue.get()
        elif end == "not sendable":
            with pytest.raises(atoll.NotShareableError):
                queue.put([*message, (n for n in ())])
        elif end == "received":
            queue.put(message)
            for got in queue.get():
                got.close()
        elif end == "receiver":
            with atoll.create() as interp:
                queue.put(message)
                interp.call(plumbing.keep, queue)
        else:
            queue.put(message)
            assert count_fds() > before
            if end == "shut down":
                queue.shutdown(immediate=True)
            queue = atoll.create_queue(1)
        gc.collect()
        until(lambda: count_fds() <= before)


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_a_message_that_cannot_be_rebuilt_closes_its_descriptors(pair, queue):
    import awkward

    before = count_fds()
    for order in (1, -1):
        queue.put([pair[0], awkward.Trapped(), pair[1]][::order])
        awkward.trap = awkward.refuse
        try:
            with pytest.raises(LookupError):
                queue.get()
        finally:
            awkward.trap = None
        gc.collect()
        until(lambda: count_fds() <= before)


def test_a_copy_is_not_inherited_by_programs(way, pair, pipe):
    for got in way([pair[0], pipe[0]]):
        with got:
            assert not os.get_inheritable(got.fileno())


def test_what_is_closed_cannot_be_sent(queue, tmp_path):
    a, b = socket.socketpair()
    a.close()
    with open(tmp_path / "file", "w") as file:
        pass
    r, w = multiprocessing.Pipe()
    r.close()
    for closed in (a, file, r):
        with pytest.raises((atoll.NotShareableError, OSError, ValueError)):
            queue.put([b, closed])
    assert queue.empty()
    b.close()
    w.close()


def test_a_copy_is_the_same_open_file(way, tmp_path):
    with open(tmp_path / "file", "w+b", buffering=0) as file, way(file) as got:
        one, other = os.fstat(file.fileno()), os.fstat(got.fileno())
        assert (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)
        assert stat.S_ISREG(other.st_mode)
        got.write(b"abc")
        assert file.tell() == 3


def test_files_that_are_only_memory_are_copied(way):
    for obj in (io.BytesIO(b"abc"), io.StringIO("text")):
        obj.seek(1)
        got = way(obj)
        assert (got.getvalue(), got.tell()) == (obj.getvalue(), 1)


def test_no_descriptors_left_is_an_error_and_no_more():
    check_python(
        """
        import atoll, os, resource, socket
        queue = atoll.create_queue()
        a, b = socket.socketpair()
        queue.put([a])
        queue.get()[0].close()
        here = len(os.listdir("/proc/self/fd"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (here + 3, here + 3))
        try:
            queue.put([a, b] * 3 + [socket.socket(fileno=os.dup(a.fileno())) for _ in range(2)])
            got = queue.get()
        except OSError:
            pass
        else:
            raise SystemExit("there was room")
        got = None
        while not queue.empty():
            queue.get()
        queue.put(5)
        assert queue.get() == 5
        queue.put(a)
        with queue.get() as got:
            got.sendall(b"fine")
        assert b.recv(10) == b"fine"
        """
    )


def test_sockets_are_not_pickled(queue, pair):
    """By hand it stays the error that it was."""
    import pickle

    with pytest.raises(TypeError):
        pickle.dumps(pair[0])
    assert sys.modules["socket"] is socket
