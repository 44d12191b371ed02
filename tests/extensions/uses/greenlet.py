import contextvars
import gc
import threading
import weakref

import greenlet

variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable")


class Token:
    pass


def use(seed: int) -> None:
    main = greenlet.getcurrent()
    seen: list[int] = []

    def echo(value: int) -> str:
        while value >= 0:
            seen.append(value)
            value = main.switch(value * 2)
        return "done"

    worker = greenlet.greenlet(echo)
    assert [worker.switch(seed + i) for i in range(1000)] == [
        2 * (seed + i) for i in range(1000)
    ]
    assert worker.switch(-1) == "done" and worker.dead
    assert seen == [seed + i for i in range(1000)]

    # A ring: each one starts the next; the stacks are copied away and back.
    def deep(n: int) -> int:
        if n == 0:
            return int(main.switch("bottom"))
        return deep(n - 1) + 1

    ring = [greenlet.greenlet(deep) for _ in range(20)]
    assert [g.switch(50 + i) for i, g in enumerate(ring)] == ["bottom"] * 20
    assert [g.switch(seed) for g in ring] == [seed + 50 + i for i in range(20)]

    # Exceptions cross, in both ways.
    def fails() -> None:
        try:
            main.switch("ready")
        except KeyError as error:
            raise ValueError(seed) from error

    failing = greenlet.greenlet(fails)
    assert failing.switch() == "ready"
    try:
        failing.throw(KeyError("x"))
    except ValueError as error:
        assert error.args == (seed,) and isinstance(error.__cause__, KeyError)
    else:
        raise AssertionError("no ValueError")

    # One that is dropped while it is switched out gets GreenletExit.
    ends: list[str] = []

    def waits(token: Token) -> None:
        try:
            main.switch()
        finally:
            ends.append("finally")

    token = Token()
    alive = weakref.ref(token)
    dropped = greenlet.greenlet(waits)
    dropped.switch(token)
    del dropped, token
    gc.collect()
    assert ends == ["finally"] and alive() is None

    own = greenlet.greenlet(lambda: (variable.set(seed), variable.get())[1])
    own.gr_context = contextvars.copy_context()
    assert own.switch() == seed and variable.get(None) is None
    in_threads(seed)


def in_threads(seed: int) -> None:
    """Greenlets of a thread that ends: they die with it, and belong to it."""
    left: list[greenlet.greenlet] = []
    results: list[int] = []

    def run(n: int) -> None:
        parent = greenlet.getcurrent()
        other = greenlet.greenlet(lambda x: parent.switch(x + 1))
        results.append(other.switch(n))
        left.append(other)

    threads = [threading.Thread(target=run, args=(seed + i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [seed + i + 1 for i in range(4)]
    for other in left:
        try:
            other.switch()
        except greenlet.error:
            pass  # it was started in a thread that has ended
        else:
            raise AssertionError("a greenlet ran after its thread")
    left.clear()
    gc.collect()
    greenlet.getcurrent().switch()  # frees what ended threads have left
