"""Memory that changes hands: atoll.move, and atoll.Buffer, which nobody owns."""

import array
import gc
import os
import time

import atoll
import lenders
import pytest
import workers
from lenders import can_grow
from support import SLACK, STRESS, Task, check_python, rss_kib, until


def make_buffer(content):
    buffer = atoll.Buffer(len(content))
    with memoryview(buffer) as view:
        view[:] = content
    return buffer


MAKERS = {
    "bytearray": bytearray,
    "array of bytes": lambda content: array.array("B", content),
    "array of doubles": lambda content: array.array("d", content + bytes(-len(content) % 8)),
    "Buffer": make_buffer,
}
SIZES = [1, 8, 511, 512, 513, 4096, 100_000, 5_000_000]


def content(obj):
    return memoryview(obj).cast("B").tobytes() if len(obj) else b""


# ------------------------------------------------------------------------- moving


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", MAKERS)
def test_what_is_moved_arrives_whole_and_leaves_nothing(way, kind, size):
    data = (bytes(range(256)) * (size // 256 + 1))[:size]
    obj = MAKERS[kind](data)
    expected = content(obj)
    moved = atoll.move(obj)
    assert type(moved) is atoll.Moved
    assert len(obj) == 0
    got = way(moved)
    assert type(got) is type(obj)
    assert content(got) == expected
    assert len(obj) == 0
    if isinstance(got, array.array):
        assert got.typecode == obj.typecode


@pytest.mark.parametrize("kind", MAKERS)
def test_nothing_at_all_can_be_moved_too(way, kind):
    obj = MAKERS[kind](b"")
    got = way(atoll.move(obj))
    assert type(got) is type(obj)
    assert len(got) == 0


@pytest.mark.parametrize("typecode", "bBwhHiIlLqQfd")
def test_every_type_of_array(way, typecode):
    with_text = typecode == "w"
    obj = array.array(typecode, "text ä" * 200 if with_text else [1, 2, 100] * 200)
    expected = obj[:]
    got = way(atoll.move(obj))
    assert (got.typecode, got) == (typecode, expected)
    got.extend(expected)
    assert len(got) == 2 * len(expected)
    assert len(obj) == 0
    obj.extend(expected)
    assert obj == expected


def test_what_was_emptied_can_be_used_again(queue):
    obj = bytearray(b"x" * 1000)
    for n in range(5):
        queue.put(atoll.move(obj))
        assert obj == b""
        assert queue.get() == (b"x" * 1000 if n == 0 else b"again" * 200)
        obj += b"again" * 200


def test_a_bytearray_whose_front_was_cut_off(way):
    obj = bytearray(range(256)) * 10
    del obj[:300]
    expected = bytes(obj)
    got = way(atoll.move(obj))
    assert got == expected
    assert lenders.change_array(got) == expected[:4] * 1000
    obj = bytearray(b"0123456789" * 100)
    del obj[:999]
    assert way(atoll.move(obj)) == b"9"


def test_what_arrives_can_be_changed_in_every_way(way):
    for size in SIZES:
        got = way(atoll.move(bytearray(b"a" * size)))
        assert lenders.change_array(got)[:1] == b"a"
        got = way(atoll.move(array.array("i", range(size // 4))))
        got.append(5)
        got.insert(0, 6)
        del got[1:]
        assert got.tolist() == [6]


def test_many_parts_of_one_message(way):
    parts = [bytearray([n]) * 1000 for n in range(50)]
    got = way([{"n": n, "part": atoll.move(part)} for n, part in enumerate(parts)])
    assert all(part == b"" for part in parts)
    assert all(item["part"] == bytes([n]) * 1000 for n, item in enumerate(got))


debug_hooks = pytest.mark.skipif(
    "PYTHONMALLOC" in os.environ, reason="memory of debug hooks is copied"
)


@pytest.mark.alone
@debug_hooks
def test_moving_takes_no_time_and_no_memory(queue):
    """A gigabyte of zero pages that nobody touches."""
    obj = bytearray(1 << 30)
    before = rss_kib()
    start = time.perf_counter()
    for _ in range(100):
        queue.put(atoll.move(obj))
        obj = queue.get()
    assert time.perf_counter() - start < 1
    assert len(obj) == 1 << 30
    assert rss_kib() - before < 50_000


@debug_hooks
def test_moving_to_another_interpreter_and_back_takes_no_copy(interp):
    obj = bytearray(1 << 30)
    before = rss_kib()
    assert interp.call(len, atoll.move(obj)) == 1 << 30
    got = interp.call(lambda: __import__("atoll").move(bytearray(1 << 30)))
    assert len(got) == 1 << 30
    assert rss_kib() - before < 50_000


@pytest.mark.parametrize("obj", [b"bytes", "text", [1], None, 5, memoryview(b"")])
def test_what_cannot_be_moved(obj):
    with pytest.raises(TypeError):
        atoll.move(obj)
    with pytest.raises(TypeError):
        atoll.Moved()


@pytest.mark.parametrize("kind", MAKERS)
def test_what_somebody_looks_at_cannot_be_moved(kind):
    obj = MAKERS[kind](b"abcdefgh" * 100)
    with memoryview(obj), pytest.raises(BufferError):
        atoll.move(obj)
    assert content(obj) == b"abcdefgh" * 100
    assert content(atoll.move(obj).take()) == b"abcdefgh" * 100


def test_what_is_lent_cannot_be_moved(queue):
    obj = bytearray(b"abc")
    queue.put(memoryview(obj))
    with pytest.raises(BufferError):
        atoll.move(obj)
    queue.get().release()
    until(lambda: can_grow(obj))
    assert atoll.move(obj).take() == b"abc"


# -------------------------------------------------------------------- exactly once


def test_it_can_be_sent_once(queue):
    moved = atoll.move(bytearray(b"abc"))
    queue.put(moved)
    for _ in range(2):
        with pytest.raises((atoll.AtollError, ValueError)):
            queue.put(moved)
        with pytest.raises((atoll.AtollError, ValueError)):
            moved.take()
    assert queue.qsize() == 1
    assert queue.get() == b"abc"
    with pytest.raises((atoll.AtollError, ValueError)):
        queue.put([moved])
    assert queue.empty()


def test_it_can_be_taken_back_once(queue):
    moved = atoll.move(array.array("i", [1, 2]))
    got = moved.take()
    assert got == array.array("i", [1, 2])
    got.append(3)
    with pytest.raises((atoll.AtollError, ValueError)):
        moved.take()
    with pytest.raises((atoll.AtollError, ValueError)):
        queue.put(moved)
    assert queue.empty()


def test_a_put_that_fails_loses_nothing():
    queue = atoll.create_queue(1)
    queue.put("in the way")
    moved = atoll.move(bytearray(b"abc" * 1000))
    for call in (lambda: queue.put_nowait(moved), lambda: queue.put([moved], timeout=0.01)):
        with pytest.raises(atoll.QueueFull):
            call()
    with pytest.raises(atoll.NotShareableError):
        queue.put([moved, (n for n in ())])
    recv, send = atoll.create_channel()
    with pytest.raises(atoll.ChannelTimeout):
        send.send(moved, timeout=0.01)
    recv.close()
    with pytest.raises(atoll.ChannelClosed):
        send.send(moved)
    queue.get()
    queue.put(moved)
    assert queue.get() == b"abc" * 1000


def test_an_argument_of_a_call_that_is_refused_is_not_lost(interp):
    gate = atoll.create_queue()
    task = Task(interp.call, gate.get)
    until(interp.is_running)
    moved = atoll.move(bytearray(b"abc"))
    with pytest.raises(atoll.InterpreterError):
        interp.call(workers.give, moved)
    assert moved.take() == b"abc"
    gate.put(None)
    task.result()


def test_twice_in_one_message_is_one_object_or_an_error(queue):
    moved = atoll.move(bytearray(b"abc"))
    try:
        queue.put([moved, moved])
    except (atoll.AtollError, ValueError):
        assert moved.take() == b"abc"
    else:
        a, b = queue.get()
        assert a is b
        assert a == b"abc"


def test_many_threads_send_one_moved_only_once(queue):
    for n in range(50):
        moved = atoll.move(bytearray(b"abc"))

        def attempt(moved=moved):
            try:
                queue.put(moved)
            except (atoll.AtollError, ValueError):
                return 0
            return 1

        tasks = [Task(attempt) for _ in range(4)]
        assert sum(task.result() for task in tasks) == 1, n
        assert queue.get_nowait() == b"abc"
    assert queue.empty()


def test_a_moved_says_what_it_is_and_holds_no_buffer():
    moved = atoll.move(bytearray(b"abc"))
    assert "Moved" in repr(moved)
    with pytest.raises(TypeError):
        memoryview(moved)
    moved.take()
    assert "Moved" in repr(moved)


def test_what_is_never_received_is_freed(interp):
    def round():
        for _ in range(100):
            queue = atoll.create_queue()
            queue.put(atoll.move(bytearray(b"x" * 1_000_000)))
            atoll.move(bytearray(b"x" * 1_000_000))
            interp.call(lenders.make_and_move, queue, 1_000_000)
            interp.call(lenders.take_and_drop, queue, 1)
            with pytest.raises(atoll.NotShareableError):
                queue.put([atoll.move(bytearray(b"x" * 1_000_000)), (n for n in ())])
        gc.collect()
        return rss_kib()

    round()
    before = round()
    assert min(round() for _ in range(3)) - before < 10_000


def test_the_sender_may_be_closed_first():
    queue = atoll.create_queue()
    for size in SIZES:
        with atoll.create() as interp:
            assert interp.call(lenders.make_and_move, queue, size) == 0
        got = queue.get()
        assert got == b"m" * size
        assert lenders.change_array(got)[:1] == b"m"
    with atoll.create() as interp:
        interp.call(lenders.make_and_move, queue, 5000)
    with atoll.create() as interp:
        assert interp.call(lenders.receive_and_change, queue, 1) > 0


@pytest.mark.parametrize("options", [(), ("-X", "dev")], ids=["plain", "debug allocators"])
def test_memory_that_changes_hands_many_times(options):
    """Through the allocators of several interpreters; dev mode checks each block."""
    out = check_python(
        f"""
        import atoll, lenders, array
        q = atoll.create_queue()
        a, b = atoll.create(), atoll.create()
        for size in (1, 100, 511, 512, 513, 5000, 200_000) * {STRESS}:
            array_ = array.array("h", range(size % 1000 + 1))
            obj = bytearray(b"abcd" * size)
            for interp in (a, b, a):
                obj = interp.call(lenders.change_array, atoll.move(obj))
                assert obj == b"abcd" * 1000, obj[:20]
                array_ = interp.call(lenders.append_one, atoll.move(array_))
            interp.call(lenders.make_and_move, q, size)
            b.call(lenders.receive_and_change, q, 1)
            a.call(lenders.make_and_move, q, size)
            got = q.get()
            a.close()
            a = atoll.create()
            got += bytes(got)
            del got[:1]
            assert got.count(b"m") == 2 * size - 1
        print("end")
        """,
        options=options,
    )
    assert out == "end"


def test_processes_end_with_memory_on_its_way():
    for code in (
        "q.put(atoll.move(bytearray(1000)))",
        "keep = atoll.move(bytearray(1000))",
        "a.call(lenders.make_and_move, q, 1000)",
        "a.call(lenders.make_and_move, q, 1000); keep = q.get()",
        "a.call(lenders.make_and_move, q, 1000); b.call(lenders.hold, q)",
        "q.put(atoll.Buffer(1000)); keep = atoll.Buffer(1000)",
        "buffer = atoll.Buffer(1000); q.put(buffer); a.call(lenders.hold, q)",
        "buffer = atoll.Buffer(1000); view = memoryview(buffer); q.put(view); "
        "a.call(lenders.hold, q)",
    ):
        out = check_python(
            "import atoll, lenders\nq = atoll.create_queue()\n"
            f"a, b = atoll.create(), atoll.create()\n{code}\nprint('end')\n"
        )
        assert out == "end"


# ------------------------------------------------------------------------- Buffer


@pytest.mark.parametrize("size", [0, *SIZES])
def test_a_new_buffer_is_zeroed_and_writable(size):
    buffer = atoll.Buffer(size)
    assert len(buffer) == size
    with memoryview(buffer) as view:
        assert (view.format, view.ndim, view.shape, view.readonly) == ("B", 1, (size,), False)
        assert view == bytes(size)
        if size:
            view[-1] = 7
    assert bytes(buffer) == bytes(size)[:-1] + b"\7" if size else bytes(buffer) == b""


@pytest.mark.parametrize("size", [-1, -(2**70)])
def test_a_buffer_of_negative_size(size):
    with pytest.raises((ValueError, OverflowError)):
        atoll.Buffer(size)


@pytest.mark.parametrize("size", ["5", None, 1.5, b"abc"])
def test_a_size_is_an_int(size):
    with pytest.raises(TypeError):
        atoll.Buffer(size)


@pytest.mark.parametrize("size", [2**62, 2**70])
def test_a_buffer_that_is_too_large(size):
    with pytest.raises((MemoryError, OverflowError)):
        atoll.Buffer(size)


def test_a_buffer_is_one_memory_for_all(interp, way):
    buffer = atoll.Buffer(100)
    got = way(buffer)
    assert type(got) is atoll.Buffer
    with memoryview(buffer) as mine, memoryview(got) as other:
        mine[0] = 5
        assert other[0] == 5
        assert interp.call(lenders.fill, got, 9) == (100, "Buffer")
        assert mine == other == bytes([9]) * 100
    nested = way([{"b": buffer}, buffer])
    with memoryview(nested[0]["b"]) as view:
        view[1] = 77
    assert bytes(buffer)[1] == bytes(nested[1])[1] == 77


def test_a_buffer_outlives_its_maker():
    with atoll.create() as interp:
        buffer = interp.call(lambda: __import__("atoll").Buffer(10_000))
        interp.call(lenders.fill, buffer, 3)
    assert bytes(buffer) == b"\3" * 10_000
    queue = atoll.create_queue()
    queue.put(buffer)
    view = memoryview(buffer)
    del buffer
    with atoll.create() as interp:
        assert interp.call(lenders.fill, queue.get(), 4) == (10_000, "Buffer")
    assert view == b"\4" * 10_000


def test_a_view_of_a_buffer_can_be_sent_as_well(interp):
    buffer = atoll.Buffer(10)
    interp.call(lenders.write, memoryview(buffer)[2:], 0, 5)
    assert bytes(buffer) == b"\0\0\5" + bytes(7)


def test_interpreters_write_into_one_buffer_at_once():
    """Each its own part, while main looks on."""
    buffer = atoll.Buffer(4 * 100_000)
    interps = [atoll.create() for _ in range(4)]
    with memoryview(buffer) as view:
        tasks = [
            Task(interp.call, lenders.fill, view[n * 100_000:(n + 1) * 100_000], n + 1)
            for n, interp in enumerate(interps)
        ]
        until(lambda: view[-1] == 4 and view[0] == 1)
        for task in tasks:
            task.result(SLACK)
        assert [view[n * 100_000] for n in range(4)] == [1, 2, 3, 4]
    for interp in interps:
        interp.close()


def test_buffers_are_freed_with_their_last_handle(interp, queue):
    def round():
        for _ in range(50):
            queue.put(make_buffer(b"x" * 1_000_000))
            interp.call(lenders.take_and_drop, queue, 1)
            queue.put([make_buffer(b"x" * 1_000_000)])
            queue.get()
        gc.collect()
        return rss_kib()

    round()
    before = round()
    assert min(round() for _ in range(3)) - before < 10_000


def test_numpy_arrays_move_too(queue):
    numpy = pytest.importorskip("numpy")
    obj = numpy.arange(10_000.0).reshape(100, 100)
    queue.put(atoll.move(obj))
    got = queue.get()
    assert type(got) is numpy.ndarray
    assert (got.shape, got.dtype) == ((100, 100), numpy.dtype("float64"))
    assert (got == numpy.arange(10_000.0).reshape(100, 100)).all()
    assert obj.size == 0
