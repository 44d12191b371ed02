"""Counters and cells."""

import atoll
import pytest
import sharers
from support import STRESS, Task
from workers import Point


@pytest.fixture
def pair():
    with atoll.create() as a, atoll.create() as b:
        yield a, b


def test_counter():
    counter = atoll.Counter()
    assert counter.value == 0
    assert counter.add() == 1
    assert counter.add(n=10) == 11
    assert counter.sub(4) == counter.value == 7
    assert counter.sub() == 6
    assert counter.compare_and_set(6, -1)
    assert not counter.compare_and_set(expected=6, new=2)
    assert counter.value == -1
    assert "value=-1" in repr(counter)


def test_counter_has_64_bits():
    counter = atoll.Counter(2**63 - 1)
    for change in (counter.add, lambda: counter.sub(-1), lambda: counter.add(2**63)):
        with pytest.raises(OverflowError):
            change()
    assert counter.value == 2**63 - 1
    assert counter.compare_and_set(2**63 - 1, -(2**63))
    with pytest.raises(OverflowError):
        counter.sub()
    with pytest.raises(OverflowError):
        counter.sub(-(2**63))
    with pytest.raises(OverflowError):
        atoll.Counter(2**63)


def test_counter_between_interpreters(pair):
    counter, times = atoll.Counter(), 5000 * STRESS
    tasks = [Task(i.call, sharers.count_many, counter, times) for i in pair]
    sharers.count_many(counter, times)
    for task in tasks:
        task.result(60)
    assert counter.value == 6 * times


def test_cell_holds_copies(interp):
    value = {"a": [1, Point(1, 2)]}
    cell = atoll.Cell(value)
    value["a"].append("changed")
    mine = cell.load()
    assert mine == {"a": [1, Point(1, 2)]}
    mine["a"].clear()
    assert interp.call(cell.load) == {"a": [1, Point(1, 2)]}
    assert interp.call(cell.swap, "other") == {"a": [1, Point(1, 2)]}
    assert cell.load() == "other"
    interp.call(cell.store, 2**100)
    assert cell.load() == 2**100


@pytest.mark.parametrize(
    "value", [None, 5, 1.5, "x" * 100_000, b"y" * 3_000_000, [1, "two", (3.0,)]]
)
def test_every_form_is_loaded_again_and_again(value, interp):
    cell = atoll.Cell(value)
    for _ in range(3):
        assert cell.load() == value
        assert interp.call(cell.load) == value
        assert cell.swap(value) == value


def test_compare_and_set():
    cell = atoll.Cell(1)
    assert not cell.compare_and_set(2, "no")
    assert not cell.compare_and_set(True, "no")  # equal, but another type
    assert not cell.compare_and_set(1.0, "no")
    assert cell.compare_and_set(1, [1, 2])
    assert cell.compare_and_set([1, 2], Point(1, [2]))
    assert cell.compare_and_set(expected=Point(1, [2]), new=float("nan"))
    assert not cell.compare_and_set(float("nan"), "no")
    with pytest.raises(atoll.NotShareableError):
        cell.compare_and_set(0, (i for i in ()))


class Rude:
    def __init__(self, value):
        self.value = value

    def __eq__(self, other):
        if self.value == "raise":
            raise ValueError("rude")
        if self.value == "store":
            cells.pop().store(Rude("again"))
        return self.value == other.value

    __hash__ = None


cells = []


def test_comparison_may_do_anything():
    cell = atoll.Cell(Rude("raise"))
    with pytest.raises(ValueError, match="rude"):
        cell.compare_and_set(Rude("raise"), 1)
    cell.store(Rude("store"))
    cells.append(cell)
    assert not cell.compare_and_set(Rude("store"), 1)  # it was changed meanwhile
    assert cell.load().value == "again"


def test_cas_between_interpreters(pair):
    cell, times = atoll.Cell(0), 300 * STRESS
    tasks = [Task(i.call, sharers.cas_many, cell, times) for i in pair]
    sharers.cas_many(cell, times)
    for task in tasks:
        task.result(60)
    assert cell.load() == 3 * times


def test_what_can_be_had_once_is_refused():
    cell = atoll.Cell(0)
    data = bytearray(b"x" * 100_000)
    with pytest.raises(atoll.NotShareableError, match="move"):
        cell.store(atoll.move(data))
    with pytest.raises(atoll.NotShareableError, match="move"):
        atoll.Cell([atoll.move(bytearray(5000))])
    with pytest.raises(atoll.NotShareableError):
        cell.store(i for i in ())
    assert cell.load() == 0


def test_handles_inside_stay_alive(interp):
    before = atoll.stats()["channels"]
    cell = atoll.Cell(atoll.create_queue())
    assert atoll.stats()["channels"] == before + 1
    interp.call(cell.load().put, "item")
    assert cell.load().get_nowait() == "item"
    recv, send = atoll.create_channel(3)
    cell.store({"send": send})
    del send
    assert not recv.is_closed
    cell.load()["send"].send(1)
    cell.store(None)
    assert recv.is_closed
    assert list(recv) == [1]
    assert atoll.Cell(memoryview(b"shared")).load() == b"shared"


def test_readers_and_writers_at_once(pair):
    cell = atoll.Cell([0] * 1000)

    def write(times):
        for n in range(times):
            cell.store([n] * 1000)

    def read(times):
        for _ in range(times):
            (value,) = set(cell.load())
            assert isinstance(value, int)

    tasks = [Task(i.call, read, 300) for i in pair] + [Task(write, 300), Task(read, 300)]
    for task in tasks:
        task.result(60)
