"""Classes that say in annotations what they carry."""

import pickle
from types import GenericAlias

import atoll
import pytest


@pytest.mark.parametrize(
    "cls",
    [atoll.Queue, atoll.RecvChannel, atoll.SendChannel, atoll.Cell, atoll.Frozen, atoll.Future,
     atoll.Task, atoll.Pipeline, atoll.Moved],
)  # fmt: skip
def test_they_can_be_subscribed(cls, interp):
    alias = cls[int]
    assert isinstance(alias, GenericAlias)
    assert (alias.__origin__, alias.__args__) == (cls, (int,))
    assert repr(alias) == f"{cls.__module__}.{cls.__qualname__}[int]"
    assert pickle.loads(pickle.dumps(alias)) == alias
    assert interp.call(lambda: alias.__args__) == (int,)


def test_the_alias_makes_one():
    assert atoll.Cell[int](3).load() == 3
