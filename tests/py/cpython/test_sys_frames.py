"""Functions of sys that know of one interpreter, while several run at once."""

import sys
import sysconfig
import threading

import atoll
import pytest
import tasks
from support import STRESS, check_python


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


# ----------------------------------------------------------- trampolines of perf


needs_trampolines = pytest.mark.skipif(
    not sysconfig.get_config_var("PY_HAVE_PERF_TRAMPOLINE"),
    reason="this build of CPython has no trampolines for perf",
)


@needs_trampolines
def test_one_interpreter_has_trampolines():
    check_python(
        """
        import atoll, sys
        def begin():
            sys.activate_stack_trampoline("perf")
            return sys.is_stack_trampoline_active()
        def refused(interp):
            try:
                return interp.call(begin)
            except atoll.ExecutionFailed as exc:
                return str(exc.__cause__)
        with atoll.create() as other:
            with atoll.create() as one:
                assert one.call(begin) and one.call(begin)
                assert refused(other).startswith(f"interpreter {one.id} has stack trampolines")
                one.call(sys.deactivate_stack_trampoline)
                assert refused(other) is not True
            assert other.call(begin)
            with atoll.create() as more:
                assert refused(more).startswith(f"interpreter {other.id} has")
        """
    )


@needs_trampolines
def test_main_has_trampolines_from_the_start():
    check_python(
        """
        import atoll, sys
        assert sys.is_stack_trampoline_active()
        def begin():
            try:
                sys.activate_stack_trampoline("perf")
            except RuntimeError as exc:
                return str(exc)
        with atoll.InterpreterPoolExecutor(2) as pool:
            for said in pool.map(lambda n: begin(), range(4)):
                assert said.startswith("interpreter 0 has stack trampolines"), said
        def work():
            return sum(range(10))
        assert work() == 45
        """,
        options=("-X", "perf"),
    )
