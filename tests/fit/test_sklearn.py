"""Grid searches of scikit-learn by joblib on interpreters: the numbers of loky."""

import joblib
import numpy as np
import pytest
from atoll import joblib as backend
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

X, Y = make_classification(300, 20, random_state=0)


@pytest.fixture(autouse=True)
def workers_end():
    yield
    backend.shutdown()


def search(name):
    model = make_pipeline(StandardScaler(), SVC(random_state=0))
    grid = {"svc__C": [0.1, 1, 10], "svc__gamma": [0.01, 0.1]}
    with joblib.parallel_config(backend=name, n_jobs=2):
        return GridSearchCV(model, grid, cv=4, return_train_score=True).fit(X, Y)


def test_a_grid_search_has_the_numbers_of_loky():
    ours, theirs = search("atoll"), search("loky")
    assert ours.best_params_ == theirs.best_params_
    assert ours.best_score_ == theirs.best_score_
    for name, column in theirs.cv_results_.items():
        if "time" not in name:
            assert np.array_equal(ours.cv_results_[name], column), name
    assert np.array_equal(ours.predict(X), theirs.predict(X))


def test_a_forest_in_a_grid_search():
    """It has joblib inside: with threads, in the interpreters."""
    scores = {}
    for name in ("atoll", "loky"):
        with joblib.parallel_config(backend=name, n_jobs=2):
            forest = RandomForestClassifier(12, n_jobs=2, random_state=0)
            scores[name] = cross_val_score(forest, X, Y, cv=4)
    assert np.array_equal(scores["atoll"], scores["loky"])


def refuse(estimator, X, y):
    raise NotFittedError("it is not")


def test_an_error_is_itself():
    with joblib.parallel_config(backend="atoll", n_jobs=2):
        with pytest.raises(NotFittedError, match="it is not"):
            cross_val_score(SVC(), X, Y, cv=4, scoring=refuse, error_score="raise")


def test_large_arrays():
    big = np.arange(4_000_000, dtype=float).reshape(4, -1)
    with joblib.parallel_config(backend="atoll", n_jobs=2):
        sums = joblib.Parallel()(joblib.delayed(np.sum)(row) for row in big)
        same = joblib.Parallel()(joblib.delayed(np.copy)(row) for row in big)
    assert sums == [row.sum() for row in big]
    assert np.array_equal(same, big)
