"""Memory that is lent: views of it in other interpreters, and its way back."""

import array
import ctypes
import gc
import os
import sys
import time

import atoll
import lenders
import pytest
import workers
from lenders import can_grow
from support import SLACK, STRESS, Task, check_python, count_fds, rss_kib, until


def multi():
    return memoryview(bytearray(range(24))).cast("B", (2, 3, 4))


VIEWS = {
    "bytes": lambda: memoryview(b"abc"),
    "bytearray": lambda: memoryview(bytearray(b"abc")),
    "read-only": lambda: memoryview(bytearray(b"abc")).toreadonly(),
    "empty": lambda: memoryview(b""),
    "doubles": lambda: memoryview(array.array("d", [1.5, -2.5])),
    "characters": lambda: memoryview(array.array("w", "äb")),
    "ctypes": lambda: memoryview((ctypes.c_int32 * 3)(1, -2, 3)),
    "ctypes 2d": lambda: memoryview(((ctypes.c_int16 * 2) * 3)((1, 2), (3, 4), (5, 6))),
    "structure": lambda: memoryview(Structure(1, 2.0)),
    "slice": lambda: memoryview(bytearray(range(10)))[2:7],
    "every second": lambda: memoryview(bytearray(range(10)))[1::2],
    "backwards": lambda: memoryview(bytearray(range(10)))[::-1],
    "backwards by three": lambda: memoryview(array.array("i", range(10)))[8:1:-3],
    "empty slice": lambda: memoryview(bytearray(10))[5:5],
    "three dimensions": multi,
    "ints": lambda: memoryview(bytearray(range(16))).cast("i", (2, 2)),
    "no dimension": lambda: memoryview(bytearray(8)).cast("d", ()),
    "booleans": lambda: memoryview(bytearray([0, 1])).cast("?"),
    "characters of C": lambda: memoryview(b"abc").cast("c"),
}


class Structure(ctypes.Structure):
    _fields_ = [("a", ctypes.c_int), ("b", ctypes.c_double)]


@pytest.mark.parametrize("kind", VIEWS)
def test_a_view_arrives_with_its_layout(way, kind):
    view = VIEWS[kind]()
    got = way(view)
    assert type(got) is memoryview
    for name in ("format", "itemsize", "ndim", "shape", "strides", "readonly", "nbytes",
                 "contiguous", "c_contiguous", "f_contiguous", "suboffsets"):
        assert getattr(got, name) == getattr(view, name), name
    assert got.tobytes() == view.tobytes()
    if view.ndim == 1 and view == view[:]:  # a format that memoryview knows
        assert got == view
    if view.format in "bBiIdc?":
        assert got.tolist() == view.tolist()


def test_a_view_is_shared_and_not_copied(way, interp):
    data = bytearray(b"hello")
    view = way(memoryview(data))
    view[0] = ord("j")
    assert data == b"jello"
    data[1] = ord("u")
    assert bytes(view) == b"jullo"
    interp.call(lenders.write, view, 4, ord("y"))
    assert data == b"jully"
    interp.call(lenders.write, view[1:3], 0, ord("e"))
    assert data == b"jelly"
    interp.call(lenders.write, view[::-1], 0, ord("o"))
    assert data == b"jello"


def test_what_was_read_only_cannot_be_written(interp):
    data = bytearray(b"abc")
    for view in (memoryview(b"abc"), memoryview(data).toreadonly()):
        with pytest.raises(atoll.ExecutionFailed, match="read-only"):
            interp.call(lenders.write, view, 0, 1)
    assert data == b"abc"


def test_views_inside_other_objects(way):
    data, other = bytearray(100), bytearray(5)
    got = way([{"a": memoryview(data)}, (memoryview(other),), workers.Point(memoryview(data))])
    got[0]["a"][0] = 1
    got[1][0][0] = 2
    assert (data[0], other[0]) == (1, 2)
    assert got[2].x[0] == 1


@pytest.mark.alone
def test_the_size_of_a_view_costs_nothing(queue):
    """Neither memory nor time: nobody touches the pages."""
    data = bytearray(1 << 30)  # of zero pages, which nobody has touched
    before = rss_kib()
    start = time.perf_counter()
    for _ in range(100):
        queue.put(memoryview(data))
        queue.get().release()
    assert time.perf_counter() - start < 1
    assert rss_kib() - before < 50_000


# --------------------------------------------------------------------- coming back


def test_lent_memory_cannot_be_resized_until_it_is_back(queue):
    data = bytearray(100)
    queue.put(memoryview(data))
    assert not can_grow(data)
    view = queue.get()
    assert not can_grow(data)
    view.release()
    until(lambda: can_grow(data))


def test_the_death_of_the_last_view_is_enough(queue):
    data = bytearray(100)
    queue.put(memoryview(data))
    view = queue.get()
    part = view[10:20]
    del view
    gc.collect()
    assert not can_grow(data)
    del part
    until(lambda: can_grow(data))


def test_a_view_that_another_interpreter_holds(interp, queue):
    data = bytearray(100)
    queue.put(memoryview(data))
    interp.call(lenders.hold, queue)
    assert not can_grow(data)
    interp.call(lenders.let_go)
    until(lambda: can_grow(data))


def test_an_argument_comes_back_when_the_call_is_over(interp):
    data = bytearray(b"abc")
    assert interp.call(lenders.read, memoryview(data)) == b"abc"
    until(lambda: can_grow(data))
    with pytest.raises(atoll.ExecutionFailed):
        interp.call(workers.fail, memoryview(data), "x")
    gc.collect()
    until(lambda: can_grow(data))


def test_a_view_lent_to_many_comes_back_after_the_last(queue):
    data = bytearray(100)
    interps = [atoll.create() for _ in range(3)]
    for interp in interps:
        queue.put(memoryview(data))
        interp.call(lenders.hold, queue)
    for interp in interps:
        assert not can_grow(data)
        interp.call(lenders.let_go)
    until(lambda: can_grow(data))
    for interp in interps:
        interp.close()


def test_a_view_that_is_passed_on(queue):
    """Main lends to the first, that to the second; the first is closed."""
    data = bytearray(b"abc")
    first, second = atoll.create(), atoll.create()
    view = first.call(workers.give, memoryview(data))
    queue.put(second.call(workers.give, view))
    view.release()
    second.call(lenders.hold, queue)
    first.close()
    assert not can_grow(data)
    assert second.call(lambda: bytes(__import__("lenders").held[0])) == b"abc"
    second.call(lenders.let_go)
    until(lambda: can_grow(data))
    second.close()


@pytest.mark.parametrize("end", ["drop", "close the receiver", "full", "not sendable"])
def test_a_view_that_is_not_received_comes_back(end):
    data = bytearray(100)
    queue = atoll.create_queue(1)
    if end == "full":
        queue.put(1)
        with pytest.raises(atoll.QueueFull):
            queue.put(memoryview(data), timeout=0.01)
    elif end == "not sendable":
        with pytest.raises(atoll.NotShareableError):
            queue.put([memoryview(data), (n for n in ())])
    elif end == "drop":
        queue.put([memoryview(data), memoryview(data)])
        assert not can_grow(data)
        del queue
    else:
        with atoll.create() as interp:
            queue.put(memoryview(data))
            interp.call(lenders.hold, queue)
            assert not can_grow(data)
    gc.collect()
    until(lambda: can_grow(data))


def test_it_comes_back_in_the_interpreter_of_its_owner(interp, queue):
    released = atoll.create_queue()
    interp.call(lenders.lend, queue, released)
    view = queue.get()
    assert bytes(view) == b"x" * 100
    assert released.empty()
    view.release()
    assert released.get(timeout=SLACK) == ("released", interp.id)
    assert released.empty()


def test_main_s_memory_comes_back_in_main(interp, queue):
    released = atoll.create_queue()
    lenders.lend(queue, released)
    interp.call(lenders.take_and_drop, queue, 1)
    assert released.get(timeout=SLACK) == ("released", 0)


def test_a_main_that_waits_gets_its_memory_back_meanwhile(interp, queue):
    """It waits for the very word that its own __release_buffer__ says."""
    released, go = atoll.create_queue(), atoll.create_queue()
    lenders.lend(queue, released)
    task = Task(interp.call, lenders.hold_then_release, queue, go)
    go.put("go")
    assert released.get(timeout=SLACK) == ("released", 0)
    task.result()


BLOCKED = ["read", "sleep", "get", "lock", "run"]


@pytest.mark.alone
@pytest.mark.parametrize("how", BLOCKED)
def test_an_owner_that_is_blocked_gets_its_memory_back(interp, queue, how):
    released, other = atoll.create_queue(), atoll.create_queue()
    r, w = os.pipe()
    argument = {"read": r, "sleep": 1.5}.get(how, other)
    task = Task(interp.call, getattr(lenders, f"lend_and_{how}"), queue, released, argument)
    view = queue.get(timeout=SLACK)
    start = time.monotonic()
    view.release()
    assert released.get(timeout=SLACK) == ("released", interp.id)
    if how == "sleep":
        assert time.monotonic() - start < 1.2
    assert task.is_alive() or how == "sleep"
    os.write(w, b"x")
    other.put("go on")
    task.result()
    os.close(r)
    os.close(w)


def test_thousands_that_come_back_at_once(interp, queue):
    """CPython's own way forgets all but 300 of them."""
    count = 5_000 * STRESS
    released, go = atoll.create_queue(), atoll.create_queue()
    interp.call(lenders.lend_many, queue, released, count)
    task = Task(interp.call, go.get)
    views = [queue.get() for _ in range(count)]
    views.clear()
    for _ in range(count):
        assert released.get(timeout=SLACK) == ("released", interp.id)
    assert released.empty()
    go.put(None)
    task.result()


def test_an_owner_that_is_closed_leaves_its_memory_valid(queue):
    released = atoll.create_queue()
    interp = atoll.create()
    interp.call(lenders.lend, queue, released, 1_000_000)
    view = queue.get()
    interp.close()
    for _ in range(3):
        with atoll.create() as other:
            other.call(lenders.write, view, 0, 7)
    assert view[0] == 7
    assert bytes(view[1:]) == b"x" * 999_999
    view.release()
    gc.collect()


def test_an_owner_may_be_closed_while_the_view_is_on_its_way(queue):
    with atoll.create() as interp:
        interp.call(lenders.lend, queue, atoll.create_queue(), 5000)
    with atoll.create() as interp:
        assert interp.call(lenders.read, queue.get()) == b"x" * 5000


@pytest.mark.parametrize(
    "code", ["keep = q.get()", "x = [q.get()]; x.append(x); del x", "q.put(q.get())"]
)
def test_an_owner_that_has_a_view_of_its_own_memory_ends(code):
    """It waits at its end for what others have, and not for what goes with it."""
    with atoll.create() as interp:
        id = interp.id
        interp.exec("import atoll; q = atoll.create_queue()")
        interp.exec("q.put(memoryview(bytearray(800)))")
        interp.exec(code)
    until(lambda: atoll._core._find_home(id, True) is None)


def test_a_view_that_has_come_back_is_the_same_memory(queue):
    owner = bytearray(b"abcdef")
    queue.put(memoryview(owner)[1::2])
    view = queue.get()
    owner[1] = ord("x")
    assert bytes(view) == b"xdf"
    with pytest.raises(BufferError):
        owner.append(0)
    queue.put(view)
    again = queue.get()
    del view
    again[0] = ord("y")
    assert owner == b"aycdef"
    again.release()
    gc.collect()
    owner.append(0)


def test_closed_owners_leave_no_memory_behind():
    def round():
        queue = atoll.create_queue()
        interp = atoll.create()
        interp.call(lenders.lend, queue, atoll.create_queue(), 10_000_000)
        view = queue.get()
        interp.close()
        assert view[9_999_999] == ord("x")
        view.release()
        gc.collect()
        return rss_kib()

    for _ in range(3):
        round()
    before = round()
    after = min(round() for _ in range(8))
    assert after - before < 20_000


def test_the_way_back_of_a_view_may_raise(interp, capfd):
    """The owner's own code: it is reported there, and nobody else is hurt."""
    queue = atoll.create_queue()
    interp.prepare_main(queue=queue)
    interp.exec(
        "class Bad:\n"
        "    def __buffer__(self, flags): return memoryview(b'abc')\n"
        "    def __release_buffer__(self, view): raise LookupError('in release')\n"
        "queue.put(memoryview(Bad()))"
    )
    queue.get().release()
    assert interp.call(workers.give, 5) == 5
    gc.collect()


LENT = "a.call(lenders.lend, q, r); b.call(lenders.hold, q)"


def test_processes_end_with_memory_still_lent():
    for code in (
        *[LENT] * 6,  # by one interpreter to another: it depends on who is closed first
        "q.put(memoryview(bytearray(100)))",
        "keep = (q.put(memoryview(bytearray(100))), q.get())",
        "a.call(lenders.lend, q, r); keep = q.get()",
        "a.call(lenders.lend, q, r)",
        "q.put(memoryview(data)); a.call(lenders.hold, q)",
        "q.put(memoryview(lenders.Lender(data, r))); a.call(lenders.hold, q)",
        f"{LENT}; a.close()",
        f"{LENT}; b.close()",
        "a.call(lenders.lend, q, r); keep = q.get(); a.close(); keep.release()",
    ):
        out = check_python(
            "import atoll, lenders\n"
            "q, r = atoll.create_queue(), atoll.create_queue()\n"
            "a, b = atoll.create(), atoll.create()\n"
            f"data = bytearray(1000)\n{code}\nprint('end')\n"
        )
        assert out == "end"


# ------------------------------------------------------------- share, send_buffer


def test_share_gives_a_view_that_may_be_sent(interp):
    data = bytearray(b"abc")
    view = atoll.share(data)
    assert type(view) is memoryview
    interp.call(lenders.write, view, 0, ord("x"))
    assert data == b"xbc"
    numbers = array.array("d", [1, 2])
    interp.call(lenders.write, atoll.share(numbers), 1, 5.5)
    assert numbers[1] == 5.5
    assert atoll.share(b"abc").readonly
    assert atoll.share(multi()).shape == (2, 3, 4)
    view.release()
    until(lambda: can_grow(data))


@pytest.mark.parametrize("obj", [5, "text", [1], None])
def test_share_and_send_buffer_want_a_buffer(obj):
    with pytest.raises(TypeError):
        atoll.share(obj)
    _recv, send = atoll.create_channel(1)
    with pytest.raises(TypeError):
        send.send_buffer(obj)


def test_send_buffer_lends_what_send_would_copy():
    recv, send = atoll.create_channel(2)
    data = bytearray(b"abc")
    send.send(data)
    send.send_buffer(data)
    copy, view = recv.recv(), recv.recv()
    data[0] = ord("x")
    assert copy == b"abc"
    assert type(view) is memoryview
    assert view == b"xbc"
    view.release()
    until(lambda: can_grow(data))
    send.send_buffer(b"bytes")
    got = recv.recv()
    assert got.readonly
    assert got == b"bytes"


def test_send_buffer_waits_like_send():
    recv, send = atoll.create_channel(1)
    data = bytearray(100)
    send.send_buffer(data)
    with pytest.raises(atoll.ChannelTimeout):
        send.send_buffer(data, timeout=0.01)
    with pytest.raises(atoll.ChannelError):
        send.send_buffer(data, timeout=0)
    with pytest.raises(ValueError):
        send.send_buffer(data, timeout=-1)
    task = Task(send.send_buffer, data)
    recv.recv().release()
    recv.recv().release()
    task.result()
    until(lambda: can_grow(data))
    recv.close()
    with pytest.raises(atoll.ChannelClosed):
        send.send_buffer(data)
    until(lambda: can_grow(data))


def test_a_released_view_cannot_be_sent(queue):
    view = memoryview(bytearray(5))
    view.release()
    with pytest.raises((ValueError, atoll.NotShareableError)):
        queue.put([view])
    assert queue.empty()


def test_lending_leaks_nothing(queue, interp):
    data = bytearray(1000)

    def round():
        for _ in range(2000):
            queue.put(memoryview(data))
            queue.get()
        for _ in range(100):
            interp.call(lenders.read, memoryview(data))
        gc.collect()
        return rss_kib()

    round()
    before, refs, fds = round(), sys.getrefcount(data), count_fds()
    after = min(round() for _ in range(3))
    assert after - before < 300
    until(lambda: sys.getrefcount(data) == refs)
    assert count_fds() == fds
