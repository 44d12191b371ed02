"""Arrays that interpreters share: one memory, seen by the NumPy of each."""

import atoll
import pytest

numpy = pytest.importorskip("numpy")


def double(view, address):
    import numpy

    array = numpy.frombuffer(view, dtype="f8").reshape(view.shape)
    assert array.ctypes.data == address, "a copy"
    array *= 2
    return type(array).__module__, id(type(array)), float(array.sum())


def test_an_array_is_worked_on_where_it_is():
    array = numpy.arange(12.0).reshape(3, 4)
    with atoll.create() as a, atoll.create() as b:
        first = a.call(double, atoll.share(array), array.ctypes.data)
        second = b.call(double, atoll.share(array), array.ctypes.data)
    assert first[2] == 132 and second[2] == 264 and array.sum() == 264
    assert len({first[1], second[1], id(numpy.ndarray)}) == 3, "classes of their own"


def test_arrays_arrive_as_those_of_the_receiver():
    array = numpy.arange(1000, dtype="i4")
    with atoll.create() as interp:
        back = interp.call(lambda x: x + 1, array)
        assert type(back) is numpy.ndarray and back.dtype == array.dtype
        assert (back == array + 1).all()
