"""Uses of atoll that are wrong, and that type checkers have to find.

At the end of each such line a comment says what is found: the codes of mypy, a bar, the
rules of pyright. tools/check_types.py compares: what is in a comment must be found, and
nothing else may be. Nothing here is run.
"""

# pyright: standard

from __future__ import annotations

import concurrent.futures

import atoll
from atoll import (
    Cell,
    Frozen,
    FrozenElement,
    Future,
    InterpreterPoolExecutor,
    Pipeline,
    Queue,
    RecvChannel,
    SendChannel,
    Task,
)
from right import Account, add, both, half, label, later, nothing, scaled, words


def submit(pool: InterpreterPoolExecutor) -> None:
    pool.submit(words)  # error: call-overload | reportCallIssue
    pool.submit(words, 1)  # error: call-overload | reportArgumentType, reportCallIssue
    pool.submit(words, "a", 1, 2)  # error: call-overload | reportCallIssue
    pool.submit(words, "a", most=2)  # error: arg-type, call-arg | reportCallIssue
    pool.submit(words, "a", least="2")  # error: arg-type | reportArgumentType, reportCallIssue
    pool.submit(later, "1")  # error: call-overload | reportArgumentType, reportCallIssue
    pool.submit(half(3))  # error: call-overload | reportArgumentType, reportCallIssue
    pool.submit(Account)  # error: call-overload | reportCallIssue
    pool.submit(Account("Ada").greet, "2")  # error: call-overload | reportArgumentType, reportCallIssue
    pool.submit(half, 3).result() + "x"  # error: operator | reportOperatorIssue, reportUnusedExpression
    pool.submit(half, 3).result("1")  # error: arg-type | reportArgumentType
    pool.submit(nothing).result().upper()  # error: attr-defined | reportAttributeAccessIssue
    text: Future[str] = pool.submit(half, 3)  # error: call-overload | reportAssignmentType
    coroutine: Future[int] = pool.submit(later, 3)  # error: call-overload | reportAssignmentType
    standard: concurrent.futures.Future[str] = pool.submit(half, 3)  # error: call-overload | reportAssignmentType
    pool.submit(half, 3).add_done_callback(words)  # error: arg-type | reportArgumentType
    del text, coroutine, standard


def submit_with(pool: InterpreterPoolExecutor) -> None:
    pool.submit_with(words, ("a", "b"))  # error: arg-type | reportArgumentType, reportCallIssue
    pool.submit_with(half, (1, 2))  # error: arg-type | reportArgumentType, reportCallIssue
    pool.submit_with(later, ("1",))  # error: arg-type | reportArgumentType, reportCallIssue
    pool.submit_with(half, 3)  # error: call-overload | reportArgumentType, reportCallIssue
    pool.submit_with(half, (3,), timeout="1")  # error: call-overload | reportArgumentType, reportCallIssue
    number: int = pool.submit_with(half, (3,)).result()  # error: assignment | reportAssignmentType
    named: str = pool.submit_with(scaled, (3,), {"by": 2.0}).result()  # error: assignment | reportAssignmentType
    del number, named


def map_(pool: InterpreterPoolExecutor) -> None:
    pool.map(half, ["1"])  # error: arg-type | reportArgumentType, reportCallIssue
    pool.map(half, 3)  # error: call-overload | reportArgumentType, reportCallIssue
    pool.map(half)  # error: call-overload | reportCallIssue
    pool.map(add, [1])  # error: arg-type | reportArgumentType, reportCallIssue
    pool.map(add, [1], ["2"])  # error: arg-type | reportArgumentType, reportCallIssue
    pool.map(label, [1], ["x"], ["y"])  # error: arg-type | reportArgumentType, reportCallIssue
    pool.map(later, ["1"])  # error: arg-type | reportArgumentType, reportCallIssue
    pool.map(both, [1], [2])  # error: arg-type | reportArgumentType, reportCallIssue
    pool.map(half, [1], chunksize="2")  # error: call-overload | reportArgumentType, reportCallIssue
    numbers: list[int] = list(pool.map(later, [1]))  # error: arg-type | reportAssignmentType
    del numbers


def executors() -> None:
    InterpreterPoolExecutor("4")  # error: arg-type | reportArgumentType
    InterpreterPoolExecutor(4, preload=3)  # error: arg-type | reportArgumentType
    InterpreterPoolExecutor(extensions="none")  # error: arg-type | reportArgumentType
    InterpreterPoolExecutor(workers=4)  # error: call-arg | reportCallIssue


def interpreters(interp: atoll.Interpreter) -> None:
    interp.call(words, 1)  # error: arg-type | reportArgumentType
    interp.call(add, 1)  # error: call-arg | reportCallIssue
    interp.submit(half, "3")  # error: call-overload | reportArgumentType, reportCallIssue
    interp.call_in_thread(add, 1, "2")  # error: arg-type | reportArgumentType
    interp.exec(3)  # error: arg-type | reportArgumentType
    text: str = interp.call(half, 3)  # error: assignment | reportAssignmentType
    atoll.create(1)  # error: arg-type | reportArgumentType
    atoll.create(extension="strict")  # error: call-arg | reportCallIssue
    del text


async def tasks(group: atoll.TaskGroup) -> None:
    atoll.spawn(add, 1)  # error: call-overload | reportCallIssue
    atoll.spawn(add, 1, 2, 3)  # error: call-overload | reportCallIssue
    atoll.spawn(later, "3")  # error: call-overload | reportArgumentType, reportCallIssue
    group.spawn(half, "3")  # error: call-overload | reportArgumentType, reportCallIssue
    group.start(half)  # error: arg-type | reportArgumentType
    Task(3)  # error: call-overload | reportArgumentType, reportCallIssue
    text: Task[str] = atoll.spawn(add, 1, 2)  # error: call-overload | reportAssignmentType
    number: int = await atoll.spawn(later, 3)  # error: call-overload | reportAssignmentType
    del text, number


def queues(queue: Queue[int], recv: RecvChannel[int], send: SendChannel[int]) -> None:
    queue.put("x")  # error: arg-type | reportArgumentType
    queue.put(1, unbounditems="keep")  # error: arg-type | reportArgumentType
    queue.get().upper()  # error: attr-defined | reportAttributeAccessIssue
    send.send("x")  # error: arg-type | reportArgumentType
    recv.send(1)  # error: attr-defined | reportAttributeAccessIssue
    text: str = recv.recv()  # error: assignment | reportAssignmentType
    strings: Queue[str] = queue  # error: assignment | reportAssignmentType
    for item in recv:
        item.upper()  # error: attr-defined | reportAttributeAccessIssue
    words(next(atoll.fan_in(recv)))  # error: arg-type | reportArgumentType
    atoll.create_queue("3")  # error: arg-type | reportArgumentType
    del text, strings


def pipelines(recv: RecvChannel[int]) -> None:
    atoll.pipeline(["a"], half)  # error: arg-type | reportArgumentType
    atoll.pipeline([1], half, words)  # error: misc | reportArgumentType
    atoll.pipeline([1], (half, "2"))  # error: arg-type | reportArgumentType
    atoll.pipeline([1])  # error: call-overload | reportCallIssue
    atoll.pipeline(3, half)  # error: call-overload | reportArgumentType
    texts: Pipeline[str] = atoll.pipeline(recv, half)  # error: arg-type | reportAssignmentType
    numbers: list[int] = list(atoll.pipeline([1], str, words))  # error: arg-type | reportAssignmentType
    del texts, numbers


def shared(cell: Cell[int], frozen: Frozen[int], tree: Frozen[FrozenElement]) -> None:
    cell.store("x")  # error: arg-type | reportArgumentType
    cell.swap(1).upper()  # error: attr-defined | reportAttributeAccessIssue
    frozen.get().upper()  # error: attr-defined | reportAttributeAccessIssue
    tree.get().text.upper()  # error: union-attr | reportOptionalMemberAccess
    tree.get().text = "x"  # error: misc | reportAttributeAccessIssue
    text: Cell[str] = Cell(3)  # error: arg-type | reportAssignmentType
    atoll.move([1])  # error: type-var | reportArgumentType
    atoll.share("x")  # error: arg-type | reportArgumentType
    atoll.register(Account, half, Account)  # error: arg-type | reportArgumentType
    atoll.Semaphore("1")  # error: arg-type | reportArgumentType
    del text
