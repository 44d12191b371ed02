"""What a loop has of atoll: its hub, how that ends, and what is underneath."""

import asyncio
import ctypes
import gc
import os
import signal
import subprocess
import sys
import threading
import time
import weakref

import atoll
import loops
import pytest
from atoll import _aio, _core
from loops import rest_of, run, tasks_waiting
from support import (
    SLACK,
    Task,
    check_python,
    count_fds,
    count_threads,
    python_args,
    python_env,
    until,
)

# ------------------------------------------------------- the life of the hub


def test_nothing_is_left_of_loops(queue):
    async def main():
        (task,) = await tasks_waiting(queue.get_async())
        assert _aio.hub() is _aio.hub()
        queue.put(1)
        await task
        return weakref.ref(asyncio.get_running_loop())

    run(main)
    gc.collect()
    fds, threads = count_fds(), count_threads()
    gc.disable()
    try:
        refs = [run(main) for _ in range(30)]
        # Closed with the loop, whenever that is collected.
        assert count_fds() == fds
    finally:
        gc.enable()
    gc.collect()
    assert [ref() for ref in refs] == [None] * 30
    assert count_threads() <= threads


def test_loop_closed_while_somebody_waits(queue):
    gc.collect()
    fds = count_fds()
    for collect in (False, True):
        loop = asyncio.new_event_loop()
        tasks = [loop.create_task(queue.get_async()) for _ in range(5)]
        loop.run_until_complete(asyncio.sleep(0.01))
        for i in range(3):
            queue.put(i)  # arrived, and not seen by the loop
        if collect:
            del loop, tasks
            with pytest.warns(ResourceWarning):
                gc.collect()
        else:
            loop.close()
        # They stand in line no more, and what had come is back in its place.
        queue.put(3)
        assert rest_of(queue) == [0, 1, 2, 3]
        loop = tasks = None
        gc.collect()
        assert count_fds() == fds


def test_loop_stopped_and_continued(queue):
    loop = asyncio.new_event_loop()
    try:
        task = loop.create_task(queue.get_async())
        loop.run_until_complete(asyncio.sleep(0))
        queue.put(1)
        assert loop.run_until_complete(task) == 1
        task = loop.create_task(queue.get_async())
        loop.run_until_complete(asyncio.sleep(0))
        queue.put(2)
        assert loop.run_until_complete(task) == 2
    finally:
        loop.close()


def test_coroutine_dropped(queue):
    """Without a task: closed by hand where it waits."""

    async def main():
        for arrived in (False, True):
            coroutine = queue.get_async()
            coroutine.send(None)
            if arrived:
                queue.put(1)
            coroutine.close()
            assert rest_of(queue) == [1] * arrived

    run(main)


def test_interpreter_ends_with_a_loop_that_waits(queue):
    for _ in range(5):
        with atoll.create() as interp:
            interp.call(loops.leave_waiting, queue)
            queue.put(1)  # goes to somebody who will not come for it
        queue.put(2)
        assert rest_of(queue) == [1, 2]


def test_interrupt_of_a_loop_there(queue, interp):
    for _ in range(20):
        task = Task(interp.call, loops.get_for_ever, queue)
        queue.put(0)
        queue.put(1)
        until(queue.empty)
        interp.interrupt()
        with pytest.raises(atoll.ExecutionFailed, match="KeyboardInterrupt"):
            task.result()
    assert interp.call(loops.echo_one, 3) == 3


def test_process_exit_while_loops_wait():
    check_python(
        """
        import atoll, loops, threading, time
        queue = atoll.create_queue()
        interp = atoll.create()
        call = lambda: interp.call(loops.get_for_ever, queue)
        threading.Thread(target=call, daemon=True).start()
        queue.put(0)
        while not queue.empty():
            time.sleep(0.001)
        """
    )


def test_ctrl_c():
    code = """
import asyncio, atoll
async def main():
    queue = atoll.create_queue()
    print("ready", flush=True)
    try:
        await queue.get_async()
    except asyncio.CancelledError:
        queue.put(1)
        assert await queue.get_async() == 1
        print("cancelled", flush=True)
        raise
try:
    asyncio.run(main())
except KeyboardInterrupt:
    print("interrupted")
"""
    with subprocess.Popen(
        [*python_args(), "-c", code], stdout=subprocess.PIPE, env=python_env(), text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=SLACK)
    assert out == "cancelled\ninterrupted\n" and process.returncode == 0


def test_fork():
    check_python(
        """
        import asyncio, atoll, os, sys, warnings
        warnings.simplefilter("ignore")
        queue = atoll.create_queue()
        loop = asyncio.new_event_loop()
        task = loop.create_task(queue.get_async())
        loop.run_until_complete(asyncio.sleep(0))
        pid = os.fork()
        if pid == 0:
            async def main():
                own = atoll.create_queue()
                task = asyncio.ensure_future(own.get_async())
                await asyncio.sleep(0)
                own.put(1)
                assert await task == 1
                try:
                    await queue.get_async()
                except atoll.ForkedError:
                    return 0
            asyncio._set_running_loop(None)
            code = asyncio.run(main())
            task.cancel()
            os._exit(code)
        assert os.waitpid(pid, 0)[1] == 0
        queue.put(7)
        assert loop.run_until_complete(task) == 7
        loop.close()
        """
    )


# -------------------------------------------------- the queue underneath


def test_completion_queue(queue):
    cq = _core.CompletionQueue()
    assert cq.drain() == [] and cq.wait(0) is False and cq.wait(0.01) is False
    op = cq.recv(queue, "a")
    assert not op.done
    with pytest.raises(RuntimeError):
        op.result()
    queue.put(1)
    assert cq.wait() and cq.wait(0) and cq.drain() == ["a"] and not cq.wait(0)
    assert op.done and op.result() == 1 and not op.cancel()
    with pytest.raises(RuntimeError):
        op.result()
    full = atoll.create_queue(1)
    op = cq.send(full, 1, "b")
    assert op.done and op.result() is None
    ops = [cq.send(full, i, i) for i in (2, 3)]
    assert ops[1].cancel() and not ops[1].cancel()
    assert full.get() == 1 and cq.drain() == [2] and full.get() == 2
    assert ops[0].result() is None
    op = cq.recv(queue, "c")
    thread = Task(cq.wait)
    queue.put("x")
    assert thread.result() is True
    thread = Task(cq.wait, 30)
    assert thread.result() is True  # it is still there
    assert op.cancel() and cq.drain() == [] and queue.get_nowait() == "x"
    thread = Task(cq.wait)
    cq.close()
    assert thread.result() is False
    for call in (cq.drain, cq.fileno, lambda: cq.recv(queue, 1)):
        with pytest.raises(ValueError):
            call()
    cq.close()


def test_completion_queue_arguments(queue):
    recv, send = atoll.create_channel()
    cq = _core.CompletionQueue()
    for call, args in (
        (cq.recv, (queue,)),
        (cq.recv, (send, 1)),
        (cq.recv, (1, 1)),
        (cq.send, (recv, 1, 1)),
        (cq.send, (queue, 1)),
        (cq.start, (1, 1)),
        (cq.watch, (1, 1)),
        (_core.CompletionQueue, (1,)),
        (_core.Operation, ()),
    ):
        with pytest.raises((TypeError, ValueError)):
            call(*args)

    class Closes:
        def __reduce__(self):
            cq.close()
            return int, ()

    with pytest.raises(ValueError):
        cq.send(queue, Closes(), 1)
    assert queue.empty()


def test_descriptor(queue):
    import select

    cq = _core.CompletionQueue()
    fd = cq.fileno()
    assert fd == cq.fileno() and not os.get_inheritable(fd)
    readable = lambda: bool(select.select([fd], [], [], 0)[0])
    ops = [cq.recv(queue, i) for i in range(3)]
    assert not readable()
    for i in range(3):
        queue.put(i)
        assert readable()
    ops[0].cancel()
    assert readable()  # for the others
    assert cq.drain() == [1, 2] and not readable()
    assert [op.result() for op in ops[1:]] == [0, 1] and queue.get_nowait() == 2
    cq.close()
    with pytest.raises(OSError):
        os.fstat(fd)


def test_cycles_are_collected(queue):
    class Token:
        pass

    for end in ("pending", "ended", "told"):
        token = Token()
        token.cq = _core.CompletionQueue()
        token.op = token.cq.recv(queue, token)
        if end != "pending":
            queue.put(1)
        if end == "told":
            assert token.cq.drain() == [token]
        ref = weakref.ref(token)
        del token
        gc.collect()
        assert ref() is None
        assert rest_of(queue) == [1] * (end != "pending")


@pytest.mark.parametrize("when", ["before", "after", "cancelled", "cancelled late"])
def test_watch_an_event(when):
    lib = ctypes.CDLL(_core.__file__)
    lib.atoll_event_set.argtypes = [ctypes.c_void_p]
    new = ctypes.pythonapi.PyCapsule_New
    new.restype = ctypes.py_object
    new.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    memory = ctypes.create_string_buffer(64)
    address = ctypes.addressof(memory)
    capsules = [new(address, b"atoll_event", None)]
    uses = sys.getrefcount(capsules[0])

    async def main():
        here = _aio.hub()
        if when == "before":
            lib.atoll_event_set(address)
        watch = lambda cq, token: cq.watch(capsules[0], token)
        (task,) = await tasks_waiting(_aio.wait_event(watch))
        assert task.done() == (when == "before")
        if when == "after":
            threading.Timer(0.02, lib.atoll_event_set, [address]).start()
        if when == "cancelled late":
            lib.atoll_event_set(address)
        if when.startswith("cancelled"):
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        else:
            await task
        lib.atoll_event_set(address)
        here.cq.drain()

    run(main)
    after = sys.getrefcount(capsules[0])
    assert after == uses
