"""The module signal in an interpreter: SIGINT is what interrupts that interpreter."""

import signal
import time

import atoll
import pytest
from support import Task, check_python


@pytest.fixture
def run(interp):
    """Run code there, interrupt it when it says so; returns nothing, or raises."""
    ready = atoll.create_queue()
    interp.prepare_main(ready=ready)

    def run(code, times=1):
        task = Task(interp.exec, "import signal\nif 1:\n" + code)
        for _ in range(times):
            ready.get(timeout=10)
            time.sleep(0.02)
            assert interp.interrupt()
        return task.result()

    return run


def test_a_handler_is_called_there(interp, run):
    """In the main thread of that interpreter; it may return, and the code goes on."""
    run("""
        import threading
        got = []
        def handler(number, frame):
            got.append((number, frame.f_code.co_name, threading.current_thread()))
        def busy():
            ready.put(1)
            while not got: pass
        assert signal.signal(signal.SIGINT, handler) is signal.default_int_handler
        assert signal.getsignal(signal.SIGINT) is handler
        busy()
        [(number, name, thread)] = got
        assert number == signal.SIGINT and name == "busy"
        assert thread is threading.main_thread()
        assert signal.signal(signal.SIGINT, signal.default_int_handler) is handler
    """)
    with pytest.raises(atoll.ExecutionFailed, match="KeyboardInterrupt"):
        run("        ready.put(1)\n        while True: pass")


def test_a_handler_may_raise(run):
    run("""
        class Own(Exception): pass
        def handler(*args): raise Own
        signal.signal(signal.SIGINT, handler)
        try:
            ready.put(1)
            while True: pass
        except Own:
            pass
    """)


def test_waits_go_on_after_a_handler_and_keep_their_place(interp, run):
    queue, got = atoll.create_queue(), atoll.create_queue()
    interp.prepare_main(queue=queue, got=got)
    task = Task(
        run,
        """
        import atoll
        signal.signal(signal.SIGINT, lambda *args: got.put("called"))
        ready.put(1)
        got.put(queue.get())
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    """,
    )
    assert got.get(timeout=10) == "called"
    queue.put("item")
    assert got.get(timeout=10) == "item"
    task.result()


def test_it_can_be_ignored(interp, run):
    run("""
        import time
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        ready.put(1)
        end = time.monotonic() + 0.15
        while time.monotonic() < end: pass
        signal.raise_signal(signal.SIGINT)
        assert signal.signal(signal.SIGINT, signal.SIG_DFL) is signal.SIG_IGN
        for _ in range(1000): pass
    """)
    with pytest.raises(atoll.ExecutionFailed, match="KeyboardInterrupt"):
        run("        ready.put(1)\n        while True: pass")  # SIG_DFL


def test_raise_signal_and_interrupt_main():
    """Are for that interpreter: main hears nothing of them."""
    check_python("""
import atoll, signal
def never(*args): raise SystemExit("main was called")
signal.signal(signal.SIGINT, never)
signal.signal(signal.SIGTERM, never)
with atoll.create() as interp:
    interp.exec('''if 1:
        import _thread, signal, threading
        def interrupted(function, *args):
            try:
                function(*args)
                for _ in range(10**9): pass
            except KeyboardInterrupt:
                return True
        def by_thread(function, *args):
            thread = threading.Thread(target=function, args=args)
            thread.start()
            thread.join()
        assert interrupted(signal.raise_signal, signal.SIGINT)
        assert interrupted(_thread.interrupt_main)
        assert interrupted(by_thread, signal.raise_signal, signal.SIGINT)
        assert interrupted(by_thread, _thread.interrupt_main)
        got = []
        handler = lambda *args: got.append(args[0])
        signal.signal(signal.SIGINT, handler)
        signal.raise_signal(signal.SIGINT)
        assert got == [2]
        _thread.interrupt_main()
        for _ in range(1000): pass
        assert got == [2, 2]
        assert signal.signal(signal.SIGTERM, handler) is None # main's is not handed out
        signal.raise_signal(signal.SIGTERM)
        assert got == [2, 2, 15]
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.raise_signal(signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
        for wrong in 1000, -1:
            try: signal.raise_signal(wrong)
            except (OSError, ValueError): pass
            else: assert False
    ''')
""")


def test_what_is_refused(interp):
    """As in main: what is no handler, no number; and any signal that is main's alone."""
    interp.exec("""if 1:
        import signal, threading
        def refused(error, *args, function=signal.signal):
            try: function(*args)
            except error as exc: return str(exc)
            raise AssertionError(args)
        refused(TypeError, signal.SIGINT, "no handler")
        refused(TypeError, signal.SIGINT, 5)
        refused(TypeError, signal.SIGINT)
        for number in signal.SIGUSR1, signal.SIGALRM, signal.SIGCHLD, signal.SIGHUP, 1000:
            assert "main thread" in refused(ValueError, number, signal.SIG_IGN)
        errors = []
        def elsewhere():
            errors.append(refused(ValueError, signal.SIGINT, signal.SIG_IGN))
        thread = threading.Thread(target=elsewhere)
        thread.start(); thread.join()
        assert "main thread" in errors[0]
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        signal.siginterrupt(signal.SIGINT, False)
    """)
    assert signal.getsignal(signal.SIGINT) is not None


def test_a_wakeup_descriptor_is_checked_as_in_main(interp):
    checks = """if 1:
        import os, signal
        def error(fd):
            try: signal.set_wakeup_fd(fd)
            except (OSError, ValueError) as exc: return type(exc), str(exc).split(" fd ")[0]
        read, write = os.pipe()
        result = [error(9999), error(-5), error(write)]
        os.close(read); os.close(write)
        result = [r[0].__name__ + r[1] for r in result]
    """
    here = {}
    before = signal.set_wakeup_fd(-1)
    exec(checks, here)
    signal.set_wakeup_fd(before)
    interp.exec(checks)
    there = interp.call(lambda: __import__("__main__").result)
    assert there == here["result"]


def test_event_loops_take_the_signal(run):
    run("""
        import asyncio
        async def main():
            loop, event = asyncio.get_running_loop(), asyncio.Event()
            for number in signal.SIGINT, signal.SIGTERM:
                loop.add_signal_handler(number, event.set)
            ready.put(1)
            await event.wait()
            event.clear()
            signal.raise_signal(signal.SIGTERM)
            await event.wait()
            assert loop.remove_signal_handler(signal.SIGINT)
        asyncio.run(main())
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        assert signal.set_wakeup_fd(-1) == -1
    """)


def test_unittest_takes_the_signal(run):
    """As its Ctrl-C does: the first ends the run after this test, the second at once."""
    run("""
        import time, unittest
        class Some(unittest.TestCase):
            def test_a(self):
                ready.put(1)
                time.sleep(0.1)
                for _ in range(1000): pass
            def test_b(self):
                raise AssertionError("it is not to run")
        unittest.installHandler()
        result = unittest.TestResult()
        unittest.registerResult(result)
        unittest.defaultTestLoader.loadTestsFromTestCase(Some).run(result)
        assert result.testsRun == 1 and not result.failures and result.shouldStop
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            unittest.removeHandler()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    """)


def test_a_handler_of_a_task_has_the_cancelling(interp):
    """Future.cancel() comes as SIGINT, to a server that ends in good order, say."""

    def serve(ready, ended):
        import signal

        stopped = []
        signal.signal(signal.SIGINT, lambda *args: stopped.append(1))
        ready.put(1)
        while not stopped:
            pass
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        ended.put("in good order")

    ready, ended = atoll.create_queue(), atoll.create_queue()
    with atoll.InterpreterPoolExecutor(1, grace=5) as pool:
        future = pool.submit(serve, ready, ended)
        ready.get(timeout=10)
        future.cancel()
        assert ended.get(timeout=10) == "in good order"
        assert pool.submit(int).result(timeout=10) == 0


def test_handlers_go_with_their_interpreter():
    """Also such as are part of a cycle."""
    for _ in range(5):
        with atoll.create() as interp:
            interp.exec("""if 1:
                import signal, sys
                class Handler:
                    def __call__(self, *args): pass
                handler = Handler()
                handler.self = handler
                signal.signal(signal.SIGINT, handler)
                signal.signal(signal.SIGTERM, handler)
            """)
