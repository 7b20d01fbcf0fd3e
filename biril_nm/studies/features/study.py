"""Is a learned filter bank worth it? One seed of the comparison with banks that learned nothing.

A random filter bank with a linear readout is good already, and accuracy alone proves nothing
about learning. The study compares accuracy at few and at many labels, and the share of neurons that
spike, on the same images and labels, with the same readout. Controls are tuned on training images; the
test images are seen once, at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from biril_nm.arguments import Seed, checked
from biril_nm.data import DataSet
from biril_nm.studies.features.latency import latency_code
from biril_nm.studies.features.learner import (
    FeatureConfig,
    FilterBank,
    binary_bank,
    initial_bank,
    learn_filters,
)
from biril_nm.studies.ridge import fit_ridge

__all__ = ["BankResult", "StudyConfig", "compare_banks"]

Bytes = NDArray[np.uint8]
Labels = NDArray[np.int64]


@checked
@dataclass(frozen=True)
class StudyConfig:
    """Settings of one comparison.

    Attributes:
        features: settings of the filters.
        n_unlabelled: training images from which filters learn, each once.
        labels: label counts of the readouts; ``None`` stands for all training images.
        draws: label sets over which accuracy at few labels is averaged.
        few: label counts up to here use ``draws`` sets.
        n_tune: images on each side (readout, validation) when controls are tuned.
        density: share of ones in the random control.
        densities: shares tried for the stronger control, whose density is tuned as well.
        thresholds: tried for both, in units of the largest weight.
        pool: side of a pooling cell.
        upscale: repeat pixels this often in both directions first.
        min_contrast: see :func:`latency_code`.
    """

    features: FeatureConfig = field(default_factory=FeatureConfig)
    n_unlabelled: int = 6000
    labels: tuple[int | None, ...] = (200, 1000, 5000, None)
    draws: int = 10
    few: int = 1000
    n_tune: int = 3000
    density: float = 0.3
    densities: tuple[float, ...] = (0.05, 0.1, 0.15, 0.2, 0.3)
    thresholds: tuple[float, ...] = (1, 2, 3, 4, 5, 6, 7, 8, 10)
    pool: int = 4
    upscale: int = 1
    min_contrast: int = 10


@dataclass(frozen=True)
class BankResult:
    """Result of one filter bank.

    Attributes:
        name: what it is.
        accuracy: at each label count, 0..1.
        spiking: share of neurons that spike; input cells for the input itself.
        note: what was tuned.
    """

    name: str
    accuracy: tuple[float, ...]
    spiking: float
    note: str = ""


@checked
def compare_banks(
    data: DataSet,
    config: StudyConfig | None = None,
    seed: Seed = 0,
    progress: Callable[[str], None] = lambda _: None,
) -> list[BankResult]:
    """Learned filters and controls on one data set, for one seed.

    Args:
        data: images of one channel.
        config: settings.
        seed: of filters, label sets and choice of unlabelled images.
        progress: called with the name of each bank before it is measured.

    Returns:
        The learned bank first, the input without filters last.
    """
    config = config or StudyConfig()
    times = [_times(part.raw, part.top, config) for part in (data.train, data.test)]
    labels = [data.train.labels, data.test.labels]
    random = np.random.default_rng([seed, 3])
    chosen = random.permutation(len(times[0]))[: config.n_unlabelled]
    results = []
    progress("learning filters")
    for bank, name, note in _banks(times[0], labels[0], chosen, config, seed, progress):
        progress(name)
        found = [bank.features(part, config.pool) for part in times]
        accuracy = _accuracies(found[0].values, labels[0], found[1].values, labels[1], config, seed)
        results.append(BankResult(name, accuracy, found[1].spiking, note))
    progress("contrast latency")
    flat = [_strength(part, config.features.n_steps) for part in times]
    accuracy = _accuracies(flat[0], labels[0], flat[1], labels[1], config, seed)
    results.append(
        BankResult("contrast latency, no filters", accuracy, float((flat[1] > 0).mean()))
    )
    return results


def _banks(
    times: Bytes,
    labels: Labels,
    chosen: NDArray[np.int64],
    config: StudyConfig,
    seed: Seed,
    progress: Callable[[str], None],
) -> Iterator[tuple[FilterBank, str, str]]:
    features = config.features
    learned = learn_filters(times[chosen], features, seed)
    note = f"threshold {features.threshold:g}, then {features.response_threshold:g}"
    yield learned, f"learned, '{features.rule.name}' int8", note
    progress("tuning controls")
    for name, densities in (
        (f"random binary {config.density:.0%}", (config.density,)),
        ("random binary, density tuned", config.densities),
    ):
        density, threshold = _tuned(times, labels, densities, config, seed)
        bank = binary_bank(config.features, density, threshold, seed=seed)
        yield bank, name, f"density {density:g}, threshold {threshold:g}"
    shuffled = np.random.default_rng([seed, 4]).permuted(
        learned.weight.reshape(len(learned.weight), -1), axis=1
    )
    weight = shuffled.reshape(learned.weight.shape)
    yield replace(learned, weight=weight), "learned, places shuffled", ""
    yield initial_bank(config.features, seed=seed), "initial weights", ""


def _tuned(
    times: Bytes, labels: Labels, densities: Sequence[float], config: StudyConfig, seed: Seed
) -> tuple[float, float]:
    """Density and threshold with the best accuracy at the smallest label count, on training images."""
    n = min(config.n_tune, len(times) // 2)
    first, second = slice(0, n), slice(len(times) - n, None)
    count = config.labels[0] or n
    best, winner = -1.0, (densities[0], config.thresholds[0])
    for density in densities:
        for threshold in config.thresholds:
            bank = binary_bank(config.features, density, threshold, seed=seed)
            x = bank.features(times[first], config.pool).values
            z = bank.features(times[second], config.pool).values
            score = _mean_accuracy(x, labels[first], z, labels[second], count, config.draws, seed)
            if score > best:
                best, winner = score, (density, threshold)
    return winner


def _accuracies(
    x: Bytes, y: Labels, z: Bytes, target: Labels, config: StudyConfig, seed: Seed
) -> tuple[float, ...]:
    found = []
    for count in config.labels:
        n = len(y) if count is None else min(count, len(y))
        draws = config.draws if n <= config.few else 1
        found.append(_mean_accuracy(x, y, z, target, n, draws, seed))
    return tuple(found)


def _mean_accuracy(
    x: Bytes, y: Labels, z: Bytes, target: Labels, n_labels: int, draws: int, seed: Seed
) -> float:
    """Accuracy of a readout on ``n_labels`` labels, mean over label sets; same sets for all banks."""
    scores = []
    for draw in range(draws):
        random = np.random.default_rng([seed, 5, draw])
        index = random.permutation(len(y))[:n_labels]
        scores.append(fit_ridge(x[index], y[index]).accuracy(z, target))
    return float(np.mean(scores))


def _times(raw: Bytes, top: int, config: StudyConfig) -> Bytes:
    grey = (raw[:, 0].astype(np.uint16) * (255 // top)).astype(np.uint8)
    grey = grey.repeat(config.upscale, axis=1).repeat(config.upscale, axis=2)
    return latency_code(grey, config.features.n_steps, config.min_contrast)


def _strength(times: Bytes, n_steps: int) -> Bytes:
    """Spike times as features: the earlier, the larger; 0 for none."""
    flat = times.reshape(len(times), -1)
    return np.where(flat > 0, n_steps + 1 - flat, 0).astype(np.uint8)
