"""What cannot be sent or rebuilt: an error that says what and where, and no more."""

import asyncio
import ctypes
import gc
import importlib
import os
import re
import sqlite3
import sys
import threading
import weakref

import atoll
import pytest
import workers
from awkward import Holder, Refusing, Slotted
from sendable import Node, Plain
from support import HERE

# ------------------------------------------------------------------ the message


async def coroutine():
    pass


def closed_file():
    file = open(os.devnull)
    file.close()
    return file


def _traceback():
    try:
        raise ValueError
    except ValueError as exc:
        return exc.__traceback__


def _capsule():
    import datetime

    return datetime.datetime_CAPI if hasattr(datetime, "datetime_CAPI") else _traceback()


UNSENDABLE = {
    "generator": lambda: (n for n in ()),
    "lock": threading.Lock,
    "rlock": threading.RLock,
    "frame": sys._getframe,
    "coroutine": coroutine,
    "closed file": closed_file,
    "ctypes pointer": lambda: ctypes.pointer(ctypes.c_int(5)),
    "thread": threading.Thread,
    "event": threading.Event,
    "weak reference": lambda: weakref.ref(Node),
    "event loop": asyncio.new_event_loop,
    "traceback": _traceback,
    "capsule": _capsule,
    "database": lambda: sqlite3.connect(":memory:"),
    "iterator of a file": lambda: os.scandir(HERE),
    "refusing": Refusing,
}


@pytest.mark.parametrize("kind", UNSENDABLE)
def test_what_cannot_be_sent_is_an_error_and_changes_nothing(kind):
    bad = UNSENDABLE[kind]()
    queue = atoll.create_queue(2)
    queue.put("before")
    for obj in (bad, [1, bad], {"k": (bad,)}, Node(1, bad)):
        with pytest.raises(atoll.NotShareableError) as info:
            queue.put(obj)
        assert str(info.value)
    assert queue.qsize() == 1
    assert queue.get() == "before"
    if hasattr(bad, "close"):
        bad.close()


GENERATOR = (n for n in ())


@pytest.mark.parametrize(
    ("make", "path"),
    [
        (lambda bad: {"jobs": [0, 1, 2, Holder(callback=bad)]}, "['jobs'][3].callback"),
        (lambda bad: [bad], "[0]"),
        (lambda bad: (1, (2, bad)), "[1][1]"),
        (lambda bad: {1: {"two": [bad]}}, "[1]['two'][0]"),
        (lambda bad: Plain(1, Plain(bad)), ".y.x"),
        (lambda bad: Slotted([bad]), ".inner[0]"),
        (lambda bad: [Holder(a=Holder(b=bad))], "[0].a.b"),
        (lambda bad: {(1, "a"): bad}, "[(1, 'a')]"),
    ],
)
def test_the_error_has_the_path(make, path, queue):
    obj = make(GENERATOR)
    with pytest.raises(atoll.NotShareableError) as info:
        queue.put(obj)
    assert f"at {path}: <generator object" in str(info.value)
    assert queue.empty()
    recv, send = atoll.create_channel(3)
    with pytest.raises(atoll.NotShareableError, match=re.escape(path)):
        send.send(obj)
    assert recv.recv_nowait(None) is None


def test_the_path_of_an_argument_and_of_a_result(interp):
    with pytest.raises(atoll.NotShareableError, match=r"\['jobs'\]\[1\]"):
        interp.call(workers.give, {"jobs": [0, GENERATOR]})
    with pytest.raises(atoll.NotShareableError, match=r"\['x'\]"):
        interp.call(lambda: {"x": (n for n in ())})
    assert interp.call(workers.give, 5) == 5


def test_a_member_of_a_set_is_named(queue):
    lock = threading.Lock()
    for obj in ([{lock}], [frozenset([lock])], [{lock: 1}]):
        with pytest.raises(atoll.NotShareableError, match=r"at \[0\].*lock"):
            queue.put(obj)


def test_the_first_bad_part_is_named_and_a_long_path_is_bearable(queue):
    deep = GENERATOR
    for _ in range(100):
        deep = [deep]
    with pytest.raises(atoll.NotShareableError, match="generator object"):
        queue.put(deep)
    with pytest.raises(atoll.NotShareableError) as info:
        queue.put({"k" * 100_000: GENERATOR})
    assert len(str(info.value)) < 10_000


def test_what_could_not_be_sent_is_let_go(queue):
    node = Node(1)
    ref = weakref.ref(node)
    with pytest.raises(atoll.NotShareableError) as info:
        queue.put([node, bytearray(1000), GENERATOR])
    del node, info
    gc.collect()
    assert ref() is None


# ---------------------------------------------------------- types that are missing


@pytest.fixture
def only_here(tmp_path, monkeypatch):
    """A module that has been imported, and is not there any more."""
    file = tmp_path / "only_here.py"
    file.write_text("class Thing:\n    pass\ndef function(): pass")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    module = importlib.import_module("only_here")
    file.unlink()
    yield module
    del sys.modules["only_here"]


NOT_THERE = (ImportError, AttributeError, atoll.AtollError, atoll.NotShareableError)


def test_a_type_that_is_gone_is_named_and_the_next_message_arrives(queue, only_here):
    thing = only_here.Thing()
    for obj in (thing, [1, {"k": thing}], only_here.Thing, only_here.function):
        queue.put(obj)
        queue.put("next")
        del sys.modules["only_here"]
        with pytest.raises(NOT_THERE) as info:
            queue.get()
        sys.modules["only_here"] = only_here
        assert "only_here" in str(info.value)
        assert queue.get() == "next"


def test_a_type_that_has_left_its_module_is_named(queue, only_here, interp):
    queue.put([only_here.Thing()])
    queue.put("next")
    del only_here.Thing
    with pytest.raises(NOT_THERE, match="Thing") as info:
        queue.get()
    assert "only_here" in str(info.value)
    assert queue.get() == "next"


def test_a_type_that_another_interpreter_has_not(interp, only_here):
    thing = only_here.Thing()
    queue = atoll.create_queue()
    queue.put([1, thing])
    queue.put("next")
    with pytest.raises(atoll.ExecutionFailed) as info:
        interp.call(queue.get)
    assert "only_here" in str(info.value)
    assert "Thing" in str(info.value)
    assert interp.call(queue.get) == "next"
