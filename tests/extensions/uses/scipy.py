import ctypes
import math

import numpy as np
from scipy import (
    LowLevelCallable,
    fft,
    integrate,
    interpolate,
    linalg,
    ndimage,
    optimize,
    signal,
    sparse,
    spatial,
    special,
    stats,
)
from scipy.sparse import linalg as sparse_linalg


def use(seed: int) -> None:
    # Dense: the Cholesky factor of a matrix made from it, and a known exponential.
    n = 40
    lower = np.tril(np.outer(np.arange(1, n + 1), np.ones(n))) / n + np.eye(n)
    assert np.allclose(linalg.cholesky(lower @ lower.T, lower=True), lower)
    angle = seed % 3 + 0.25
    turn = linalg.expm(np.array([[0, -angle], [angle, 0]]))
    assert np.allclose(
        turn, [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    )

    # Sparse: the second difference; its eigenvalues and solutions are known.
    second = sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(300, 300))
    wanted = np.sin(np.arange(300) + seed)
    solved = sparse_linalg.spsolve(second.tocsc(), second @ wanted)
    assert np.allclose(solved, wanted)
    top = sparse_linalg.eigsh(
        second.tocsr(),
        k=1,
        return_eigenvectors=False,
        v0=np.ones(300) * (-1.0) ** np.arange(300),
    )
    assert abs(top[0] - (2 + 2 * math.cos(math.pi / 301))) < 1e-8
    count, _ = sparse.csgraph.connected_components(sparse.csr_array(np.diag(np.ones(4), 1)))
    assert count == 1

    # Python functions that are called from C and Fortran.
    root = optimize.brentq(lambda x: x**3 - seed - 2, 0, 100)
    assert abs(root - (seed + 2) ** (1 / 3)) < 1e-9
    least = optimize.minimize(optimize.rosen, [1.3, 0.7, 0.8], method="L-BFGS-B")
    assert np.allclose(least.x, 1, atol=1e-3), least
    program = optimize.linprog([-1, -2], A_ub=[[1, 1]], b_ub=[4], bounds=[(0, 3), (0, 3)])
    assert abs(program.fun + 7) < 1e-9
    area, _ = integrate.quad(lambda x: math.exp(-x * x), -np.inf, np.inf)
    assert abs(area - math.sqrt(math.pi)) < 1e-8
    sine = ctypes.CDLL("libm.so.6").sin
    sine.restype, sine.argtypes = ctypes.c_double, (ctypes.c_double,)
    assert abs(integrate.quad(LowLevelCallable(sine), 0, math.pi)[0] - 2) < 1e-9
    path = integrate.solve_ivp(lambda t, y: -y, (0, 2), [1.0], method="LSODA", rtol=1e-8)
    assert abs(path.y[0, -1] - math.exp(-2)) < 1e-6
    try:
        integrate.quad(lambda x: 1 // 0, 0, 1)
    except ZeroDivisionError:
        pass
    else:
        raise AssertionError("no ZeroDivisionError")

    assert abs(special.gamma(5.5) - 52.34277778455352) < 1e-12
    assert abs(special.jv(0, 2.404825557695773)) < 1e-12
    assert abs(stats.norm.cdf(1.959963984540054) - 0.975) < 1e-12
    assert stats.spearmanr([1, 2, 3, 4], [10, 20, 30, 50]).statistic == 1

    x = np.linspace(0, 3, 20)
    assert np.allclose(interpolate.CubicSpline(x, x**3)(1.234), 1.234**3)
    assert np.allclose(fft.idct(fft.dct(x, norm="ortho"), norm="ortho"), x)
    assert signal.convolve([1, 2, 3], [1, 1]).tolist() == [1, 3, 5, 3]
    assert signal.find_peaks(np.sin(np.arange(100) / 5))[0].tolist() == [8, 39, 71]
    labels, regions = ndimage.label(np.array([[1, 0, 1], [1, 0, 0], [0, 0, 1]]))
    assert regions == 3 and labels[0, 0] == labels[1, 0]
    blurred = ndimage.generic_filter(np.arange(5.0), lambda window: window.max(), size=3)
    assert blurred.tolist() == [1, 2, 3, 4, 4]
    grid = np.array([(i, j) for i in range(20) for j in range(20)], dtype=float)
    tree = spatial.cKDTree(grid)
    assert tree.query([3.1, 4.2])[1] == 64
    assert len(tree.query_ball_point([5, 5], 1.01)) == 5
    assert abs(spatial.ConvexHull(grid).volume - 361) < 1e-9
