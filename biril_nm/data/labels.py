"""Labels: the class of each sample, checked in one way by all that take them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from biril_nm.errors import ConfigError

__all__ = ["N_DIGITS", "check_labels"]

N_DIGITS = 10  # classes of data sets of digits


def check_labels(
    labels: Any, n_samples: int, n_classes: int | None = None, samples: str = "samples"
) -> NDArray[np.int64]:
    """Classes ``(n_samples,)`` as integers.

    Args:
        labels: whole numbers, one for each sample.
        n_samples: samples that they belong to.
        n_classes: labels are below it; None: any from 0.
        samples: what is counted, for the message, with its shape where that helps.

    Raises:
        ConfigError: another number of labels than of samples, another shape, fractions, or a class that
            is not there.
    """
    found = np.asarray(labels)
    if found.ndim != 1:
        advice = (
            ". Turn rows of scores or one-hot rows into classes with .argmax(axis=1)"
            if found.ndim == 2
            else ""
        )
        raise ConfigError(
            f"labels have shape {found.shape}; expected ({n_samples},), the class of each sample{advice}"
        )
    if len(found) != n_samples:
        raise ConfigError(
            f"there are {len(found)} labels for {n_samples} {samples}; expected one for each sample"
        )
    whole = found.dtype.kind in "biu" or (
        found.dtype.kind == "f" and bool(np.all(np.isfinite(found) & (found == np.rint(found))))
    )
    if not whole:
        raise ConfigError(f"labels are of type {found.dtype}, not whole numbers; expected classes")
    top = np.inf if n_classes is None else n_classes - 1
    if found.size and not (found.min() >= 0 and found.max() <= top):
        expected = "0 or more" if n_classes is None else f"0 to {n_classes - 1}"
        raise ConfigError(
            f"labels are {found.min():.0f} to {found.max():.0f}; expected {expected}, the classes that "
            f"the network or the data set has"
        )
    return np.asarray(found, dtype=np.int64)
