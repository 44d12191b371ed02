import numpy as np
from sklearn.cluster import DBSCAN, KMeans
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import Lasso, LinearRegression, LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier


def use(seed: int) -> None:
    random = np.random.default_rng(seed)
    x = random.normal(size=(200, 3))
    exact = LinearRegression().fit(x, x @ [1.5, -2, seed] + 4)
    assert np.allclose(exact.coef_, [1.5, -2, seed]) and abs(exact.intercept_ - 4) < 1e-9
    few = Lasso(alpha=0.1).fit(x, 3 * x[:, 0])
    assert abs(few.coef_[0] - 3) < 0.3 and np.allclose(few.coef_[1:], 0, atol=0.05)

    # Three heaps far from each other: everybody finds them.
    centres = np.array([[0, 0], [20, 0], [0, 20]])
    truth = np.repeat([0, 1, 2], 60)
    points = centres[truth] + random.normal(size=(180, 2))
    means = KMeans(3, n_init=3, random_state=seed).fit(points)
    found = means.cluster_centers_[np.argsort(means.cluster_centers_ @ [1, 2])]
    assert np.allclose(found, centres, atol=1)
    assert len(set(DBSCAN(eps=3).fit_predict(points)) - {-1}) == 3
    classifiers = [
        make_pipeline(StandardScaler(), LogisticRegression()),
        SVC(kernel="rbf"),
        KNeighborsClassifier(5),
        DecisionTreeClassifier(random_state=seed),
        RandomForestClassifier(10, random_state=seed),
        HistGradientBoostingClassifier(max_iter=1, max_leaf_nodes=4),
    ]
    for classifier in classifiers:
        fitted = classifier.fit(points, truth)
        assert fitted.predict(centres).tolist() == [0, 1, 2], classifier
    assert cross_val_score(DecisionTreeClassifier(), points, truth, cv=3).mean() > 0.97

    # What a line cannot do, a tree can.
    xor = np.array([[0, 0], [0, 1], [1, 0], [1, 1]] * 10)
    assert (
        DecisionTreeClassifier()
        .fit(xor, xor[:, 0] ^ xor[:, 1])
        .score(xor, xor[:, 0] ^ xor[:, 1])
        == 1
    )
    flat = PCA(2).fit(np.outer(np.arange(50.0), [3, 4]))
    assert np.allclose(np.abs(flat.components_[0]), [0.6, 0.8])
    assert abs(flat.explained_variance_ratio_[0] - 1) < 1e-12
    assert roc_auc_score([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]) == 0.75
    counts = CountVectorizer().fit_transform(["a cat and a cat", "the dog and cat"])
    assert counts.sum(axis=0).A1.tolist() == [2, 3, 1, 1]
