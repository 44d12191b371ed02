"""Channels that are poisoned: everybody is told why, and what was in them is dropped."""

import asyncio
import gc
import itertools
import pickle

import atoll
import pytest
import workers
from atoll import _core
from loops import run, tasks_waiting
from support import parked


class Unsendable(Exception):
    def __reduce__(self):
        raise RuntimeError("not today")


class Unbuildable(Exception):
    def __reduce__(self):
        return fail_to_build, ()


def fail_to_build():
    raise LookupError("no parts")


class Unspeakable(Exception):
    def __reduce__(self):
        raise KeyError(self)

    def __str__(self):
        raise OSError("not a word")


class Interrupting(Exception):
    def __reduce__(self):
        raise KeyboardInterrupt


def boom(text="boom"):
    """An exception that has been raised."""
    try:
        raise workers.MyError(7, text)
    except workers.MyError as exc:
        return exc


def poisoned(function, *args):
    with pytest.raises(atoll.ChannelPoisoned) as info:
        function(*args)
    return info.value


def is_the_boom(exc):
    assert type(exc) is atoll.ChannelPoisoned
    assert isinstance(exc.reason, workers.MyError)
    assert exc.reason.args == (7, "boom")
    assert exc.__cause__ is exc.reason
    assert "boom" in str(exc)
    return True


def test_poison_drops_counts_and_tells():
    recv, send = atoll.create_channel(10)
    for n in range(5):
        send.send(n)
    exc = boom()
    assert not recv.is_poisoned
    assert send.poison(exc) == 5
    assert recv.is_poisoned and send.is_poisoned
    assert recv.is_closed and send.is_closed
    for call in (
        recv.recv,
        recv.recv_nowait,
        lambda: recv.recv_nowait(None),
        lambda: recv.recv(timeout=0.1),
        lambda: send.send(1),
        lambda: send.send_nowait(1),
        lambda: send.send(1, timeout=0.1),
        lambda: send.send_buffer(b"x"),
        lambda: next(recv),
        lambda: list(recv),
    ):
        error = poisoned(call)
        assert is_the_boom(error)
        assert error.reason is not exc  # a copy, each time
    send.close()
    recv.close()
    assert is_the_boom(poisoned(recv.recv))


def test_poison_from_the_receiver():
    recv, send = atoll.create_channel(3)
    send.send(1)
    assert recv.poison(boom()) == 1
    assert is_the_boom(poisoned(send.send, 2))


def test_the_first_poison_counts():
    recv, send = atoll.create_channel(1)
    assert send.poison(boom()) == 0
    assert recv.poison(ValueError("too late")) == 0
    assert is_the_boom(poisoned(recv.recv))


def test_poison_without_a_reason():
    recv, send = atoll.create_channel()
    send.poison()
    error = poisoned(recv.recv)
    assert error.reason is None
    assert error.__cause__ is None
    assert str(recv.id) in str(error)
    recv, send = atoll.create_channel()
    assert send.poison(exc=None) == 0
    assert poisoned(recv.recv).reason is None


def test_poison_after_close_drops_what_is_left():
    recv, send = atoll.create_channel(3)
    send.send(1)
    send.send(2)
    send.close()
    assert recv.recv() == 1
    assert not recv.is_poisoned
    assert send.poison(boom()) == 1
    assert is_the_boom(poisoned(recv.recv))


@pytest.mark.parametrize("bad", [ValueError, "text", 1, object()])
def test_poison_takes_exceptions(bad):
    recv, send = atoll.create_channel()
    with pytest.raises(TypeError, match="exc"):
        send.poison(bad)
    with pytest.raises(TypeError):
        send.poison(None, None)
    assert not recv.is_poisoned


def test_families():
    assert issubclass(atoll.ChannelPoisoned, atoll.ChannelError)
    assert not issubclass(atoll.ChannelPoisoned, atoll.ChannelClosed)
    recv, send = atoll.create_channel()
    send.poison(boom())
    error = poisoned(recv.recv)
    copy = pickle.loads(pickle.dumps(error))
    assert str(copy) == str(error)
    assert copy.reason.args == error.reason.args


def test_a_poisoned_exception_crosses(way):
    recv, send = atoll.create_channel()
    send.poison(boom())
    copy = way(poisoned(recv.recv))
    assert is_the_boom(copy)


def test_the_traceback_comes_as_text():
    import traceback

    recv, send = atoll.create_channel()
    send.poison(boom())
    text = "".join(traceback.format_exception(poisoned(recv.recv)))
    assert "raise workers.MyError(7, text)" in text
    assert "RemoteTraceback" in text


def test_in_an_except_block_the_context_stays():
    recv, send = atoll.create_channel()
    send.poison(boom())
    try:
        try:
            raise LookupError
        except LookupError:
            recv.recv()
    except atoll.ChannelPoisoned as exc:
        assert isinstance(exc.__context__, LookupError)
        assert is_the_boom(exc)


def test_poison_passes_its_reason_on():
    """Not a chain of poisons: the reason stays the first one."""
    pairs = [atoll.create_channel() for _ in range(4)]
    pairs[0][1].poison(boom())
    for (recv, _), (_, send) in itertools.pairwise(pairs):
        send.poison(poisoned(recv.recv))
    error = poisoned(pairs[-1][0].recv)
    assert is_the_boom(error)
    assert "poisoned: workers.MyError" in str(error)

    recv, send = atoll.create_channel()
    send.poison(atoll.ChannelPoisoned())
    assert poisoned(recv.recv).reason is None
    circle = atoll.ChannelPoisoned()
    circle.reason = circle
    recv, send = atoll.create_channel()
    send.poison(circle)
    assert poisoned(recv.recv).reason is None


@pytest.mark.parametrize("cls", [Unsendable, Unbuildable, Unspeakable])
def test_what_cannot_cross_poisons_all_the_same(cls):
    recv, send = atoll.create_channel(2)
    send.send(1)
    assert send.poison(cls("text")) == 1
    reason = poisoned(recv.recv).reason
    assert isinstance(reason, atoll.RemoteError)
    assert cls.__name__ in reason.formatted


def test_a_reason_that_only_one_can_have():
    """What is moved can be received once; those who are told are many."""
    recv, send = atoll.create_channel(2)
    exc = ValueError("text")
    exc.data = atoll.move(bytearray(10_000))
    send.poison(exc)
    for _ in range(3):
        reason = poisoned(recv.recv).reason
        assert isinstance(reason, atoll.RemoteError)
        assert reason.formatted == "ValueError: text"
        assert "only one" in reason.reason


def test_a_reason_with_shared_memory_and_ends():
    inner_recv, inner_send = atoll.create_channel(1)
    recv, send = atoll.create_channel(2)
    exc = ValueError("text")
    exc.data = atoll.share(bytearray(b"x" * 10_000))
    exc.end = inner_send
    send.poison(exc)
    for _ in range(3):
        reason = poisoned(recv.recv).reason
        assert bytes(reason.data) == b"x" * 10_000
        assert reason.end is inner_send
    del exc, reason, inner_send
    gc.collect()
    assert not inner_recv.is_closed  # the channel's reason has it
    del recv, send
    gc.collect()
    assert inner_recv.is_closed


def test_an_interrupt_while_the_reason_is_encoded():
    """It is told, and the channel is poisoned anyway."""
    recv, send = atoll.create_channel(2)
    try:
        send.poison(Interrupting())
    except KeyboardInterrupt:
        pass
    assert recv.is_poisoned
    poisoned(recv.recv)


@pytest.mark.parametrize("capacity", [0, 2])
def test_poison_wakes_all(capacity):
    recv, send = atoll.create_channel(capacity)
    waiters = [parked(recv.recv) for _ in range(5)]
    send.poison(boom())
    for waiter in waiters:
        assert is_the_boom(poisoned(waiter.result))

    recv, send = atoll.create_channel(capacity)
    for n in range(capacity):
        send.send(n)
    waiters = [parked(send.send, n) for n in range(5)]
    assert recv.poison(boom()) == capacity  # those who wait keep theirs
    for waiter in waiters:
        assert is_the_boom(poisoned(waiter.result))


def test_poison_wakes_coroutines():
    async def main():
        recv, send = atoll.create_channel()
        tasks = await tasks_waiting(recv.recv_async(), recv.recv_async(), anext(recv))
        send.poison(boom())
        recv2, send2 = atoll.create_channel()
        tasks += await tasks_waiting(send2.send_async(1), send2.send_async(2))
        recv2.poison(boom())
        for task in tasks:
            with pytest.raises(atoll.ChannelPoisoned) as info:
                await task
            assert is_the_boom(info.value)
        with pytest.raises(atoll.ChannelPoisoned):
            await recv.recv_async()
        with pytest.raises(atoll.ChannelPoisoned):
            await send.send_async(1)
        with pytest.raises(atoll.ChannelPoisoned):
            async for _ in recv:
                pass

    run(main)


def test_a_message_that_came_before_the_poison_is_not_put_back():
    """It was received for a coroutine that is cancelled after the poison."""

    async def main():
        recv, send = atoll.create_channel(1)
        (task,) = await tasks_waiting(recv.recv_async())
        send.send("for nobody")
        send.poison(boom())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert is_the_boom(poisoned(recv.recv))

    run(main)


def poison_there(send, text):
    send.poison(boom(text))


def recv_there(recv):
    try:
        recv.recv()
    except atoll.ChannelPoisoned as exc:
        return type(exc.reason).__name__, exc.reason.args, exc.reason is exc.__cause__


def test_poison_between_interpreters(interp):
    recv, send = atoll.create_channel()
    waiter = parked(interp.call, recv_there, recv)
    send.poison(boom())
    assert waiter.result() == ("MyError", (7, "boom"), True)
    assert interp.call(recv_there, recv) == ("MyError", (7, "boom"), True)

    recv, send = atoll.create_channel()
    waiter = parked(recv.recv)
    interp.call(poison_there, send, "boom")
    assert is_the_boom(poisoned(waiter.result))
    interp.close()
    assert is_the_boom(poisoned(recv.recv))  # also when its maker is gone


def stage(recv, send):
    with atoll.poison_on_exit(recv, send):
        for item in recv:
            send.send(100 // item)


def test_a_network_dies_of_one_error():
    pairs = [atoll.create_channel(1) for _ in range(4)]
    tasks = [
        atoll.spawn(stage, pairs[i][0], pairs[i + 1][1]) for i in range(len(pairs) - 1)
    ]
    first, last = pairs[0][1], pairs[-1][0]
    first.send(10)
    assert last.recv() == 10
    first.send(0)
    reason = poisoned(last.recv).reason
    assert isinstance(reason, ZeroDivisionError)
    reason = poisoned(lambda: [first.send(1) for _ in range(9)]).reason
    assert isinstance(reason, ZeroDivisionError)
    for task in tasks:
        error = task.exception(timeout=10)
        error = getattr(error, "reason", error)
        assert isinstance(error, ZeroDivisionError)


@pytest.mark.parametrize("cls", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_poison_on_exit(cls):
    a, b = atoll.create_channel(), atoll.create_channel()
    with pytest.raises(cls):
        with atoll.poison_on_exit(a[0], b[1]):
            raise cls("x")
    for recv, _send in (a, b):
        assert isinstance(poisoned(recv.recv).reason, cls)


def test_poison_on_exit_without_an_error():
    recv, send = atoll.create_channel(1)
    with atoll.poison_on_exit(recv, send) as got:
        assert isinstance(got, atoll.poison_on_exit)
        send.send(1)
    assert recv.recv() == 1
    assert not recv.is_closed
    for bad in (1, "text", (recv, send), atoll.create_queue()):
        with pytest.raises(TypeError):
            atoll.poison_on_exit(recv, bad)


def test_poison_on_exit_in_coroutines():
    async def main():
        recv, send = atoll.create_channel()

        async def die():
            async with atoll.poison_on_exit(send):
                await asyncio.sleep(60)

        task = asyncio.ensure_future(die())
        await asyncio.sleep(0)
        (waiter,) = await tasks_waiting(recv.recv_async())
        task.cancel()
        with pytest.raises(atoll.ChannelPoisoned) as info:
            await waiter
        assert isinstance(info.value.reason, asyncio.CancelledError)
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main)


@pytest.mark.parametrize("what", ["send", "recv", "both", "nested"])
def test_a_reason_that_refers_to_its_channel(what):
    """It does not keep the channel, and arrives with its ends."""
    recv, send = atoll.create_channel(2)
    number = recv.id
    load = {"send": send, "recv": recv, "both": (send, recv), "nested": [{"x": [recv]}]}
    send.send(1)
    send.poison(ValueError("no", load[what]))
    with pytest.raises(atoll.ChannelPoisoned) as caught:
        recv.recv()
    text, got = caught.value.reason.args
    assert text == "no"
    assert got == load[what]
    with atoll.create() as interp:
        assert interp.call(workers.reason_of, recv) == "ValueError"
    del caught, got, load, recv, send
    gc.collect()
    with pytest.raises(atoll.ChannelNotFoundError):
        _core._find_recv(number, _core._process_token())
