"""Which tests go together, and when."""

import random

import pytest
from atoll._pytest.carry import pack_warning, plain, unpack_warning
from atoll._pytest.schedule import Schedule, units

IDS = ["a.py::C::test[x::y]", "a.py::C::other", "a.py::test", "b.py::test"]


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("load", [[0], [1], [2], [3]]),
        ("loadfile", [[0, 1, 2], [3]]),
        ("loadscope", [[0, 1], [2], [3]]),
        ("loadgroup", [[0, 3], [1], [2]]),
    ],
)
def test_what_stays_together(how, expected):
    assert units(how, IDS, {0: "g", 3: "g"}, ()) == expected


def test_without_those_of_main():
    assert units("loadfile", IDS, {}, [1, 3]) == [[0, 2]]


def test_each_test_is_given_once_and_batches_shrink():
    schedule = Schedule([[n] for n in range(100)], 2)
    sizes, seen = [], []
    while (batch := schedule.take(1)) is not None:
        sizes.append(len(batch))
        seen += batch
    assert seen == list(range(100))
    assert sizes[0] == 12 and sizes[-1] == 1
    assert sizes == sorted(sizes, reverse=True)


def test_what_a_lost_worker_has_not_run_is_for_others():
    chance = random.Random(1)
    schedule = Schedule([[n] for n in range(200)], 3)
    held = {1: [], 2: [], 3: []}
    ran = []
    while not schedule.is_done():
        worker = chance.choice(list(held))
        if not held[worker]:
            held[worker] = schedule.take(worker) or []
        elif chance.random() < 0.05:
            schedule.give_back(worker)
            held[worker] = []
        else:
            number = held[worker].pop(0)
            schedule.done(worker, number)
            ran.append(number)
    assert sorted(ran) == list(range(200))
    assert schedule.is_empty()


class Odd(str):
    pass


def test_only_plain_data_crosses():
    data = {"a": (1, [None, 2.5]), Odd("b"): {Odd("c")}, "d": random}
    made = plain(data)
    assert made == {"a": (1, [None, 2.5]), "b": ["c"], "d": repr(random)}
    assert all(type(key) is str for key in made)
    assert type(made["b"][0]) is str


class Needy(Warning):
    def __init__(self, one, two):
        super().__init__(one, two)


@pytest.mark.parametrize("warning", [UserWarning("careful"), Needy(1, 2)], ids=repr)
def test_warnings_are_described(warning):
    with pytest.warns(Warning) as caught:
        import warnings

        warnings.warn(warning, stacklevel=1)
    again = unpack_warning(pack_warning(caught[0]))
    assert str(again.message) == str(warning)
    assert again.category.__name__ == type(warning).__name__
    assert (again.filename, again.lineno) == (caught[0].filename, caught[0].lineno)
