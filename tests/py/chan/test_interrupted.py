"""What has been received survives an interrupt until it is in the caller's hands."""

import pytest
from support import check_python

HARNESS = """
import array, asyncio, atoll, os, signal, sys, threading
from slowpoke import Slow, interrupted
from support import Task, until

class Alarm(Exception):
    pass

def raises(number, frame):
    raise Alarm
"""

GETS = {
    "get": "queue.get",
    "get with a timeout": "lambda: queue.get(timeout=20)",
    "get_nowait": "queue.get_nowait",
    "select": "lambda: atoll.select(queue)[1]",
    "get_async": "lambda: asyncio_run(queue.get_async())",
    "select_async": "lambda: asyncio_run(atoll.select_async(queue))[1]",
    "async for": "lambda: asyncio_run(first(queue))",
    "fan_in": "lambda: next(atoll.fan_in(queue))",
}


@pytest.mark.parametrize("kind", GETS)
def test_decoding(kind):
    check_python(
        HARNESS
        + f"""
async def first(end):
    async for item in end:
        return item
def asyncio_run(coroutine):
    loop = asyncio.new_event_loop() # which does not take SIGINT for itself
    try:
        return loop.run_until_complete(coroutine)
    finally:
        loop.close()
queue = atoll.create_queue()
queue.put(Slow("load"))
queue.put("second")
for _ in range(3):
    interrupted({GETS[kind]})
    assert queue.qsize() == 2
assert ({GETS[kind]})().load == "load"
assert queue.get() == "second" and queue.empty()
"""
    )


def test_after_a_wait():
    """In coroutines, too: what arrives for one that waits."""
    check_python(
        HARNESS
        + """
queue = atoll.create_queue()
async def get():
    return await queue.get_async()
def run():
    loop = asyncio.new_event_loop()
    loop.call_soon(lambda: loop.call_soon(queue.put, Slow(1)))
    try:
        return loop.run_until_complete(get())
    finally:
        loop.close()
interrupted(run)
assert queue.qsize() == 1 and queue.get().load == 1
def wait():
    Task(lambda: (until(lambda: "get from queue" in atoll.dump()), queue.put(Slow(2))))
    return queue.get()
interrupted(wait)
assert queue.qsize() == 1 and queue.get().load == 2
"""
    )


CHANNELS = {
    "recv": "recv.recv",
    "recv_nowait": "recv.recv_nowait",
    "iteration": "lambda: next(iter(recv))",
    "select": "lambda: atoll.select(recv)[1]",
}


@pytest.mark.parametrize("capacity", [0, 1, 3])
@pytest.mark.parametrize("kind", CHANNELS)
def test_channels(kind, capacity):
    """Those of a rendezvous, too: its sender has gone on, and the object is the first."""
    check_python(
        HARNESS
        + f"""
recv, send = atoll.create_channel({capacity})
sender = Task(lambda: (send.send(Slow("load")), send.send("second")))
until(lambda: "send on channel" in atoll.dump() or {capacity} > 1)
if {capacity} > 1:
    sender.result()
interrupted({CHANNELS[kind]})
interrupted({CHANNELS[kind]})
assert recv.recv().load == "load"
assert recv.recv() == "second"
sender.result()
"""
    )


def test_another_receiver_gets_it():
    check_python(
        HARNESS
        + """
recv, send = atoll.create_channel()
sender = Task(send.send, Slow("load"))
until(lambda: "send on channel" in atoll.dump())
others = []
def interrupt():
    others.append(Task(recv.recv)) # it waits; then the object goes to it
    until(lambda: "recv on channel" in atoll.dump())
    signal.raise_signal(signal.SIGINT)
    Slow.hold = False
interrupted(recv.recv, interrupt=interrupt)
assert others[0].result().load == "load"
sender.result()
"""
    )


LOADS = {
    "bytes": "b'x' * 100_000",
    "str": "'\\xfc' * 100_000",
    "bytearray": "bytearray(b'y' * 100_000)",
    "several": "[b'x' * 100_000, 'z' * 100_000]",
    "descriptor": "open(os.devnull, 'rb')",
    "moved bytearray": "atoll.move(bytearray(b'y' * 100_000))",
    "moved array": "atoll.move(array.array('d', [1.5] * 10_000))",
    "moved Buffer": "atoll.move(atoll.Buffer(5000))",
    "channel": "atoll.create_channel()[0]",
}


@pytest.mark.parametrize("load", LOADS)
def test_what_is_beside_the_message(load):
    """Large objects, memory that was moved and files are in it again."""
    check_python(
        HARNESS
        + f"""
queue = atoll.create_queue()
load = {LOADS[load]}
like = {LOADS[load]}
if isinstance(like, atoll.Moved):
    like = like.take()
queue.put(Slow(load))
for _ in range(2):
    interrupted(queue.get)
    assert queue.qsize() == 1
got = queue.get().load
assert type(got) is type(like), type(got)
if isinstance(like, (bytes, str, bytearray, list, array.array)):
    assert got == like
elif hasattr(got, "read"):
    assert got.read(1) == b""
"""
    )


def test_numpy_arrays():
    pytest.importorskip("numpy")
    check_python(
        HARNESS
        + """
import numpy
queue = atoll.create_queue()
moved = atoll.move(numpy.arange(100_000))
queue.put(Slow((numpy.arange(50_000), moved)))
interrupted(queue.get)
kept, got = queue.get().load
assert (kept == numpy.arange(50_000)).all() and (got == numpy.arange(100_000)).all()
"""
    )


HANDLERS = {
    "function": "raises",
    "lambda": "lambda *args: (_ for _ in ()).throw(Alarm())",
    "method": "Object().method",
    "object": "Object()",
    "partial": "functools.partial(with_more, 1)",
    "function that goes": "goes",
    "exit": "lambda number, frame: sys.exit(3)",
}


@pytest.mark.parametrize("handler", HANDLERS)
def test_what_handlers_raise(handler):
    """Any exception of a handler is an interrupt; none of the object's own is."""
    check_python(
        HARNESS
        + f"""
import functools
class Object:
    def method(self, number, frame):
        raise Alarm
    def __call__(self, number, frame):
        raises(number, frame)
def with_more(more, number, frame):
    raises(number, None)
def goes(number, frame):
    signal.signal(number, signal.SIG_DFL)
    raise Alarm
queue = atoll.create_queue()
queue.put(Slow(5))
signal.signal(signal.SIGUSR1, {HANDLERS[handler]})
interrupted(queue.get, (Alarm, SystemExit),
            lambda: os.kill(os.getpid(), signal.SIGUSR1))
assert queue.qsize() == 1 and queue.get().load == 5
"""
    )


def test_an_object_that_cannot_be_decoded_is_gone():
    """It would be in the way for ever."""
    check_python(
        HARNESS
        + """
class Bad:
    def __setstate__(self, state):
        self.helper()
    def helper(self, error=ValueError):
        raise error("not today")
bad = Bad()
bad.x = 1
queue = atoll.create_queue()
signal.signal(signal.SIGUSR1, raises)
queue.put(bad)
queue.put(2)
try:
    queue.get()
except ValueError:
    print("ValueError")
assert queue.get() == 2
"""
    )


def test_interrupt_of_an_interpreter():
    """interrupt() and the cancelling of a task, in other interpreters."""
    check_python(
        HARNESS
        + """
from concurrent.futures import CancelledError
queue, told, gate = (atoll.create_queue() for _ in range(3))
source = '''
class Slow:
    def __setstate__(self, state):
        self.__dict__.update(state)
        told.put(1)
        while gate.empty():
            pass
'''
with atoll.create() as interp:
    interp.prepare_main(queue=queue, told=told, gate=gate)
    interp.exec(source)
    interp.exec("s = Slow(); s.x = 7; queue.put(s); queue.put(8)")
    for how in "interrupt", "cancel":
        task = interp.submit(queue.get)
        told.get(timeout=10)
        assert interp.interrupt() if how == "interrupt" else task.cancel()
        try:
            task.result(10)
        except (KeyboardInterrupt, CancelledError):
            pass
        else:
            raise AssertionError
        until(lambda: queue.qsize() == 2 and not task.is_alive())
    gate.put("open")
    interp.exec("got = queue.get()")
    interp.exec("assert got.x == 7")
    assert queue.get() == 8
"""
    )


# Signals at random moments in a loop that receives: what is got and what is left is all.
STORM = """
import atoll, signal, threading
from support import Task

class Stop(Exception):
    pass

armed = False

def handler(number, frame):
    if armed:
        raise Stop

signal.signal(signal.SIGALRM, handler)
COUNT = 20_000
"""


def test_rendezvous_in_a_storm():
    """All comes once and in order, whatever the moment of the signal.

    After a call that receives CPython looks for signals before its caller has the result;
    `for` does not.
    """
    out = check_python(
        STORM
        + """
recv, send = atoll.create_channel()
def feed():
    for i in range(COUNT):
        send.send((i, [i]))
    send.close()
feeder = Task(feed)
got, stops = [], 0
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
over = False
while not over:
    try:
        armed = True
        for item in recv:
            got += item[1]
        over = True
    except Stop:
        stops += 1
    armed = False
signal.setitimer(signal.ITIMER_REAL, 0)
feeder.result()
assert got == list(range(COUNT))
print(stops)
"""
    )
    assert int(out) > 20
