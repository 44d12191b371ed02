"""Channels: sending, receiving, rendezvous, closing."""

import math
import queue as stdlib_queue
import time

import atoll
import pytest
from support import Parking, Task, parked, until


def test_create():
    recv, send = atoll.create_channel()
    assert isinstance(recv, atoll.RecvChannel)
    assert isinstance(send, atoll.SendChannel)
    assert recv.id == send.id
    assert recv.capacity == send.capacity == 0
    assert not recv.is_closed
    assert not send.is_closed
    assert recv.unbounditems is send.unbounditems is atoll.KEEP


def test_buffered_order():
    recv, send = atoll.create_channel(10)
    assert recv.capacity == 10
    for n in range(10):
        send.send(n)
    with pytest.raises(atoll.ChannelFull):
        send.send_nowait("one too many")
    assert [recv.recv() for _ in range(10)] == list(range(10))
    with pytest.raises(atoll.ChannelEmpty):
        recv.recv_nowait()


@pytest.mark.parametrize("capacity", ["1", 1.0, None, [], b"1"])
def test_capacity_must_be_an_int(capacity):
    with pytest.raises(TypeError, match="capacity"):
        atoll.create_channel(capacity)


def test_capacity_out_of_range():
    with pytest.raises(ValueError, match="capacity"):
        atoll.create_channel(-1)
    with pytest.raises(OverflowError):
        atoll.create_channel(2**64)
    with pytest.raises((OverflowError, ValueError)):
        atoll.create_channel(-(2**64))


@pytest.mark.parametrize(
    "call",
    [
        lambda r, s: s.send(),
        lambda r, s: s.send(1, 2, 3),
        lambda r, s: s.send(1, wait=2),
        lambda r, s: s.send(1, obj=2),
        lambda r, s: s.send_nowait(),
        lambda r, s: s.send_nowait(1, 2),
        lambda r, s: r.recv(1, 2),
        lambda r, s: r.recv(block=True),
        lambda r, s: r.recv_nowait(1, 2),
        lambda r, s: r.close(1),
        lambda r, s: r.send(1),
        lambda r, s: s.recv(),
        lambda r, s: iter(s),
        lambda r, s: atoll.create_channel(1, 2),
        lambda r, s: atoll.create_channel(size=1),
        lambda r, s: atoll.SendChannel(s.id),
        lambda r, s: atoll.RecvChannel(r.id),
    ],
)
def test_wrong_arguments(call):
    recv, send = atoll.create_channel(2)
    send.send("it")
    with pytest.raises((TypeError, AttributeError)):
        call(recv, send)
    assert recv.recv_nowait() == "it"
    assert recv.recv_nowait(None) is None


def test_keywords():
    recv, send = atoll.create_channel(capacity=2, unbounditems=atoll.UNBOUND)
    send.send(obj=1, timeout=1, unbounditems=None)
    send.send_nowait(obj=2, unbounditems=atoll.KEEP)
    assert recv.recv(timeout=1) == 1
    assert recv.recv_nowait(default=5) == 2
    assert recv.recv_nowait(default=5) == 5
    assert recv.recv_nowait(None) is None


def test_error_families():
    recv, send = atoll.create_channel(1)
    with pytest.raises(atoll.ChannelEmpty) as empty:
        recv.recv(timeout=0)
    assert isinstance(empty.value, stdlib_queue.Empty)
    with pytest.raises(atoll.ChannelTimeout) as late:
        recv.recv(timeout=0.001)
    assert isinstance(late.value, TimeoutError)
    send.send(1)
    with pytest.raises(atoll.ChannelFull) as full:
        send.send(2, 0)
    assert isinstance(full.value, stdlib_queue.Full)
    with pytest.raises(atoll.ChannelTimeout) as late2:
        send.send(2, 0.001)
    send.close()
    with pytest.raises(atoll.ChannelClosed) as closed:
        send.send(3)
    for info in (empty, late, full, late2, closed):
        assert isinstance(info.value, atoll.ChannelError)
        assert str(send.id) in str(info.value)


# ------------------------------------------------------------------ rendezvous


def test_rendezvous_send_waits_for_the_receiver():
    recv, send = atoll.create_channel()
    task = parked(send.send, "hello")
    assert task.is_alive()
    assert recv.recv() == "hello"
    task.result()


def test_rendezvous_recv_waits_for_the_sender():
    recv, send = atoll.create_channel()
    task = parked(recv.recv)
    send.send("hello")
    assert task.result() == "hello"


def test_rendezvous_nowait():
    recv, send = atoll.create_channel()
    with pytest.raises(atoll.ChannelFull):
        send.send_nowait(1)
    with pytest.raises(atoll.ChannelEmpty):
        recv.recv_nowait()
    task = parked(recv.recv)
    send.send_nowait(2)
    assert task.result() == 2
    task = parked(send.send, 3)
    assert recv.recv_nowait() == 3
    task.result()


def test_rendezvous_timeout_sends_nothing():
    recv, send = atoll.create_channel()
    with pytest.raises(atoll.ChannelTimeout):
        send.send("lost", timeout=0.01)
    with pytest.raises(atoll.ChannelEmpty):
        recv.recv_nowait()


def test_parked_receivers_are_served_in_order():
    recv, send = atoll.create_channel()
    tasks = [parked(recv.recv) for _ in range(10)]
    for n in range(10):
        send.send(n)
    assert [task.result() for task in tasks] == list(range(10))


def test_parked_senders_are_served_in_order():
    recv, send = atoll.create_channel()
    tasks = [parked(send.send, n) for n in range(10)]
    assert [recv.recv() for _ in range(10)] == list(range(10))
    for task in tasks:
        task.result()


@pytest.mark.parametrize("timeout", [-1, -0.5, math.nan, -math.inf])
def test_bad_timeout(timeout):
    recv, send = atoll.create_channel(1)
    with pytest.raises(ValueError, match="timeout"):
        send.send(1, timeout)
    with pytest.raises(ValueError, match="timeout"):
        recv.recv(timeout)
    with pytest.raises(TypeError, match="timeout"):
        send.send(1, "1")
    with pytest.raises(TypeError, match="timeout"):
        recv.recv("1")
    assert recv.recv_nowait(None) is None


def test_timeout_is_accurate():
    recv, send = atoll.create_channel()
    for wait in (lambda: send.send(1, 0.05), lambda: recv.recv(0.05)):
        best = math.inf
        for _ in range(5):
            begin = time.monotonic()
            with pytest.raises(atoll.ChannelTimeout):
                wait()
            took = time.monotonic() - begin
            assert took >= 0.05
            best = min(best, took)
            if best < 0.07:
                break
        assert best < 0.07


# ----------------------------------------------------------------------- close


def test_close_from_the_sender_drains():
    recv, send = atoll.create_channel(3)
    send.send(1)
    send.send(2)
    send.close()
    assert send.is_closed
    assert recv.is_closed
    with pytest.raises(atoll.ChannelClosed):
        send.send(3)
    assert [recv.recv(), recv.recv_nowait()] == [1, 2]
    for call in (recv.recv, recv.recv_nowait, lambda: recv.recv_nowait(None)):
        with pytest.raises(atoll.ChannelClosed):
            call()
    send.close()


def test_close_from_the_receiver_drops():
    recv, send = atoll.create_channel(3)
    inner = atoll.create_queue()
    id = inner.id
    send.send([inner])
    del inner
    recv.close()
    with pytest.raises(atoll.QueueNotFoundError):
        atoll.Queue(id)
    with pytest.raises(atoll.ChannelClosed):
        recv.recv()
    with pytest.raises(atoll.ChannelClosed):
        send.send(1)
    recv.close()


def test_close_wakes_all():
    recv, send = atoll.create_channel()
    tasks = [parked(recv.recv) for _ in range(3)]
    send.close()
    for task in tasks:
        with pytest.raises(atoll.ChannelClosed):
            task.result()
    recv, send = atoll.create_channel(1)
    send.send("accepted")
    tasks = [parked(send.send, n) for n in range(3)]
    send.close()
    for task in tasks:
        with pytest.raises(atoll.ChannelClosed):
            task.result()
    assert list(recv) == ["accepted"]


def test_iteration_ends_when_closed():
    recv, send = atoll.create_channel(3)
    assert iter(recv) is recv
    task = Task(list, recv)
    for n in range(5):
        send.send(n)
    send.close()
    assert task.result() == list(range(5))
    assert list(recv) == []


def test_context_manager_closes():
    recv, send = atoll.create_channel(1)
    with send as same:
        assert same is send
        send.send(1)
    assert list(recv) == [1]
    recv, send = atoll.create_channel(1)
    with pytest.raises(ZeroDivisionError), recv as same:
        assert same is recv
        1 / 0
    with pytest.raises(atoll.ChannelClosed):
        send.send(1)


# ------------------------------------------------------------- the ends' lives


def test_last_sending_end_gone_closes_after_what_was_sent():
    recv, send = atoll.create_channel(2)
    send.send(1)
    del send
    assert recv.is_closed
    assert list(recv) == [1]


def test_last_sending_end_gone_wakes_receivers():
    recv, send = atoll.create_channel()
    task = parked(recv.recv)
    del send
    with pytest.raises(atoll.ChannelClosed):
        task.result()


def test_last_receiving_end_gone_closes_and_drops():
    recv, send = atoll.create_channel(2)
    inner = atoll.create_queue()
    id = inner.id
    send.send(inner)
    del recv, inner
    assert send.is_closed
    with pytest.raises(atoll.ChannelClosed):
        send.send(1)
    with pytest.raises(atoll.QueueNotFoundError):
        atoll.Queue(id)


def test_last_receiving_end_gone_wakes_senders():
    recv, send = atoll.create_channel()
    task = parked(send.send, 1)
    del recv
    with pytest.raises(atoll.ChannelClosed):
        task.result()


def test_an_end_in_a_message_counts():
    carrier = atoll.create_queue()
    recv, send = atoll.create_channel(1)
    carrier.put(send)
    del send
    assert not recv.is_closed
    carrier.get().send("through the message")
    assert recv.recv() == "through the message"
    # ... and when the message is never read the end goes with it.
    recv, send = atoll.create_channel(1)
    carrier.put([send])
    del send
    task = parked(recv.recv)
    del carrier
    with pytest.raises(atoll.ChannelClosed):
        task.result()


def test_an_end_of_its_own_channel_inside_it():
    """No message keeps the channel open for ever by holding its own end."""
    recv, send = atoll.create_channel(2)
    id = send.id
    send.send(send)
    send.send([recv])
    del recv
    del send
    # A cycle: the receiving end is in the buffer that it keeps.
    pairs = [pair for pair in atoll.list_channels() if pair[0].id == id]
    for r, _ in pairs:
        r.close()
    assert id not in [r.id for r, _ in atoll.list_channels()]


def test_ends_in_interpreters_count(interp):
    recv, send = atoll.create_channel(1)
    interp.prepare_main(send=send)
    del send
    assert not recv.is_closed
    interp.exec("send.send(1); del send")
    assert list(recv) == [1]


def test_closing_the_interpreter_gives_its_ends_back():
    recv, send = atoll.create_channel(1)
    interp = atoll.create()
    interp.prepare_main(send=send)
    del send
    task = parked(recv.recv)
    interp.close()
    with pytest.raises(atoll.ChannelClosed):
        task.result()


# --------------------------------------------------------------------- objects


def test_repr_hash_eq():
    recv, send = atoll.create_channel()
    assert repr(recv) == f"RecvChannel(id={recv.id})"
    assert repr(send) == f"SendChannel(id={send.id})"
    assert recv != send
    assert hash(recv) == hash(send) == hash(recv.id)
    assert len({recv, send}) == 2


def test_identity():
    carrier = atoll.create_queue()
    recv, send = atoll.create_channel()
    carrier.put((recv, send))
    carrier.put({"r": recv, "s": [send]})
    assert carrier.get() == (recv, send)
    got = carrier.get()
    assert got["r"] is recv
    assert got["s"][0] is send


def test_list_channels():
    pairs = [atoll.create_channel() for _ in range(5)]
    listed = atoll.list_channels()
    assert [pair for pair in listed if pair in pairs] == pairs
    pairs[0][0].close()
    assert pairs[0] not in atoll.list_channels()
    del listed
    ids = [recv.id for recv, _ in pairs]
    del pairs
    assert not {recv.id for recv, _ in atoll.list_channels()} & set(ids)


def test_listing_keeps_nothing_open():
    recv, send = atoll.create_channel()
    for _ in range(3):
        atoll.list_channels()
    parking = Parking()
    task = Task(recv.recv)
    parking.wait()
    del send
    with pytest.raises(atoll.ChannelClosed):
        task.result()
    until(lambda: recv.is_closed)
