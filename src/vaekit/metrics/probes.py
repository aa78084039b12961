"""How much of the label a code tells: two simple classifiers on mean codes."""

from __future__ import annotations

from typing import Any

import numpy as np

K = 5  # neighbours that vote


def probes(
    train: np.ndarray, train_label: np.ndarray, codes: np.ndarray, label: np.ndarray
) -> dict[str, Any] | None:
    """Accuracy of nearest neighbours and of a linear classifier, fitted on training codes, on other codes [N, D].

    Codes are standardised by the training ones. k-NN: 5 neighbours, Euclidean. Linear: multinomial logistic
    regression with scikit-learn's own penalty, C = 1 (linear probes: Alain and Bengio 2016,
    https://arxiv.org/abs/1610.01644). `commonest`: the share of the label that is there most, which is what no
    information reaches. Rows without a label stay out; None where fewer than two labels or six rows are left.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    known, judged = train_label >= 0, label >= 0
    train, train_label, codes, label = train[known], train_label[known], codes[judged], label[judged]
    if len(np.unique(train_label)) < 2 or len(train) <= K or not len(codes):
        return None
    scores = {}
    for name, kind in (("knn", KNeighborsClassifier(K)), ("linear", LogisticRegression(max_iter=2000))):
        model = make_pipeline(StandardScaler(), kind).fit(train.astype(np.float64), train_label)
        scores[f"{name}_accuracy"] = float(model.score(codes.astype(np.float64), label))
    return {
        "train_rows": len(train),
        "rows": len(codes),
        "k": K,
        **scores,
        "commonest": float(np.bincount(label).max() / len(label)),
    }
