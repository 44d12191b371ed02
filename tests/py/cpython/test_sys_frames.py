"""sys._current_frames and _current_exceptions, while interpreters run at once."""

import sys
import threading

import atoll
import tasks
from support import STRESS


def test_they_are_of_this_interpreter():
    with atoll.create() as interp:
        mine = set(sys._current_frames())
        theirs = set(interp.call(tasks.current_threads))
        assert threading.get_ident() in mine
        assert len(theirs) == 1
        assert not mine & theirs
        assert sys._current_frames()[threading.get_ident()] is sys._getframe()


def test_all_threads_are_there():
    inside, leave = threading.Event(), threading.Event()
    error = ValueError("handled")

    def work():
        try:
            raise error
        except ValueError:
            inside.set()
            leave.wait()

    thread = threading.Thread(target=work)
    thread.start()
    inside.wait()
    frame = sys._current_frames()[thread.ident]
    while frame.f_code is not work.__code__:
        frame = frame.f_back
    assert sys._current_exceptions()[thread.ident] is error
    assert sys._current_exceptions()[threading.get_ident()] is None
    leave.set()
    thread.join()
    del frame
    assert thread.ident not in sys._current_frames()


def test_profilers_do_no_harm():
    """CPython's own make frames for interpreters that run, with this one's memory."""
    with atoll.InterpreterPoolExecutor(3) as pool:
        busy = [pool.submit(tasks.deep_calls, 400 * STRESS) for _ in range(3)]
        while not all(future.done() for future in busy):
            for look in (sys._current_frames, sys._current_exceptions):
                assert threading.get_ident() in look()
        assert {future.result() for future in busy} == {400 * STRESS}
