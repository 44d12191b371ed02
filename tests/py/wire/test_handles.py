"""Handles of queues, channels and interpreters: in messages, in pickles."""

import copy
import gc
import pickle
import weakref

import atoll
import pytest
from support import check_python, open_interpreters, until
from workers import Point


def wrap(handle):
    """The ways in which a message can hold a handle."""
    return [
        handle,
        (handle,),
        ((1, (handle, "x")), handle),
        [handle],
        {"key": [handle]},
        [{"a": (handle,)}, {handle: 1}],
        Point(1, handle),
        Point(1, [Point(2, handle)]),
    ]


def find(obj, kind):
    """The handle inside what wrap() made."""
    if isinstance(obj, kind):
        return obj
    if isinstance(obj, Point):
        return find(obj.y, kind)
    if isinstance(obj, dict):
        obj = [*obj.keys(), *obj.values()]
    if isinstance(obj, (list, tuple)):
        for item in obj:
            found = find(item, kind)
            if found is not None:
                return found
    return None


WAYS = range(len(wrap(None)))


@pytest.mark.parametrize("way", WAYS)
def test_a_queue_whose_handle_is_dropped_before_it_is_read(queue, way):
    inner = atoll.create_queue(7)
    inner.put("inside")
    id = inner.id
    queue.put(wrap(inner)[way])
    del inner
    gc.collect()
    inner = find(queue.get(), atoll.Queue)
    assert (inner.id, inner.maxsize) == (id, 7)
    assert inner.get_nowait() == "inside"
    del inner
    gc.collect()
    with pytest.raises(atoll.QueueNotFoundError):
        atoll.Queue(id)


@pytest.mark.parametrize("way", WAYS)
def test_channel_ends_dropped_before_they_are_read(queue, way):
    recv, send = atoll.create_channel(1)
    queue.put((wrap(recv)[way], wrap(send)[way]))
    del recv, send
    gc.collect()
    message = queue.get()
    recv = find(message, atoll.RecvChannel)
    send = find(message, atoll.SendChannel)
    del message
    send.send(5)
    del send
    assert list(recv) == [5]


@pytest.mark.parametrize("way", WAYS)
def test_an_interpreter_dropped_before_it_is_read(queue, way):
    inner = atoll.create("kept")
    inner.exec("x = 1")
    id = inner.id
    queue.put(wrap(inner)[way])
    del inner
    gc.collect()
    inner = find(queue.get(), atoll.Interpreter)
    assert (inner.id, inner.name) == (id, "kept")
    inner.exec("assert x == 1")


@pytest.mark.parametrize("way", WAYS)
def test_a_message_that_is_never_read_keeps_nothing(way):
    carrier = atoll.create_queue()
    inner = atoll.create_queue()
    recv, send = atoll.create_channel(1)
    interp = atoll.create()
    ids = inner.id, interp.id
    carrier.put([wrap(h)[way] for h in (inner, send, interp)])
    del inner, send, interp
    gc.collect()
    assert not recv.is_closed
    atoll.Queue(ids[0])
    atoll.Interpreter(ids[1])
    del carrier
    with pytest.raises(atoll.QueueNotFoundError):
        atoll.Queue(ids[0])
    assert recv.is_closed
    until(lambda: ids[1] not in open_interpreters())


def test_a_refused_message_keeps_nothing(queue):
    inner = atoll.create_queue()
    id = inner.id
    for bad in ([inner, lambda: (yield)], (inner, (n for n in ()))):
        with pytest.raises(atoll.NotShareableError):
            queue.put([*bad, (n for n in ())])
    full = atoll.create_queue(1)
    full.put(0)
    with pytest.raises(atoll.QueueFull):
        full.put_nowait((inner, [inner]))
    del inner, bad
    gc.collect()
    assert queue.empty()
    with pytest.raises(atoll.QueueNotFoundError):
        atoll.Queue(id)


def test_a_chain_of_queues_in_queues():
    """Dropping the first drops all, without recursion in C."""
    before = atoll.stats()["channels"]
    first = last = atoll.create_queue()
    for n in range(20_000):
        following = atoll.create_queue()
        last.put(following if n % 2 else (n, following))
        last = following
    del last, following
    del first
    assert atoll.stats()["channels"] == before


def test_many_handles_in_one_message(queue):
    queues = [atoll.create_queue() for _ in range(300)]
    queue.put(tuple(queues))
    queue.put(queues)
    assert queue.get() == tuple(queues)
    assert queue.get() == queues


def test_handles_work_in_interpreters(interp):
    there, back = atoll.create_queue(), atoll.create_queue()
    recv, send = atoll.create_channel()
    interp.prepare_main(there=there, back=back, recv=recv)
    interp.prepare_main({"nested": [there, {"recv": recv}]})
    there.put(there)
    interp.exec(
        f"""
assert there.id == {there.id} and recv.id == {recv.id}
assert nested[0] is there and nested[1]["recv"] is recv
item = there.get()
assert item is there
back.put([there, item])
"""
    )
    assert back.get() == [there, there]
    other = atoll.create_queue()
    assert interp.call(lambda q: q, other) is other
    assert interp.call(lambda: atoll.get_current()) is interp


def test_interpreter_identity(queue, interp):
    queue.put((interp, [interp]))
    one, [two] = queue.get()
    assert one is two is interp
    queue.put(atoll.get_main())
    assert queue.get() is atoll.get_main()
    assert interp.call(lambda i: i is atoll.get_current(), interp)
    assert interp.call(lambda i: i is atoll.get_main(), atoll.get_main())


@pytest.mark.parametrize("way", WAYS)
def test_a_closed_interpreter_in_a_message(queue, way):
    """It arrives as what it is: closed. The rest of the message is not lost."""
    inner = atoll.create()
    id = inner.id
    queue.put((wrap(inner)[way], "the rest"))
    inner.close()
    del inner
    gc.collect()
    message, rest = queue.get()
    inner = find(message, atoll.Interpreter)
    assert inner.id == id
    assert rest == "the rest"
    with pytest.raises(atoll.InterpreterNotFoundError):
        inner.exec("1")


# --------------------------------------------------------------------- pickles


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickling_within_the_process(protocol, interp):
    recv, send = atoll.create_channel()
    for handle in (atoll.create_queue(), recv, send, interp, atoll.get_main()):
        data = pickle.dumps([handle, handle], protocol)
        assert pickle.loads(data) == [handle, handle]
        assert copy.copy(handle) is handle
        assert copy.deepcopy([handle])[0] is handle


def test_a_pickle_does_not_keep_its_queue():
    queue = atoll.create_queue()
    data = pickle.dumps(queue)
    del queue
    with pytest.raises(atoll.QueueNotFoundError):
        pickle.loads(data)
    recv, send = atoll.create_channel()
    data = pickle.dumps(send)
    del recv, send
    with pytest.raises(atoll.ChannelNotFoundError):
        pickle.loads(data)
    interp = atoll.create()
    data = pickle.dumps(interp)
    interp.close()
    del interp
    with pytest.raises(atoll.InterpreterNotFoundError):
        pickle.loads(data)


def test_unpickling_in_another_process_is_an_error(interp):
    recv, send = atoll.create_channel()
    handles = [
        (atoll.create_queue(), "QueueNotFoundError"),
        (recv, "ChannelNotFoundError"),
        (send, "ChannelNotFoundError"),
        (interp, "InterpreterNotFoundError"),
    ]
    pickles = [(pickle.dumps(handle), name) for handle, name in handles]
    out = check_python(
        f"""
        import pickle, atoll
        # Things with the same ids exist here as well.
        keep = [atoll.create_queue() for _ in range(50)]
        keep += [atoll.create_channel() for _ in range(50)]
        for data, name in {pickles!r}:
            try:
                print("no error:", pickle.loads(data))
            except getattr(atoll, name) as exc:
                assert "another process" in str(exc), exc
                print("refused")
        """
    )
    assert out.split() == ["refused"] * 4


# ---------------------------------------------------------------- weak references


def test_weakref():
    queue = atoll.create_queue()
    recv, send = atoll.create_channel()
    refs = [weakref.ref(handle) for handle in (queue, recv, send)]
    assert [ref() for ref in refs] == [queue, recv, send]
    del queue, recv, send
    assert [ref() for ref in refs] == [None] * 3


def test_a_weakref_callback_that_looks_the_handle_up_again():
    """The dying object must not be found, or it would be used after its end."""
    check_python(
        """
        import weakref, atoll
        carrier, found = atoll.create_queue(), []
        for _ in range(50):
            inner = atoll.create_queue()
            carrier.put(inner)  # so that the queue itself lives on
            look = lambda _, id=inner.id: found.append(atoll.Queue(id))
            ref = weakref.ref(inner, look)
            del inner
            assert ref() is None
        for handle in found:
            handle.put(handle.id)
        # They are whole objects, and the only ones.
        received = [carrier.get() for _ in found]
        assert len(found) == 50
        assert all(a is b for a, b in zip(found, received, strict=True))
        assert all(handle.get() == handle.id for handle in received)
        """
    )


def test_a_weakref_callback_that_lists_the_channels():
    check_python(
        """
        import weakref, atoll
        found = []
        recv, send = atoll.create_channel(1)
        keep = atoll.create_queue()
        keep.put((recv, send))
        ref = weakref.ref(send, lambda _: found.extend(atoll.list_channels()[-1]))
        del send
        assert ref() is None
        found[1].send(1)
        assert found[0].recv() == 1
        assert keep.get() == tuple(found)
        """
    )
