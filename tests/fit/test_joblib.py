"""joblib on interpreters: what a backend must do."""

import multiprocessing
import sys
import threading
import time

import atoll
import pytest
import tasks
from support import check_python, until

joblib = pytest.importorskip("joblib")

from atoll import joblib as backend  # noqa: E402
from joblib import Parallel, delayed  # noqa: E402

if sys.version_info >= (3, 14):

    @pytest.fixture(autouse=True)
    def workers_end():
        yield
        backend.shutdown()

else:
    # joblib imports NumPy where it is, and interpreters that have NumPy are not ended
    # before the process is, on 3.13. So there are as few of them as possible here.
    @pytest.fixture(autouse=True)
    def nothing_left_open():
        yield

    @pytest.fixture(autouse=True, scope="module")
    def workers_end():
        yield
        backend.shutdown()


def parallel(n_jobs=2, **options):
    return Parallel(n_jobs=n_jobs, backend="atoll", **options)


def squares(count=20, **options):
    return parallel(**options)(delayed(tasks.square)(i) for i in range(count))


SQUARES = [i * i for i in range(20)]


class Odd(Exception):
    def __init__(self, text, *, number):
        super().__init__(text)
        self.number = number

    def __reduce__(self):
        return _odd, (self.args[0], self.number)


def _odd(text, number):
    return Odd(text, number=number)


def fail_at(i, where):
    if i == where:
        raise Odd("no", number=i)
    return i


def spin_unless(i, ready):
    if i:
        tasks.spin(ready)
    ready.get()
    raise LookupError("that was all")


def inside(count, **options):
    if options.get("backend") == "atoll":
        import atoll.joblib  # noqa: F401
    ids = Parallel(n_jobs=2, **options)(delayed(tasks.who)() for _ in range(count))
    return Parallel()._effective_n_jobs(), ids


def test_results_come_in_order():
    assert squares() == SQUARES


def test_it_runs_in_interpreters():
    with parallel() as call:
        ids = set(call(delayed(tasks.who)() for _ in range(100)))
    assert ids and atoll.get_main().id not in ids and len(ids) <= 2


def test_functions_of_main():
    """Those of __main__ and lambdas go by value, with no guard around."""
    check_python("""
import atoll.joblib
from joblib import Parallel, delayed, parallel_config

def add(a, b=1):
    return a + b

with parallel_config(backend="atoll", n_jobs=2):
    assert Parallel()(delayed(add)(i, b=2) for i in range(5)) == [2, 3, 4, 5, 6]
    assert Parallel()(delayed(lambda x: -x)(i) for i in range(3)) == [0, -1, -2]
""")


@pytest.mark.parametrize("size", [1, 7, "auto"])
@pytest.mark.parametrize("ahead", ["all", "2 * n_jobs"])
def test_many_small_calls(size, ahead):
    """Those that have ended before their callback is added do not recurse."""
    got = squares(3000, batch_size=size, pre_dispatch=ahead)
    assert got == [i * i for i in range(3000)]


def test_batches_grow():
    call = parallel()
    call(delayed(tasks.square)(i) for i in range(3000))
    # One for each call would be 3,000.
    assert call.n_dispatched_batches < 300


@pytest.mark.parametrize("kind", ["generator", "generator_unordered"])
def test_generators(kind):
    results = squares(return_as=kind)
    assert next(results) in SQUARES
    assert len(list(results)) == 19


def test_a_generator_that_is_dropped():
    queue = atoll.create_queue()
    results = parallel(return_as="generator")(
        delayed(tasks.wait_for)(queue) for _ in range(4)
    )
    with pytest.warns(UserWarning, match="cancelled"):
        del results
    assert squares() == SQUARES  # the tasks have been stopped


def test_the_exception_is_the_tasks_own():
    with pytest.raises(Odd, match="no") as caught:
        parallel()(delayed(fail_at)(i, 5) for i in range(30))
    assert caught.value.number == 5
    assert "fail_at" in str(caught.value.__cause__)


def test_the_first_failure_stops_the_rest():
    ready = atoll.create_queue()
    start = time.monotonic()
    with pytest.raises(LookupError):
        parallel(batch_size=1)(delayed(spin_unless)(i, ready) for i in range(10))
    assert time.monotonic() - start < 10
    assert squares() == SQUARES


def test_a_managed_one_goes_on_after_a_failure():
    with parallel() as call:
        for _ in range(5):
            with pytest.raises(Odd):
                call(delayed(fail_at)(i, 3) for i in range(30))
            assert call(delayed(tasks.square)(i) for i in range(20)) == SQUARES


def test_what_cannot_be_sent_fails():
    """Also when it is met in a callback, when the first batches are done."""
    lock = threading.Lock()
    with pytest.raises(atoll.NotShareableError, match="lock"):
        parallel(batch_size=1)(
            delayed(tasks.square)(i if i < 60 else lock) for i in range(100)
        )
    assert squares() == SQUARES


def test_timeout():
    with pytest.raises(multiprocessing.TimeoutError):
        parallel(timeout=0.1)(delayed(tasks.spin)() for _ in range(2))
    assert squares() == SQUARES


def test_nested():
    """Inside there are threads, as in joblib's own processes."""
    for count, ids in parallel()(delayed(inside)(3) for _ in range(4)):
        assert count == 1
        assert len(set(ids)) == 1 and atoll.get_main().id not in ids


def test_nested_by_name():
    for _, ids in parallel()(delayed(inside)(3, backend="atoll") for _ in range(4)):
        assert len(set(ids)) == 1 and atoll.get_main().id not in ids


def test_n_jobs():
    with joblib.parallel_config(backend="atoll"):
        assert joblib.effective_n_jobs(3) == 3
        assert joblib.effective_n_jobs(-1) == joblib.cpu_count()
        assert joblib.effective_n_jobs(-1000) == 1
        with pytest.raises(ValueError, match="n_jobs == 0"):
            joblib.effective_n_jobs(0)
    # One is the caller.
    assert set(parallel(1)(delayed(tasks.who)() for _ in range(3))) == {atoll.get_main().id}


def test_options():
    with joblib.parallel_config(backend="atoll", n_jobs=2, preload=["colorsys"]):
        there = "'colorsys' in __import__('sys').modules"
        loaded = Parallel()(delayed(eval)(there) for _ in "ab")
    assert loaded == [True, True]
    with pytest.raises(TypeError, match="no option 'preloads'"):
        with joblib.parallel_config(backend="atoll", preloads=["colorsys"]):
            pass


def test_what_follows():
    def limits(follow):
        with joblib.parallel_config(backend="atoll", n_jobs=2, follow=follow):
            return Parallel()(delayed(sys.getrecursionlimit)() for _ in "ab")

    before = sys.getrecursionlimit()
    without = iter(atoll.FOLLOWS - {"recursionlimit"})
    sys.setrecursionlimit(before + 17)
    try:
        assert limits(True) == [before + 17] * 2
        assert before + 17 not in limits(without)
        assert before + 17 not in limits(False)
    finally:
        sys.setrecursionlimit(before)
    with pytest.raises(TypeError, match="not one str"):
        limits("environ")


def test_workers_are_kept():
    def ids(n_jobs=2):
        with parallel(n_jobs, batch_size=1) as call:
            return set(call(delayed(tasks.who)() for _ in range(50)))

    first = ids()
    assert ids() <= first | ids() and len(first | ids()) <= 2
    assert not ids(3) & first
    backend.shutdown()
    backend.shutdown()
    assert not ids() & first


def test_two_threads():
    got = {}

    def run(i):
        got[i] = [squares(200, n_jobs=2 + i % 2) for _ in range(3)]

    threads = [threading.Thread(target=run, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == {i: [[j * j for j in range(200)]] * 3 for i in range(4)}


def test_a_forked_child_has_workers_of_its_own():
    check_python(
        """
import os
import atoll.joblib
from joblib import Parallel, delayed

call = Parallel(n_jobs=2, backend="atoll")
assert call(delayed(abs)(-i) for i in range(9)) == list(range(9))
pid = os.fork()
assert call(delayed(abs)(-i) for i in range(9)) == list(range(9))
if pid == 0:
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
""",
        options=("-W", "ignore::DeprecationWarning"),
    )


def test_a_broken_pool_is_not_kept():
    with joblib.parallel_config(backend="atoll", n_jobs=2, preload=["no_such_module"]):
        for _ in range(2):
            with pytest.raises(atoll.BrokenInterpreterPool):
                Parallel()(delayed(abs)(i) for i in range(5))


def test_the_default():
    backend.register(make_default=True)
    try:
        ids = Parallel(n_jobs=2)(delayed(tasks.who)() for _ in range(5))
        assert atoll.get_main().id not in ids
    finally:
        joblib.register_parallel_backend(
            "loky", joblib.parallel.BACKENDS["loky"], make_default=True
        )


def test_nothing_is_left():
    squares()
    backend.shutdown()
    until(lambda: len(atoll.list_all()) == 1)
