"""Data sets by name: the registry, and the way from a name to a data set.

Values are in 0..1, images (C, H, W), labels integers. ``digits`` is scikit-learn's bundled 8x8 set; the
others are read from a folder, pictures by torchvision and events by tonic. Nothing is downloaded unless
it is asked for.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from biril_nm.arguments import Seed, checked, unknown_name
from biril_nm.data.batches import Batches, Loaders, make_loaders
from biril_nm.data.downloads import library
from biril_nm.data.event_sets import EVENT_SOURCES
from biril_nm.data.labels import N_DIGITS
from biril_nm.data.mnist import MNIST
from biril_nm.data.pictures import PICTURE_SOURCES
from biril_nm.data.sources import DATA_ROOT_VARIABLE, DataSource, Request, parse_name
from biril_nm.data.splits import DataSet, Split
from biril_nm.data.spoken import SPOKEN
from biril_nm.errors import ConfigError

__all__ = [
    "DATASETS",
    "Batches",
    "DataSet",
    "Loaders",
    "Split",
    "find_data",
    "load_data",
    "make_loaders",
]

DIGITS_TEST_SHARE = 0.2
SMALL_SEED = (1 << 32) - 1  # largest seed that scikit-learn takes as it is
DIGITS_TOP = 16  # values of scikit-learn's digits are 0..16
MIXING_SEED = 0


@checked
def load_data(
    name: str,
    data_root: str | Path | None = None,
    seed: Seed = 0,
    download: bool = False,
) -> DataSet:
    """The data set called ``name``.

    Args:
        name: one of :data:`DATASETS`, with options as ``"pictures:side=32"``.
        data_root: folder of data sets; default is the environment variable BIRIL_DATA.
        seed: seed of the division into training and test part, where the set has none.
        download: let the library fetch files that are missing.

    Raises:
        ConfigError: unknown name or option, or the files are not where they should be.
        FileFormatError: a damaged file.
        MissingDependencyError: the library that reads the set is missing.
    """
    request = find_data(name, data_root, seed, download)
    data = request.source.load(request)
    return replace(data, train=_mixed(data.train), test=_mixed(data.test))


def _mixed(part: Split) -> Split:
    """A part that is sorted by class, as folders are, in a fixed order whose first samples stand for all."""
    if not len(part) or np.any(np.diff(part.labels) < 0):
        return part
    return part.take(np.random.default_rng(MIXING_SEED).permutation(len(part)))


@checked
def find_data(
    name: str,
    data_root: str | Path | None = None,
    seed: Seed = 0,
    download: bool = False,
) -> Request:
    """What :func:`load_data` of the same arguments loads; nothing is read.

    Raises:
        ConfigError: unknown name or option, or an argument that the data set does not take.
    """
    bare, given = parse_name(name, DATASETS)
    if bare not in DATASETS:
        unknown = unknown_name("data set", bare, DATASETS)
        own = ". Train on samples of your own by biril_nm.fit; commands that run them have --spikes"
        raise ConfigError(unknown + own if Path(bare).suffix else unknown)
    source = _as_source(bare, DATASETS[bare])
    if data_root is not None and not source.files:
        raise ConfigError(
            f"data_root is '{data_root}', and data set '{bare}' is built in; expected none. Leave data_root "
            f"(--data-root) out, or choose another data set"
        )
    if download and not source.downloads:
        raise ConfigError(
            f"download is set, and nothing fetches data set '{bare}'. Leave download (--download) out"
            f"{'. ' + source.expected('ROOT') if source.files else ''}"
        )
    root = data_root or os.environ.get(DATA_ROOT_VARIABLE)
    options = _options(source, given)
    return Request(source, Path(root) if root else None, seed, options, download)


def _options(source: DataSource, given: Mapping[str, str]) -> dict[str, Any]:
    unknown = [key for key in given if key not in source.options]
    if unknown and not source.options:
        raise ConfigError(
            f"data set '{source.name}' is given options {', '.join(unknown)}; expected none. Leave them out"
        )
    for key in unknown:
        raise ConfigError(unknown_name(f"option of data set '{source.name}'", key, source.options))
    return {
        key: option.parse(key, given[key]) if key in given else option.default
        for key, option in source.options.items()
    }


def _as_source(name: str, entry: DataSource | Callable[[Path | None, int], DataSet]) -> DataSource:
    if isinstance(entry, DataSource):
        return entry
    warnings.warn(
        f"DATASETS['{name}'] is a function (root, seed); a biril_nm.data.DataSource takes its place",
        DeprecationWarning,
        stacklevel=3,
    )
    return DataSource(name, name, lambda r: entry(r.root, r.seed), files="its files")


def _digits(request: Request) -> DataSet:
    library("sklearn", "load data set 'digits'")
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    seed = request.seed
    bunch = load_digits()
    raw = bunch.images.astype(np.uint8)[:, None]
    labels = bunch.target.astype(np.int64)
    state = seed if seed <= SMALL_SEED else int(np.random.SeedSequence(seed).generate_state(1)[0])
    train, test = train_test_split(
        np.arange(len(labels)), test_size=DIGITS_TEST_SHARE, random_state=state, stratify=labels
    )
    first, second = (Split(raw[index], labels[index], DIGITS_TOP) for index in (train, test))
    return DataSet("digits", first, second, n_classes=N_DIGITS)


DIGITS = DataSource(
    "digits",
    "digits of scikit-learn",
    _digits,
    get="It comes with scikit-learn.",
    shape="1 x 8 x 8",
    classes=N_DIGITS,
)

# Name of a data set -> its source.
DATASETS: dict[str, Any] = {
    source.name: source for source in (DIGITS, MNIST, SPOKEN, *PICTURE_SOURCES, *EVENT_SOURCES)
}
