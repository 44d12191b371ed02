"""When the system has no more threads, descriptors or memory to give."""

import pytest
from support import check_python, run_python

# They take what the machine has.
pytestmark = pytest.mark.alone


def test_no_more_threads():
    """RLIMIT_NPROC counts the threads of a user, but not root's."""
    out = check_python(
        """
        import atoll, os, resource
        before = atoll.create()
        if os.getuid() == 0:
            os.setresuid(54321, 54321, 54321)
            try:
                atoll.create().close()
            except (atoll.InterpreterError, atoll.ExecutionFailed):
                print("skip")    # this Python's files are root's alone
                raise SystemExit
        resource.setrlimit(resource.RLIMIT_NPROC, (8, 8))
        made = []
        try:
            while len(made) < 50:
                made.append(atoll.create())
        except atoll.InterpreterError as exc:
            assert "thread" in str(exc), exc
        else:
            raise AssertionError("there was no limit")
        # All that exists goes on, and room that is made can be used.
        before.exec("x = 1")
        for interp in made:
            interp.exec("x = 1")
        if made:
            made.pop().close()
            made.append(atoll.create())
        for _ in range(20):
            try:
                atoll.create()
            except atoll.InterpreterError:
                pass
            else:
                raise AssertionError
        print("fine")
        """
    )
    if out == "skip":
        pytest.skip("root, with a Python that no other user can read")
    assert out == "fine"


def test_no_more_threads_by_a_small_address_space():
    """A stack takes 8 MiB of addresses; then there is none for the thread."""
    done = run_python(
        """
        import atoll, resource
        first = atoll.create()
        with open("/proc/self/statm") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
        room = used + (40 << 20)
        resource.setrlimit(resource.RLIMIT_AS, (room, resource.RLIM_INFINITY))
        made = []
        for _ in range(40):
            try:
                made.append(atoll.create())
            except (atoll.InterpreterError, MemoryError) as exc:
                error = exc
                break
        else:
            raise AssertionError("there was no limit")
        first.exec("x = 1")
        for interp in made:
            interp.close()
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        with atoll.create() as interp:
            interp.exec("x = 1")
        print("fine")
        """
    )
    # CPython may say something on stderr about a start that failed.
    assert (done.returncode, done.stdout) == (0, "fine\n"), done.stderr


def test_no_memory_for_a_message():
    """MemoryError, and the queue as it was."""
    check_python(
        """
        import atoll, resource
        queue = atoll.create_queue()
        recv, send = atoll.create_channel(3)
        queue.put("before")
        send.send("before")
        data = b"x" * (64 << 20)
        text = "€" * (32 << 20)
        with open("/proc/self/statm") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
        room = used + (32 << 20)
        resource.setrlimit(resource.RLIMIT_AS, (room, resource.RLIM_INFINITY))
        for obj in (data, text, (data, 1), [data], {"k": text}):
            for call in (queue.put, queue.put_nowait, send.send):
                try:
                    call(obj)
                except MemoryError:
                    pass
                else:
                    raise AssertionError("there was memory")
        del obj
        assert queue.qsize() == 1
        queue.put("after")
        assert [queue.get(), queue.get(), recv.recv()] == ["before", "after", "before"]
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        queue.put(data)
        assert queue.get() == data
        print("fine")
        """
    )


def test_no_memory_at_the_receiver():
    """The error is raised there, and the next message is not affected."""
    check_python(
        """
        import atoll, resource
        queue = atoll.create_queue()
        keep = [bytes(4096) for _ in range(40960)]
        queue.put(keep)
        queue.put("next")
        with open("/proc/self/statm") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
        room = used + (16 << 20)
        resource.setrlimit(resource.RLIMIT_AS, (room, resource.RLIM_INFINITY))
        try:
            queue.get()
        except MemoryError:
            pass
        else:
            raise AssertionError("there was memory")
        assert queue.get() == "next"
        """
    )


def test_no_memory_inside_an_interpreter():
    check_python(
        """
        import atoll, resource
        interp = atoll.create()
        with open("/proc/self/statm") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
        room = used + (64 << 20)
        resource.setrlimit(resource.RLIMIT_AS, (room, resource.RLIM_INFINITY))
        try:
            interp.exec(
                "x = []\\n"
                "try:\\n"
                "    while True: x.append(bytes(1 << 20))\\n"
                "finally:\\n"
                "    x = None"
            )
        except atoll.ExecutionFailed as exc:
            assert exc.excinfo.type.__name__ == "MemoryError", exc
        except MemoryError:
            pass
        interp.exec("x = None")
        assert interp.call(pow, 2, 3) == 8
        interp.close()
        """
    )


def test_no_descriptors():
    """A wait in the main thread needs three; an error says so, no more."""
    check_python(
        """
        import atoll, os, resource, threading
        queue = atoll.create_queue()
        resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
        files = []
        try:
            while True:
                files.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            pass
        queue.put(1)
        assert queue.get() == 1         # needs no wait
        try:
            queue.get(timeout=0.05)
        except (OSError, atoll.QueueEmpty):
            pass
        thread = threading.Thread(target=queue.get)     # needs none
        thread.start()
        queue.put(2)
        thread.join()
        for fd in files:
            os.close(fd)
        try:
            queue.get(timeout=0.05)
        except atoll.QueueEmpty:
            print("fine")
        """
    )


def test_descriptors_are_opened_once_and_not_inherited():
    check_python(
        """
        import atoll, os, subprocess
        queue = atoll.create_queue()
        def fds(): return len(os.listdir("/proc/self/fd"))
        def wait():
            try: queue.get(timeout=0.001)
            except atoll.QueueEmpty: pass
        before = fds()
        wait()
        opened = fds()
        assert opened <= before + 3
        for _ in range(50): wait()
        with atoll.create() as interp:
            for _ in range(50): interp.exec("x = 1")
        assert fds() == opened
        out = subprocess.check_output(["ls", "/proc/self/fd"], close_fds=False)
        assert len(out.split()) <= before + 1, out
        """
    )


def test_small_stacks_for_threads_that_wait():
    """A wait needs little: also with the smallest stacks."""
    check_python(
        """
        import atoll, threading
        threading.stack_size(64 * 1024)
        queue, back = atoll.create_queue(), atoll.create_queue()
        threads = [threading.Thread(target=lambda: back.put(queue.get()))
                   for _ in range(50)]
        for t in threads: t.start()
        for n in range(50): queue.put((n, "text"))
        for t in threads: t.join()
        assert sorted(back.get()[0] for _ in threads) == list(range(50))
        """
    )
