"""Freezing what takes long: it can be interrupted, and signals are handled meanwhile."""

import collections
import operator
import signal
import threading
import time

import atoll
import pytest
from support import check_python, until

# Long enough for several looks, and little memory: some 150 ms.
MANY = 3_000_000


class Stop(Exception):
    pass


@pytest.fixture
def alarm():
    """Call it with a handler: it is run soon, once."""
    before = signal.getsignal(signal.SIGALRM)

    def start(handler, seconds=0.01):
        signal.signal(signal.SIGALRM, lambda *args: handler())
        signal.setitimer(signal.ITIMER_REAL, seconds)

    yield start
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_a_signal_handler_stops_it(alarm):
    """extend() runs no bytecode after freeze(): the handler has run inside of that."""
    texts, done = [str(n) for n in range(MANY)], []

    def stop():
        raise Stop

    before = atoll.frozen_stats()
    alarm(stop)
    with pytest.raises(Stop):
        done.extend(map(atoll.freeze, [texts]))
    assert done == []
    assert atoll.frozen_stats() == before


def test_a_signal_during_the_check_of_the_layouts():
    """The first freeze of a process checks them; a handler that raises is no answer."""
    for n in range(20):
        check_python(
            f"""
            import signal, time, atoll
            def stop(*args):
                raise ValueError("stop")
            signal.signal(signal.SIGALRM, stop)
            signal.setitimer(signal.ITIMER_REAL, {0.0002 + n * 0.0003})
            try:
                graph = atoll.freeze([1, 2.5])
                time.sleep(20)
            except ValueError as error:
                assert str(error) == "stop"
            else:
                raise SystemExit("no signal came")
            assert atoll.freeze([1, 2.5]).get() == (1, 2.5)
            """
        )


def test_a_handler_may_change_what_is_frozen(alarm):
    """What is frozen is what was there when it began to be looked at."""
    texts = [str(n) for n in range(MANY)]
    table = {n: -n for n in range(1000)}
    seen = []

    def change():
        texts.clear()
        table.clear()
        seen.append(True)

    alarm(change)
    graphs = []
    graphs.extend(map(atoll.freeze, [[texts, table]]))
    assert seen
    first, second = graphs[0].view()
    assert len(first) == MANY
    assert first[MANY - 1] == str(MANY - 1)
    assert len(second) in (0, 1000)


def freeze_many(ready, count):
    """How many were left when the interrupt came: no bytecode runs between them."""
    texts = [str(n) for n in range(count)]
    todo = iter([texts] * 50)
    try:
        ready.put(True)
        collections.deque(map(atoll.freeze, todo), maxlen=0)
    except KeyboardInterrupt:
        return operator.length_hint(todo)


def test_an_interpreter_can_be_interrupted_in_it():
    ready, results = atoll.create_queue(), []
    with atoll.create() as interp:
        thread = threading.Thread(
            target=lambda: results.append(interp.call(freeze_many, ready, MANY))
        )
        thread.start()
        ready.get()
        time.sleep(0.1)
        interp.interrupt()
        until(lambda: results)
        thread.join()
    assert 0 < results[0] <= 50
