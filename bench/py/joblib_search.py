"""joblib: a grid search of scikit-learn on interpreters and on loky's processes.

Each time is of a fresh program that has imported scikit-learn: how long the first call
takes until its first result is there, and the first grid search; then a second search,
on workers that have imported everything. The memory is what the workers add to the
program, processes and all, after the searches.
"""

import importlib.util
from pathlib import Path

import common

HERE = Path(__file__).parent

PROGRAM = """
import json, sys, time
sys.path.insert(0, sys.argv[3])
import joblib, numpy as np
from sklearn.datasets import make_classification
from sklearn.model_selection import GridSearchCV
from sklearn.svm import SVC
from procs import pss

way, rows = sys.argv[1], int(sys.argv[2])
if way == "atoll":
    import atoll.joblib

X, y = make_classification(rows, 20, random_state=0)
grid = {"C": [0.1, 1, 10, 100], "gamma": [0.001, 0.01, 0.1]}
search = GridSearchCV(SVC(), grid, cv=5)
search.estimator.fit(X, y)  # what is loaded late
before = pss()
times = []
with joblib.parallel_config(backend=way, n_jobs=2):
    start = time.perf_counter()
    next(joblib.Parallel(return_as="generator")(joblib.delayed(abs)(i) for i in (-1,)))
    times.append(time.perf_counter() - start)
    for _ in range(2):
        start = time.perf_counter()
        search.fit(X, y)
        times.append(time.perf_counter() - start)
scores = search.cv_results_["mean_test_score"].tolist()
print(json.dumps([*times, pss() - before, scores]))
"""

WHATS = (
    ("first_result", "s", "from the first call to its first result"),
    ("first_search", "s", "the first grid search, imports in the workers included"),
    ("second_search", "s", "a second grid search"),
    ("memory", "MiB", "memory (PSS) that two workers add"),
)


def run(args):
    if importlib.util.find_spec("sklearn") is None:
        raise SystemExit("scikit-learn is not installed")
    results = common.Results()
    got = {"atoll": [], "loky": []}
    for _ in range(1 if args.quick else 7):
        for way, rounds in got.items():
            rounds.append(common.run_python(PROGRAM, way, 200 if args.quick else 600, HERE))
    middle = {}
    for way, rounds in got.items():
        *columns, _ = zip(*rounds, strict=True)
        for (key, unit, what), column in zip(WHATS, columns, strict=True):
            middle[way, key] = results.number(
                f"joblib.{key}_{way}", list(column), unit, f"{what}: {way}"
            )
    scores = {tuple(one[-1]) for rounds in got.values() for one in rounds}
    same = len(scores) == 1
    results.goal("the scores", "those of loky", "equal" if same else "differ", "", same)
    for (key, unit, what), goal in zip(WHATS, (1.0, None, None, 1.0), strict=True):
        ours, theirs = middle["atoll", key], middle["loky", key]
        results.goal(
            f"joblib: {what}",
            "less than loky" if goal else "no goal",
            f"{ours:.3g} {unit}",
            f"loky {theirs:.3g} {unit}",
            ours < theirs if goal else None,
        )
    return results


if __name__ == "__main__":
    common.main(run, __doc__)
