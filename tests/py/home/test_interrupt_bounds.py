"""An interrupt is bounded by time: wherever code stays, it is over within a second."""

import os
import random
import signal
import textwrap
import time

import atoll
import pytest
from support import Task, check_python

# One poll(), which never comes back, in each place where an interrupt is put off for a
# moment, or where CPython drops what is raised: there the code that follows gets it.
PLACES = {
    "enter": """
        class Door:
            def __enter__(self): poll()
            def __exit__(self, *exc): pass
        with Door(): pass""",
    "exit": """
        class Door:
            def __enter__(self): pass
            def __exit__(self, *exc): poll()
        with Door(): pass""",
    "called by enter": """
        @contextlib.contextmanager
        def door():
            poll()
            yield
        with door(): pass""",
    "called by exit": """
        @contextlib.contextmanager
        def door():
            try: yield
            finally: poll()
        with door(): pass""",
    "aenter": """
        class Door:
            async def __aenter__(self): poll()
            async def __aexit__(self, *exc): pass
        async def main():
            async with Door(): pass
        asyncio.run(main())""",
    "aexit": """
        class Door:
            async def __aenter__(self): pass
            async def __aexit__(self, *exc): poll()
        async def main():
            async with Door(): pass
        asyncio.run(main())""",
    "a loop's callback": """
        async def main():
            asyncio.get_running_loop().call_soon(poll)
            await asyncio.sleep(1000)
        asyncio.run(main())""",
    "finally": """
        try: pass
        finally: poll()""",
    "del": """
        class Dies:
            def __del__(self): poll()
        Dies()
        while True: pass""",
    "weakref": """
        class Dies: pass
        dies = Dies()
        ref = weakref.ref(dies, lambda ref: poll())
        del dies
        while True: pass""",
    "finalize": """
        class Dies: pass
        dies = Dies()
        weakref.finalize(dies, poll)
        del dies
        while True: pass""",
    "gc": """
        def once(*args):
            gc.callbacks.remove(once)
            poll()
        gc.callbacks.append(once)
        gc.collect()
        while True: pass""",
    "generator closed": """
        def some():
            try: yield
            finally: poll()
        generator = some()
        next(generator)
        generator.close()""",
    "generator dropped": """
        def some():
            try: yield
            finally: poll()
        generator = some()
        next(generator)
        del generator
        while True: pass""",
    "importer": """
        class Finder:
            def find_spec(self, name, *args):
                if name == "nothing": poll()
        sys.meta_path.insert(0, Finder())
        try: import nothing
        finally: del sys.meta_path[0]""",
    "module": """
        class Finder:
            def find_spec(self, name, *args):
                if name == "nothing": return importlib.util.spec_from_loader(name, self)
            def create_module(self, spec): return None
            def exec_module(self, module): poll()
        sys.meta_path.insert(0, Finder())
        try: import nothing
        finally: del sys.meta_path[0]""",
    "importlib's own": """
        inside = {"__name__": "importlib._bootstrap", "poll": poll}
        exec("def through(): poll()", inside)
        inside["through"]()""",
    "called from C": """
        [2, 1].sort(key=lambda x: poll())""",
    "ctypes": """
        ctypes.CFUNCTYPE(ctypes.c_int)(poll)()
        while True: pass""",
}
POLLS = {
    "busy": "while True: pass",
    "asleep": "while True: time.sleep(0.02)",
    "long asleep": "while True: time.sleep(0.2)",
}
HEAD = """if 1:
        import asyncio, contextlib, ctypes, gc, importlib.util, sys, time, weakref
        import traceback # which describes the error
        def poll():
            {poll}
        ready.put(1)"""


@pytest.fixture(scope="module")
def shared():
    """One interpreter for all: each has to leave it as it was."""
    with atoll.create() as interp:
        yield interp


def interrupted_after(interp, code, wait=0.01):
    """How long it takes until the code is over, and that the interpreter can be used."""
    ready = atoll.create_queue()
    interp.prepare_main(ready=ready)
    task = Task(interp.exec, code)
    ready.get(timeout=10)
    time.sleep(wait)
    begin = time.monotonic()
    assert interp.interrupt()
    with pytest.raises(atoll.ExecutionFailed) as info:
        task.result()
    took = time.monotonic() - begin
    assert info.value.excinfo.type.__name__ == "KeyboardInterrupt"
    interp.exec("import asyncio; asyncio.run(asyncio.sleep(0))")
    return took


def best(interp, code, limit=1.0):
    """The machine may be busy with other things."""
    took = [interrupted_after(interp, code)]
    while min(took) > limit and len(took) < 5:
        took.append(interrupted_after(interp, code))
    assert min(took) <= limit, took


@pytest.mark.parametrize("how", ["busy", "asleep"])
@pytest.mark.parametrize("place", PLACES)
def test_wherever_code_stays(shared, place, how, capfd):
    best(shared, HEAD.format(poll=POLLS[how]) + PLACES[place])
    assert capfd.readouterr().err == ""  # nor is one printed as ignored


@pytest.mark.parametrize("place", ["enter", "called by exit", "del", "aenter"])
def test_also_if_it_sleeps_in_long_steps(shared, place):
    best(shared, HEAD.format(poll=POLLS["long asleep"]) + PLACES[place])


@pytest.mark.alone
@pytest.mark.parametrize("how", ["busy", "asleep"])
@pytest.mark.parametrize("place", ["enter", "exit", "del", "importlib's own"])
def test_such_places_have_a_tenth_of_a_second(shared, place, how):
    best(shared, HEAD.format(poll=POLLS[how]) + PLACES[place], 0.25)


def test_a_task_that_stays_there_is_cancelled():
    """And its worker is not abandoned."""

    def task(ready):
        import time

        class Door:
            def __enter__(self):
                ready.put(1)
                while True:
                    time.sleep(0.05)

            def __exit__(self, *exc):
                pass

        with Door():
            pass

    with atoll.InterpreterPoolExecutor(1, grace=5) as pool:
        ready = atoll.create_queue()
        future = pool.submit(task, ready)
        ready.get(timeout=10)
        future.cancel()
        assert pool.submit(int).result(timeout=10) == 0
        assert pool.stats().abandoned == 0


def test_a_lock_that_enter_has_waited_for_is_let_go():
    """The protection is still there: also for what a generator of contextlib's takes,
    and if the home has slept in acquire() while another thread had the pending call."""
    with atoll.create() as interp:
        interp.exec("""if 1:
            import contextlib, threading, time
            lock = threading.Lock()
            @contextlib.contextmanager
            def held():
                lock.acquire()
                for _ in range(200): pass
                try: yield
                finally: lock.release()
            spinning = True
            def spin():
                while spinning: pass
        """)
        for way in "with lock", "with held()":
            ready = atoll.create_queue()
            interp.prepare_main(ready=ready)
            task = Task(
                interp.exec,
                f"""if 1:
                lock.acquire()
                threading.Timer(0.3, lock.release).start()
                spinning = True
                thread = threading.Thread(target=spin)
                thread.start()
                ready.put(1)
                try:
                    {way}:
                        while True: pass
                finally:
                    spinning = False
                    thread.join()
                """,
            )
            ready.get(timeout=10)
            time.sleep(0.05)
            assert interp.interrupt()
            with pytest.raises(atoll.ExecutionFailed, match="KeyboardInterrupt"):
                task.result()
            interp.exec("assert lock.acquire(timeout=0); lock.release()")


def test_a_loop_over_locks_keeps_none():
    with atoll.create() as interp:
        interp.exec("""if 1:
            import contextlib, threading
            lock = threading.Lock()
            @contextlib.contextmanager
            def held():
                with lock: yield
        """)
        ready = atoll.create_queue()
        interp.prepare_main(ready=ready)
        for n in range(60):
            way = "lock" if n % 2 else "held()"
            code = f"ready.put(1)\nwhile True:\n    with {way}: pass"
            task = Task(interp.exec, code)
            ready.get(timeout=10)
            time.sleep(0.0003 * (n % 7))
            assert interp.interrupt()
            with pytest.raises(atoll.ExecutionFailed, match="KeyboardInterrupt"):
                task.result()
            interp.exec("assert lock.acquire(timeout=0); lock.release()")


# ----------------------------------------------------------- event loops that wait

LOOPS = {
    "run": "asyncio.run(main())",
    "run, debugging": "asyncio.run(main(), debug=True)",
    "run_until_complete": "asyncio.new_event_loop().run_until_complete(main())",
    "run_forever": """
loop = asyncio.new_event_loop()
loop.create_task(main())
loop.run_forever()
""",
    "poll": """
selector = selectors.PollSelector()
loop = asyncio.SelectorEventLoop(selector)
loop.run_until_complete(main())
""",
    "select on a wakeup descriptor": """
here, there = socket.socketpair()
here.setblocking(False); there.setblocking(False)
signal.set_wakeup_fd(there.fileno())
ready.put(1)
try:
    select.select([here], [], [])
    while True: pass
finally:
    assert here.recv(10) == b"\\2"
    signal.set_wakeup_fd(-1)
""",
}


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("other", ["alone", "with a busy thread"])
def test_a_loop_that_sleeps(shared, loop, other):
    code = f"""
import asyncio, select, selectors, signal, socket, threading, time
import traceback # which describes the error
end = time.monotonic() + 20
spinning = {other != "alone"}
def spin():
    while spinning and time.monotonic() < end: pass
threading.Thread(target=spin).start()
async def main():
    asyncio.get_running_loop().call_later(0.01, ready.put, 1)
    await asyncio.sleep(1000)
try:
{textwrap.indent(LOOPS[loop], "    ")}
finally:
    spinning = False
"""
    best(shared, code)


def test_while_a_loop_begins(shared):
    """Wherever asyncio is at that time, it is neither lost nor leaves half a loop."""
    chance = random.Random(3)
    code = "import asyncio\nready.put(1)\nasyncio.run(asyncio.sleep(1000))"
    for _ in range(40):
        interrupted_after(shared, code, wait=chance.random() * 0.003)


def test_ctrl_c_in_who_called_a_loop_that_sleeps():
    check_python("""
import atoll, os, signal, threading, time
interp, ready = atoll.create(), atoll.create_queue()
interp.prepare_main(ready=ready)
def ctrl_c():
    ready.get()
    time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=ctrl_c).start()
try:
    interp.exec('''if 1:
        import asyncio
        async def main():
            asyncio.get_running_loop().call_later(0.01, ready.put, 1)
            await asyncio.sleep(1000)
        asyncio.run(main())
    ''')
except KeyboardInterrupt:
    print("interrupted")
end = time.monotonic() + 5
while interp.is_running() and time.monotonic() < end:
    time.sleep(0.01)
interp.exec("assert 1")
interp.close()
""")


def test_the_main_task_of_a_loop_is_cancelled_in_good_order():
    """As by Ctrl-C in main: it may clean up, waiting."""
    ready = atoll.create_queue()
    with atoll.create() as interp:
        interp.prepare_main(ready=ready)
        task = Task(
            interp.exec,
            """if 1:
            import asyncio
            seen = []
            async def main():
                ready.put(1)
                try:
                    await asyncio.sleep(1000)
                except asyncio.CancelledError:
                    await asyncio.sleep(0.2)
                    seen.append("clean")
                    raise
            asyncio.run(main())
            """,
        )
        ready.get(timeout=10)
        time.sleep(0.05)
        interp.interrupt()
        with pytest.raises(atoll.ExecutionFailed, match="KeyboardInterrupt"):
            task.result()
        interp.exec("assert seen == ['clean']")


def test_main_is_not_concerned(interp):
    """What wakes a loop there is no signal of the process's."""
    before = signal.getsignal(signal.SIGINT)
    fds = len(os.listdir("/proc/self/fd"))
    code = "import asyncio\nready.put(1)\nasyncio.run(asyncio.sleep(1000))"
    interrupted_after(interp, code, wait=0.3)
    assert signal.getsignal(signal.SIGINT) is before
    assert len(os.listdir("/proc/self/fd")) <= fds + 2
