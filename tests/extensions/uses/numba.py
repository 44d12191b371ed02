import math

import numba
import numpy as np


@numba.njit
def count_primes(limit: int) -> int:
    sieve = np.ones(limit, dtype=np.bool_)
    sieve[:2] = False
    for i in range(2, int(math.sqrt(limit)) + 1):
        if sieve[i]:
            sieve[i * i :: i] = False
    return sieve.sum()


@numba.njit(parallel=False)
def row_sums(matrix: np.ndarray, out: np.ndarray) -> float:
    total = 0.0
    for i in numba.prange(matrix.shape[0]):
        row = 0.0
        for j in range(matrix.shape[1]):
            row += matrix[i, j]
        out[i] = row
        total += row
    return total


@numba.njit
def checked(values: list[int], at: int) -> int:
    if at >= len(values):
        raise IndexError("beyond the end")
    return values[at]


@numba.vectorize(["float64(float64, float64)"])
def hypot(a: float, b: float) -> float:
    return math.sqrt(a * a + b * b)


def use(seed: int) -> None:
    assert count_primes(1_000_000) == 78498
    assert count_primes.signatures

    # Arrays unboxed and boxed: strides, types, results written in place.
    matrix = np.arange(2000.0).reshape(40, 50) + seed
    out = np.empty(40)
    assert row_sums(matrix, out) == 1999 * 1000 + 2000 * seed
    assert out.tolist() == [sum(range(50 * i, 50 * i + 50)) + 50 * seed for i in range(40)]
    assert row_sums(matrix.T, np.empty(50)) == 1999 * 1000 + 2000 * seed
    assert hypot(np.array([3.0, 5.0]), np.array([4.0, 12.0])).tolist() == [5.0, 13.0]

    assert checked([seed, 2], 0) == seed
    try:
        checked([1], 5)
    except IndexError as error:
        assert error.args == ("beyond the end",)
    else:
        raise AssertionError("no IndexError")

    # Compiled anew for each use: it captures the seed.
    @numba.njit
    def local(text: str, pair: tuple[int, float]) -> tuple[str, float]:
        return text + "!", pair[0] + pair[1] + seed

    assert local("naïve", (1, 0.5)) == ("naïve!", 1.5 + seed)
    assert local.py_func("a", (0, 0.0)) == ("a!", seed)
    compiled = numba.cfunc("float64(float64)")(lambda x: x * 2)
    assert compiled.ctypes(4.5) == 9.0
