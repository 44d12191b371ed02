"""pytest: a fixture that gives a pool of interpreters.

    pytest examples/pytest_pool.py

One pool for all tests; its workers import the module of the tests, and so its functions
go by name. What a task raises is what the test sees.
"""

import atoll
import pytest


@pytest.fixture(scope="session")
def pool():
    with atoll.InterpreterPoolExecutor(2) as pool:
        yield pool
        # A test that forgot one of its tasks does not hang the run.
        pool.stop()


@pytest.fixture
def interpreter():
    """One for each test, with nothing in it."""
    with atoll.create() as interpreter:
        yield interpreter


def collatz(n):
    steps = 0
    while n != 1:
        n = n // 2 if n % 2 == 0 else 3 * n + 1
        steps += 1
    return steps


def test_the_longest_chain(pool):
    lengths = list(pool.map(collatz, range(1, 1000), chunksize=100))
    assert max(lengths) == 178
    assert lengths.index(178) + 1 == 871


def test_an_error(pool):
    with pytest.raises(TypeError):
        pool.submit(collatz, "one").result()


@pytest.mark.parametrize("name", ["a", "b"])
def test_interpreters_share_nothing(interpreter, name):
    interpreter.exec(f"import sys; assert not hasattr(sys, 'mine'); sys.mine = {name!r}")
