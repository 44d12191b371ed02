"""Uses of atoll whose types are right: what type checkers make of each is asserted.

tools/check_types.py has mypy and pyright look at them; tests/py/package/test_types.py runs
them, with an assert_type() that looks at the objects, so that the types are true as well.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from array import array
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, assert_type

import atoll
from atoll import (
    Cell,
    Frozen,
    FrozenElement,
    Future,
    InterpreterPoolExecutor,
    Moved,
    Pipeline,
    Queue,
    RecvChannel,
    SendChannel,
    Task,
)


def words(text: str, least: int = 1) -> list[str]:
    return [word for word in text.split() if len(word) >= least]


def half(number: int) -> float:
    return number / 2


def add(a: int, b: int) -> int:
    return a + b


def label(number: int, mark: str, scale: float) -> str:
    return f"{mark}{number * scale:g}"


def scaled(number: int, *, by: float = 1.0) -> float:
    return number * by


def four(number: int, mark: str, scale: float, rest: bytes) -> bytes:
    return label(number, mark, scale).encode() + rest


def nothing() -> None:
    pass


def first[T](items: list[T]) -> T:
    return items[0]


async def later(number: int) -> str:
    await asyncio.sleep(0)
    return str(number)


async def both(a: int, b: str) -> tuple[int, str]:
    return a, b


class Account:
    def __init__(self, owner: str) -> None:
        self.owner = owner

    def greet(self, words: int) -> str:
        return " ".join([self.owner] * words)


def limited[T](pool: InterpreterPoolExecutor, fn: Callable[..., T], *args: Any) -> T:
    """As in a program that passes on whatever it is given."""
    return pool.submit_with(fn, args, timeout=60).result()


def use_submit() -> None:
    with InterpreterPoolExecutor(1) as pool:
        assert_type(pool, InterpreterPoolExecutor)
        future = pool.submit(words, "a bc", least=2)
        assert_type(future, Future[list[str]])
        assert_type(future.result(), list[str])
        assert_type(future.exception(), BaseException | None)
        assert_type(pool.submit(words, "a").result(timeout=60)[0], str)
        assert_type(pool.submit(later, 1), Future[str])
        assert_type(pool.submit(later, 1).result(), str)
        assert_type(pool.submit(nothing), Future[None])
        assert_type(pool.submit(Account, "Ada").result().greet(2), str)
        assert_type(pool.submit(Account("Ada").greet, 2), Future[str])
        assert_type(pool.submit(partial(words, "a bc"), least=2).result(), list[str])
        assert_type(pool.submit(lambda: 1.5).result(), float)
        assert_type(pool.submit(first, [1, 2]).result(), int)
        assert_type(pool.submit(len, "abc").result(), int)
        assert_type(pool.submit(sorted, [2, 1]).result(), list[int])


def use_standard_functions() -> None:
    with InterpreterPoolExecutor(1) as pool:
        executor: concurrent.futures.Executor = pool
        assert_type(executor.submit(half, 3).result(), float)
        standard: concurrent.futures.Future[float] = pool.submit(half, 3)
        for future in concurrent.futures.as_completed([pool.submit(half, 3)]):
            assert_type(future.result(), float)
        done, _ = concurrent.futures.wait([standard])
        assert_type(done.pop().result(), float)
        seen: list[float] = []
        pool.submit(half, 3).add_done_callback(lambda future: seen.append(future.result()))


def use_submit_with() -> None:
    with InterpreterPoolExecutor(1) as pool:
        assert_type(pool.submit_with(nothing), Future[None])
        assert_type(pool.submit_with(half, (3,), timeout=60), Future[float])
        assert_type(pool.submit_with(words, ("a b",)).result(), list[str])
        assert_type(pool.submit_with(words, ("a b", 1)).result(), list[str])
        assert_type(pool.submit_with(words, ("a",), {"least": 1}), Future[list[str]])
        assert_type(pool.submit_with(words, kwargs={"text": "a"}), Future[list[str]])
        assert_type(pool.submit_with(add, [1, 2]).result(), int)
        assert_type(pool.submit_with(add, iter((1, 2))).result(), int)
        assert_type(pool.submit_with(later, (1,)), Future[str])
        assert_type(pool.submit_with(later, (), {"number": 1}).result(), str)
        assert_type(limited(pool, half, 3), float)


def use_map() -> None:
    with InterpreterPoolExecutor(1) as pool:
        assert_type(pool.map(half, [1, 2]), Iterator[float])
        assert_type(list(pool.map(half, range(3), chunksize=2)), list[float])
        assert_type(next(pool.map(add, [1], [2], timeout=60)), int)
        assert_type(next(pool.map(label, [1], ["x"], [2.0], buffersize=1)), str)
        assert_type(next(pool.map(four, [1], ["x"], [2.0], [b""])), bytes)
        assert_type(next(pool.map(later, [1, 2])), str)
        assert_type(list(pool.map(later, [1, 2], chunksize=2)), list[str])
        assert_type(next(pool.map(both, [1], ["x"])), tuple[int, str])
        assert_type(next(pool.map(str, [1, 2])), str)
        assert_type(next(pool.map(lambda number: number * 2, [1, 2])), int)
        assert_type(next(pool.map(words, ["a b"])), list[str])


def use_interpreters() -> None:
    with atoll.create() as interp:
        assert_type(interp.call(words, "a bc", least=2), list[str])
        assert_type(interp.call(nothing), None)
        assert_type(interp.submit(half, 3), Task[float])
        assert_type(interp.submit(later, 3).result(), str)
        interp.call_in_thread(add, 1, b=2).join()
        interp.prepare_main({"x": 1}, y=2)
        interp.exec(nothing)
        assert_type(interp.close(timeout=60), None)


def use_tasks() -> None:
    assert_type(atoll.spawn(add, 1, b=2), Task[int])
    assert_type(atoll.spawn(later, 3).result(), str)
    with atoll.TaskGroup() as group:
        task = group.spawn(half, 3)
        assert_type(task, Task[float])
        assert_type(group.start(Task(later, (3,))), Task[str])
    assert_type(task.result(), float)
    assert_type(Task(words, ("a",), {"least": 1}).start(), Task[list[str]])
    task = Task(half, [3], name="t", timeout=60, preload=["json"], grace=None, follow=False)
    assert_type(task.start().result(), float)
    future: Future[int] = atoll.spawn(add, 1, 2)
    assert_type(future.result(), int)


async def use_coroutines() -> None:
    with InterpreterPoolExecutor(1) as pool:
        assert_type(await pool.submit(half, 3), float)
        assert_type(await pool.submit(later, 3), str)
        assert_type(await asyncio.wrap_future(pool.submit(half, 3)), float)
    async with atoll.TaskGroup() as group:
        task = group.spawn(later, 3)
    assert_type(await task, str)
    queue: Queue[int] = atoll.create_queue()
    await queue.put_async(1)
    assert_type(await queue.get_async(), int)
    recv, send = numbers()
    await send.send_async(1)
    assert_type(await recv.recv_async(), int)
    await send.send_async(2)
    send.close()
    async for number in recv:
        assert_type(number, int)


def numbers() -> tuple[RecvChannel[int], SendChannel[int]]:
    return atoll.create_channel(4)


def send_flag(send: SendChannel[bool]) -> None:
    """What takes an int takes a bool."""
    send.send(True)


def receive_any(recv: RecvChannel[float]) -> float:
    """What gives an int gives a float."""
    return recv.recv()


def use_queues_and_channels() -> None:
    queue: Queue[list[int]] = atoll.create_queue()
    queue.put([1])
    queue.put([2], timeout=1)
    assert_type(queue.get(), list[int])
    assert_type(queue.get_nowait(), list[int])
    recv, send = numbers()
    send.send(1)
    send.send_nowait(2)
    assert_type(recv.recv(timeout=60), int)
    assert_type(recv.recv_nowait("x"), int | str)
    assert_type(recv.recv_nowait(None), int | None)
    send_flag(send)
    assert_type(receive_any(recv), float)
    send.send(3)
    send.close()
    assert_type(list(atoll.fan_in(recv)), list[int])
    assert_type(atoll.after(0.001).recv(), float)
    ticks = atoll.ticker(0.001)
    assert_type(ticks, RecvChannel[float])
    ticks.close()


def use_pipelines() -> None:
    with atoll.pipeline(["a bc", "d"], words) as results:
        assert_type(results, Pipeline[list[str]])
        for result in results:
            assert_type(result, list[str])
    with atoll.pipeline(range(3), (half, 2), str, len, ordered=False) as lengths:
        assert_type(lengths, Pipeline[int])
        assert_type(list(lengths), list[int])
    queue: Queue[int] = atoll.create_queue()
    queue.put(1)
    queue.shutdown()
    assert_type(list(atoll.pipeline(queue, half, capacity=1)), list[float])
    recv, send = numbers()
    send.send(1)
    send.close()
    assert_type(next(atoll.pipeline(recv, half, str, name="p")), str)


def use_what_is_shared() -> None:
    cell = Cell(3)
    assert_type(cell, Cell[int])
    assert_type(cell.swap(4), int)
    assert_type(cell.compare_and_set(4, 5), bool)
    frozen: Frozen[tuple[int, ...]] = atoll.freeze([1, 2])
    assert_type(frozen.get(), tuple[int, ...])
    tree = atoll.frozen_xml(b"<a><b/></a>")
    assert_type(tree, Frozen[FrozenElement])
    assert_type(tree.get().find("b"), FrozenElement | None)
    assert_type(atoll.move(bytearray(1000)), Moved[bytearray])
    assert_type(atoll.move(bytearray(1000)).take(), bytearray)
    assert_type(atoll.move(array("i", [1])).take(), "array[int]")
    assert_type(atoll.share(b"abc"), memoryview)
    assert_type(atoll.Condition().wait_for(lambda: 3), int)
    with atoll.Lock() as held:
        assert_type(held, bool)


def reduce_account(account: Account) -> str:
    return account.owner


def use_registers() -> None:
    atoll.register(Account, reduce_account, Account)
    assert_type(atoll.list_all(), list[atoll.Interpreter])
