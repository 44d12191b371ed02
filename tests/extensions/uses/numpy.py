import io
import math

import numpy as np


def use(seed: int) -> None:
    n = 2000 + seed % 100
    a = np.arange(n, dtype=np.int64)
    assert int(a.sum()) == n * (n - 1) // 2
    assert int((a * a).sum()) == (n - 1) * n * (2 * n - 1) // 6
    assert a[::-3].tolist() == list(range(n))[::-3]
    assert a[(a % 7 == 3) & (a > 50)].tolist() == [i for i in range(51, n) if i % 7 == 3]

    # Linear algebra (BLAS, LAPACK): a rotation, and a solution known beforehand.
    c, s = math.cos(seed), math.sin(seed)
    turn = np.array([[c, -s], [s, c]])
    assert abs(np.linalg.det(turn) - 1) < 1e-12
    assert np.allclose(np.linalg.inv(turn), [[c, s], [-s, c]])
    m = 60
    matrix = np.diag(np.full(m, 4.0)) + np.eye(m, k=1) + np.eye(m, k=-1)
    wanted = np.cos(np.arange(m) + seed)
    assert np.allclose(np.linalg.solve(matrix, matrix @ wanted), wanted)
    spectrum = [4 + 2 * math.cos(math.pi * k / (m + 1)) for k in range(m, 0, -1)]
    assert np.allclose(np.linalg.eigvalsh(matrix), spectrum)

    # A sine wave has one line in its spectrum.
    turns = 5 + seed % 20
    wave = np.sin(2 * np.pi * turns * np.arange(256) / 256)
    lines = np.abs(np.fft.rfft(wave))
    assert int(lines.argmax()) == turns and abs(lines[turns] - 128) < 1e-9

    # Random numbers: the same from the same seed, and of the right shape.
    values = np.random.default_rng(seed).normal(3, 2, 20_000)
    assert np.array_equal(values, np.random.default_rng(seed).normal(3, 2, 20_000))
    assert abs(values.mean() - 3) < 0.1 and abs(values.std() - 2) < 0.1
    old = np.random.RandomState(12345).randint(0, 100, 3).tolist()
    assert old == [98, 29, 1], old  # of the Mersenne twister: never changes

    # Types: structures, texts, dates, objects, errors from C.
    people = np.array([("Ann", 30), ("Bob", 25)], dtype=[("name", "U10"), ("age", "i4")])
    assert people[people["age"].argsort()]["name"].tolist() == ["Bob", "Ann"]
    days = np.arange("2024-02-27", "2024-03-02", dtype="datetime64[D]")
    assert [str(day)[5:] for day in days] == ["02-27", "02-28", "02-29", "03-01"]
    assert np.array([{}, [seed], None], dtype=object)[1] == [seed]
    assert np.strings.upper(np.array(["ab", "cé"])).tolist() == ["AB", "CÉ"]
    with np.errstate(divide="raise"):
        try:
            np.array([1.0]) / np.array([0.0])
        except FloatingPointError:
            pass
        else:
            raise AssertionError("no FloatingPointError")

    # A ufunc of Python code, einsum, sorting, and a file.
    double = np.frompyfunc(lambda x: 2 * x + seed, 1, 1)
    assert double(np.arange(3)).tolist() == [seed, 2 + seed, 4 + seed]
    assert int(np.einsum("ij,ji->", np.full((3, 4), 2), np.full((4, 3), 3))) == 72
    mixed = (a * 7919) % 10007
    assert np.sort(mixed).tolist() == sorted((i * 7919) % 10007 for i in range(n))
    file = io.BytesIO()
    np.savez_compressed(file, a=a, wave=wave)
    file.seek(0)
    with np.load(file) as loaded:
        assert np.array_equal(loaded["a"], a) and np.array_equal(loaded["wave"], wave)
