"""Descriptions of how samples differ from rows that no verdict rests on: precision and the like, and a classifier."""

import math

import torch
from torch import Generator, Tensor

from scorefield.evaluation.metrics import ROWS, Comparison, Estimate, Rows, checked, draw, share, share_above
from scorefield.numerics.tensors import integer

NEIGHBOURS = 5
"""A ball around a row reaches to its fifth neighbour, as in Naeem et al., 2020."""

FOLDS = 5
"""The classifier is asked about each fifth of the rows after it has learnt from the others."""

PARTS = 20
"""The error of the Frechet distance is found by leaving out each twentieth of the rows in turn."""

CLASSIFIER_ROWS = 2_000
"""The classifier takes at most this many rows of either kind: 2 s."""


def precision_recall(x: Rows, y: Rows) -> dict[str, Estimate]:
    """Return precision, recall, density and coverage of samples x for real rows y.

    precision  the share of x in any ball of y, recall the share of y in any ball of x (Kynkaanniemi et al., 2019)
    density    the mean number of balls of y that a row of x is in, over 5
    coverage   the share of y with any row of x in its ball (Naeem et al., 2020)

    The ball of a row reaches to its fifth neighbour of its own kind. For equal laws and sizes density is about 1 and
    coverage 0.97. The error covers the rows averaged over and those that decide on them, by a jackknife that leaves the
    balls as they are: 0.8 to 2.5 times the spread of repetitions. Raises ValueError for fewer than 10 rows.
    """
    x, y = checked(x=x, y=y)
    in_y, in_x = _inside(x, y), _inside(y, x)
    balls, members = in_y.sum(1).double() / NEIGHBOURS, in_y.sum(0).double() / NEIGHBOURS * len(y) / len(x)
    return {
        "precision": _reached(in_y),
        "recall": _reached(in_x),
        "density": Estimate(balls.mean().item(), math.sqrt(balls.var() / len(x) + members.var() / len(y))),
        "coverage": _reached(in_y.T),
    }


def classifier_test(x: Rows, y: Rows, *, generator: Generator) -> Estimate:
    """Return how well boosted trees tell samples x from rows y that they have not seen: the area under the ROC curve.

    1/2 is what equal laws give and 1 is a perfect distinction (Lopez-Paz and Oquab, 2017): the mean over five parts of
    the probability that a row of x is ranked above one of y. The error is that of DeLong et al., 1988, in a part,
    times sqrt(1/5 + 1/4) because parts share what they learn from (Nadeau and Bengio, 2003). Takes at most 2,000 rows
    of either. Raises ValueError for fewer than 10.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.model_selection import StratifiedKFold

    x, y = (draw(part, CLASSIFIER_ROWS, generator) for part in checked(x=x, y=y))
    rows, label = torch.cat([x, y]).numpy(), (torch.arange(len(x) + len(y)) < len(x)).numpy()
    seed = integer(generator) % 2**31
    values, variance = [], 0.0
    for learnt, asked in StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(rows, label):
        trees = HistGradientBoostingClassifier(max_iter=50, random_state=seed).fit(rows[learnt], label[learnt])
        found, of_x = torch.from_numpy(trees.predict_proba(rows[asked])[:, 1]), torch.from_numpy(label[asked])
        below, above = share_above(found[~of_x], found[of_x]), 1 - share_above(found[of_x], found[~of_x])
        values.append(above.mean().item())
        variance += below.var().item() / len(below) + above.var().item() / len(above)
    error = math.sqrt(variance / FOLDS * (1 / FOLDS + 1 / (FOLDS - 1)))
    return Estimate(sum(values) / FOLDS, max(error, 1 / min(len(x), len(y))))


def frechet_distance(x: Rows, y: Rows) -> Estimate:
    """Return the Frechet distance of the Gaussians that have the moments of x and y, in squared units of the rows.

    |m - n|^2 + tr(A + B - 2 (A B)^(1/2)), means m and n, covariances A and B (Heusel et al., 2017). Equal laws are not
    at 0 but at about tr A (1/n + 1/m) and more, so compare with real rows. The error is that of a jackknife over 20
    parts of the rows, which is about 1.4 times too large for equal laws. Raises ValueError for fewer than 10 rows.
    """
    x, y = checked(x=x, y=y)
    parts = min(PARTS, len(x), len(y))
    without = lambda rows, k: rows[torch.arange(len(rows)) % parts != k]
    left = torch.tensor([_frechet(without(x, k), without(y, k)) for k in range(parts)])
    error = math.sqrt((parts - 1) * float(left.var(correction=0)))
    return Estimate(_frechet(x, y), error)


def _frechet(x: Tensor, y: Tensor) -> float:
    a, b = (torch.cov(rows.T).reshape(2 * rows.shape[1:]) for rows in (x, y))
    values, vectors = torch.linalg.eigh(a)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    cross = torch.linalg.eigvalsh(root @ b @ root).clamp(min=0).sqrt().sum()
    return float((x.mean(0) - y.mean(0)).square().sum() + a.trace() + b.trace() - 2 * cross)


def describe(samples: Rows, held_out: Rows, train: Rows, *, generator: Generator) -> dict[str, Comparison]:
    """Return each description of samples against held-out rows, beside that of training against held-out rows.

    Both take as many rows as the smallest of the three has, at most 5,000, drawn at random. Raises ValueError for fewer
    than 10 rows.
    """
    samples, held_out, train = checked(samples=samples, held_out=held_out, train=train)
    n = min(len(samples), len(held_out), len(train), ROWS)
    x, y, real = (draw(rows, n, generator) for rows in (samples, held_out, train))
    model, floor = precision_recall(x, y), precision_recall(real, y)
    told = [classifier_test(rows, y, generator=generator) for rows in (x, real)]
    return {name: Comparison(model[name], floor[name]) for name in model} | {"classifier_auc": Comparison(*told)}


def _inside(x: Tensor, y: Tensor) -> Tensor:
    """Return which rows of x (n, d) are in which balls of y (m, d): (n, m)."""
    distances = lambda rows: (
        torch.cdist(part, y, compute_mode="donot_use_mm_for_euclid_dist") for part in rows.split(1024)
    )
    radii = torch.cat([block.kthvalue(NEIGHBOURS + 1).values for block in distances(y)])  # the first is the row itself
    return torch.cat([block <= radii for block in distances(x)])


def _reached(pairs: Tensor) -> Estimate:
    """Return the share of the n rows of (n, m) pairs with any pair, and its error from the rows of both sides."""
    n, m = pairs.shape
    count = pairs.sum(1)
    alone = (pairs & (count == 1)[:, None]).sum(0).double()  # how many rows each of the m alone reaches
    found = share(count > 0)
    return Estimate(found.value, math.sqrt(found.stderr**2 + m * alone.var().item() / n**2))
