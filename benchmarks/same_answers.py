"""What the names of the package are and what its estimators answer, to the last digit; `same_outputs.py` records it.

Reads few.csv and images.npy, which that script writes, and leaves three RUN folders beside them.

    python benchmarks/same_answers.py
"""

import inspect
import math
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
from sklearn.datasets import load_digits

import scorefield as sf


def main() -> None:
    """Print the names of the package with their parameters, and what the estimators answer."""
    for name in sorted(sf.__all__):
        value = getattr(sf, name)
        told = list(value) if isinstance(value, dict) else parameters(value) if callable(value) else ""
        print(name, "class" if isinstance(value, type) else type(value).__name__, told)
    ring, images, labels = pd.read_csv("few.csv"), np.load("images.npy"), load_digits().target[:12]
    process = sf.LinearSDE(lambda t: -(6 * t).sin(), lambda t: 6 + 6 * t)
    table = sf.ScoreDensity(max_iter=20, random_state=0, bounds={"income": (0, math.inf)}).fit(ring)
    linear = sf.ScoreDensity(process=process, max_iter=20, random_state=1).fit(ring.to_numpy())
    pictures = sf.ImageDensity(max_iter=4, random_state=0).fit(images, labels)
    for folder, estimator, given in (
        ("table", table, [ring[:4]]),
        ("linear", linear, [ring[:4].to_numpy()]),
        ("pictures", pictures, [images[:2], labels[:2]]),
    ):
        estimator.save(folder)
        for one in (estimator, sf.load(folder)):
            print(folder, one, one.losses_, one.n_iter_, one.score_ratio_, sep="\n")
            for line in answers(one, given):
                print(folder, line)


def answers(estimator: object, given: list) -> Iterator[str]:
    """Yield what a fitted estimator answers to rows, or to images and labels, to the last digit."""
    for name in ("score_samples", "score", "score_function", "log_prob", "lower_bound"):
        if hasattr(estimator, name):
            found = getattr(estimator, name)(*given)
            values = found if isinstance(found, tuple) else (found,)
            yield from (f"{name} {type(value).__name__} {np.asarray(value).tolist()}" for value in values)
    drawn = estimator.sample(5, random_state=2, steps=6)
    yield f"sample {type(drawn).__name__} {np.asarray(drawn).dtype} {np.asarray(drawn).tolist()}"


def parameters(value: Callable) -> list[str]:
    """Return the parameters of a function or a class, with defaults that are plain values."""
    found, plain = inspect.signature(value).parameters.values(), int | float | str | None
    return [f"{p.name}={p.default}" if isinstance(p.default, plain) else p.name for p in found]


if __name__ == "__main__":
    main()
