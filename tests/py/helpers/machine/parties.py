"""What programs of the machine run in threads and in interpreters: parties and works.

A party uses things that others use at the same time, and says afterwards what it has
done: its log. Interrupts may hit it anywhere, and still the log has to be exact. So what
moves items is one loop in C: between a `get` that returns and the list that keeps the
item there is no bytecode, and no interrupt.

Every interpreter imports this, so it imports little itself.
"""

import os
import sys
import threading
import time
from collections import deque
from functools import partial
from itertools import islice

import atoll

#: What get() never returns.
NEVER = object()


def name_of(exc):
    return None if exc is None else type(exc).__name__


# ------------------------------------------------------------------- the items

KINDS = ("small", "text", "big", "tree", "view", "moved", "buffer", "handle", "frozen", "error")


def body(kind, n):
    """What can be compared, of the content of item n."""
    if kind == "small":
        return n
    if kind == "text":
        return f"item {n} ä€😀" * (n % 7 + 1)
    if kind == "big":
        return n.to_bytes(8) * 9000
    if kind == "tree":
        rows = [{"id": i, "name": f"row {i}"} for i in range(n % 9)]
        return {"n": n, "rows": rows, "pair": (n, None)}
    return n.to_bytes(8) * (n % 40 + 80)


def make(serial, kind):
    """An item. Its serial is (line, sender, number)."""
    n = serial[2]
    if kind == "view":
        content = memoryview(bytearray(body(kind, n)))
    elif kind == "moved":
        content = atoll.move(bytearray(body(kind, n)))
    elif kind == "buffer":
        data = body(kind, n)
        content = atoll.Buffer(len(data))
        memoryview(content)[:] = data
    elif kind == "handle":
        content = atoll.create_queue()
        content.put(body(kind, n))
    elif kind == "frozen":
        content = atoll.freeze({"data": body(kind, n)})
    elif kind == "error":
        content = ValueError(body(kind, n))
    else:
        content = body(kind, n)
    return serial, kind, content


def check(item):
    """Is the item what was sent? Its serial."""
    if item is atoll.UNBOUND:
        return "unbound"
    serial, kind, content = item
    want = body(kind, serial[2])
    if kind == "handle":
        content = content.get_nowait()
    elif kind == "frozen":
        content = content.view()["data"]
    elif kind == "error":
        content = content.args[0]
    elif kind in ("view", "moved", "buffer"):
        content = bytes(content)
    assert content == want, f"{serial} {kind}: {content!r} instead of {want!r}"
    return tuple(serial)


def receiver(end):
    """An iterator over what comes; it ends or raises when the line does."""
    return iter(end.get if isinstance(end, atoll.Queue) else end.recv, NEVER)


def sender(end, rule=None):
    put = end.put if isinstance(end, atoll.Queue) else end.send
    return put if rule is None else partial(put, unbounditems=getattr(atoll, rule))


def patiently(function, *args):
    """Although interrupts may come: there are a few of them at most."""
    for _ in range(50):
        try:
            return function(*args)
        except KeyboardInterrupt:
            pass


# ----------------------------------------------------------------- the parties


def produce(end, line, number, count, kind, rule=None, retire=False):
    """Send `count` items. Log: the least and the most that have been accepted."""
    error, items = None, None
    try:
        made = [make((line, number, n), kind) for n in range(count)]
        items = iter(made)
        deque(map(sender(end, rule), items), 0)
        if retire:
            end.retire()
    except BaseException as exc:
        error = exc
    if items is None:
        return {"sent": (0, 0), "error": name_of(error)}
    taken = count - items.__length_hint__()
    if error is None:
        sent = (count, count)
    elif taken < count:
        sent = (max(taken - 1, 0),) * 2  # it is put() that has raised
    else:
        sent = (count - 1, count)
    return {"sent": sent, "error": name_of(error)}


def consume(end, limit):
    """Receive up to `limit` items. Log: their serials."""
    got, error = [], None
    try:
        got.extend(islice(receiver(end), limit))
    except BaseException as exc:
        error = exc
    return {"got": patiently(serials, got), "error": name_of(error)}


def serials(got):
    return [check(item) for item in got]


def relay(source, target, limit):
    """Put what comes from one line into another. One item may be in its hand."""
    error = None
    try:
        deque(map(sender(target), islice(receiver(source), limit)), 0)
    except BaseException as exc:
        error = exc
    return {"error": name_of(error)}


def choose(ends, limit):
    """Receive from several lines with select()."""
    got, error = [], None
    cases = list(ends)
    try:
        while len(got) < limit and any(case is not None for case in cases):
            try:
                choice = partial(atoll.select, *cases)
                got.extend(islice(iter(choice, NEVER), limit - len(got)))
            except (atoll.ChannelError, atoll.QueueError) as exc:
                error = exc
                cases[exc.case] = None
    except BaseException as exc:
        error = exc
    log = {"error": name_of(error)}
    log["got"] = patiently(serials, [item for _, item in got])
    return log


async def _one(end, got):
    while True:
        get = end.get_async if isinstance(end, atoll.Queue) else end.recv_async
        got.append(await get())


async def _coroutines(ends, seconds, got):
    import asyncio

    jobs = [
        asyncio.create_task(_one(end, one))
        for end, many in zip(ends, got, strict=True) for one in many
    ]  # fmt: skip
    await asyncio.wait(jobs, timeout=seconds)
    for job in jobs:
        job.cancel()
    done = await asyncio.gather(*jobs, return_exceptions=True)
    return {name_of(exc) for exc in done} - {"CancelledError"}


def await_items(ends, count, seconds):
    """Receive with coroutines for some time, and cancel those that wait."""
    got = [[[] for _ in range(count)] for _ in ends]  # each keeps the order of its own
    import asyncio

    error, errors = None, set()
    try:
        errors = asyncio.run(_coroutines(ends, seconds, got))
    except BaseException as exc:
        error = exc
    log = {"error": name_of(error), "errors": sorted(errors)}
    log["each"] = patiently(lambda: [[serials(one) for one in many] for many in got])
    return log


def guard(lock, memory, rounds):
    """Add to a number that nothing but the lock protects. Log: how often."""
    view = memoryview(memory).cast("q")
    done, died, error = 0, 0, None
    try:
        while done + died < rounds:
            try:
                with lock:
                    value = view[0]
                    for _ in range(value % 40):
                        pass
                    view[0] = value + 1
                    done += 1
            except atoll.LockOwnerDied:
                died += 1
    except BaseException as exc:
        error = exc
    return {"done": done, "died": died, "error": name_of(error)}


def hold(lock, held, over):
    """Have it until somebody says that it is over."""
    error = None
    try:
        with lock:
            held.set()
            over.wait()
    except BaseException as exc:
        error = exc
    return {"error": name_of(error)}


def permits(semaphore, inside, most, rounds):
    error = None
    try:
        for _ in range(rounds):
            with semaphore:
                assert inside.add() <= most
                time.sleep(0)
                inside.sub()
    except BaseException as exc:
        error = exc
    return {"error": name_of(error)}


def meet(barrier, rounds):
    numbers, error = [], None
    try:
        for _ in range(rounds):
            numbers.append(barrier.wait())
    except BaseException as exc:
        error = exc
    return {"numbers": numbers, "error": name_of(error)}


def listen(event, timeout):
    error, value = None, None
    try:
        value = event.wait(timeout)
    except BaseException as exc:
        error = exc
    return {"value": value, "error": name_of(error)}


def give_tokens(condition, tokens, count):
    done, error = 0, None
    try:
        for _ in range(count):
            with condition:
                tokens.add()
                condition.notify()
                done += 1
    except BaseException as exc:
        error = exc
    return {"given": done, "error": name_of(error)}


def take_tokens(condition, tokens, over, count):
    done, error = 0, None
    try:
        while done < count:
            with condition:
                condition.wait_for(lambda: tokens.value > 0 or over.is_set())
                if not tokens.value:
                    break
                assert tokens.sub() >= 0
                done += 1
    except BaseException as exc:
        error = exc
    return {"taken": done, "error": name_of(error)}


def count_up(counter, rounds):
    error, before = None, None
    try:
        numbers = iter(range(rounds))
        before = [counter.add() for _ in numbers]
        assert before == sorted(set(before))
    except BaseException as exc:
        error = exc
    return {"counted": rounds if error is None else None, "error": name_of(error)}


PARTIES = {
    f.__name__: f
    for f in (produce, consume, relay, choose, await_items, guard, hold, permits, meet,
              listen, give_tokens, take_tokens, count_up)
}  # fmt: skip


def party(report, number, name, args):
    """Say that it begins, run it, and report its log. Returns the log."""
    log = {"error": "KeyboardInterrupt"}
    try:
        report.put((number, None))
        log = PARTIES[name](*args)
    except KeyboardInterrupt:
        pass
    except BaseException as exc:
        log = {"error": name_of(exc), "text": str(exc)}
    patiently(report.put, (number, log))
    return log


# ---------------------------------------------------------------- small functions


def setup(answer):
    global answered
    answered = answer


def fails():
    raise LookupError("machine")


def double(n):
    return 2 * n


def refuse(n):
    if n == 3:
        raise LookupError(n)
    return n


def acquire(lock):
    return lock.acquire(timeout=0)


def use(interp, how):
    if how == "call":
        return interp.call(abs, -1)
    return getattr(interp, how)()


def read_frozen(frozen, how):
    rows = frozen.get() if how == "get" else frozen.view()
    return sum(row["n"] for row in rows["rows"])


def write_memory(view, at):
    view[at] = at
    return bytes(view[at : at + 1])


def take_moved(data):
    return len(data)


# ------------------------------------------------------------------- the works
# Each gets a number and an Event that is set at the end of the program.


def give(n, over):
    return n


def big(n, over):
    return bytes([n % 256]) * 300_000


async def nap(n, over):
    import asyncio

    await asyncio.sleep(n % 5 / 1000)
    return n


def threaded(n, over):
    answers = []
    thread = threading.Thread(target=lambda: answers.append(n))
    thread.start()
    thread.join()
    return answers[0]


def wrong(n, over):
    raise LookupError(n, "machine")


def leave(n, over):
    sys.exit(n)


def unshareable(n, over):
    return (i for i in range(n))


def nested(n, over):
    with atoll.create() as interp:
        return interp.call(give, n, over)


def pooled(n, over):
    with atoll.InterpreterPoolExecutor(1) as pool:
        return pool.submit(give, n, over).result()


def daemon(n, over):
    """Leaves a thread behind, which ends when the program does."""
    threading.Thread(target=over.wait, daemon=True).start()
    return n


def straggler(n, over):
    """Leaves one that close() waits for."""
    threading.Thread(target=time.sleep, args=(n % 5 / 1000,)).start()
    return n


def forks(n, over):
    try:
        os.fork()
    except RuntimeError:
        return n


def sleeps(n, over):
    time.sleep(0.05)
    return n


def blocked(n, over):
    over.wait()
    return n


def spins(n, over):
    while not over.is_set():
        pass
    return n


async def awaits(n, over):
    await over.wait_async()
    return n


def own_time(n, over):
    """Sleeps in a loop of its own."""
    import asyncio

    asyncio.run(asyncio.sleep(0.02))
    return n


def locked(n, over):
    lock = threading.Lock()
    with lock:
        lock.acquire(timeout=0.03)
    return n


def stubborn(n, over):
    """Does not listen, for a while."""
    end = time.monotonic() + 0.3
    while time.monotonic() < end and not over.is_set():
        try:
            time.sleep(0.01)
        except KeyboardInterrupt:
            pass
    return n


def imports(n, over):
    import json
    import xml.dom.minidom

    return n if json.loads("1") and xml.dom.minidom else None


def opens_frozen(n, over):
    frozen = atoll.freeze({"n": n, "rows": [(i, str(i)) for i in range(50)]})
    assert frozen.get()["n"] == n
    assert frozen.view()["rows"][3][1] == "3"
    return n


WORKS = {
    f.__name__: f
    for f in (give, big, nap, threaded, wrong, leave, unshareable, nested, pooled, daemon,
              straggler, forks, sleeps, blocked, spins, awaits, own_time, locked, stubborn,
              imports, opens_frozen)
}  # fmt: skip

#: What ends only when the program does, unless somebody stops it.
ENDLESS = {"blocked", "spins", "awaits"}

#: What a work raises, if nobody disturbs it.
RAISES = {"wrong": "LookupError", "leave": "SystemExit", "unshareable": "NotShareableError"}

#: Runs an interpreter inside; what it raises when it is interrupted is that one's.
INSIDE = {"nested", "pooled"}


def answer(name, n):
    return bytes([n % 256]) * 300_000 if name == "big" else n
