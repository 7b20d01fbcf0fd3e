"""Feature learning: integer updates against a scalar reference, competition, responses, controls."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from biril_nm.data import load_data
from biril_nm.errors import ConfigError
from biril_nm.learning.rule import LearningRule, Term, Trace
from biril_nm.learning.rules import DELTA, OFFSET, OJA, PAIR
from biril_nm.studies.features import kernels as feature_kernels
from biril_nm.studies.features.latency import dog_kernel, latency_code
from biril_nm.studies.features.learner import (
    FeatureConfig,
    FilterBank,
    binary_bank,
    initial_bank,
    learn_filters,
    post_terms,
)
from biril_nm.studies.features.study import StudyConfig, compare_banks
from biril_nm.studies.ridge import fit_ridge

ROOT = Path(__file__).parents[2]


def random_times(n: int = 20, side: int = 10, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    times = random.integers(1, 9, (n, 2, side, side))
    return np.where(random.random(times.shape) < 0.3, times, 0).astype(np.uint8)


# --- input --------------------------------------------------------------------------------------


def test_contrast_filter_is_an_integer_difference_of_gaussians() -> None:
    kernel = dog_kernel()
    assert kernel.shape == (7, 7)
    assert kernel.sum() == 0
    assert kernel[3, 3] > 0 > kernel[0, 3]
    np.testing.assert_array_equal(kernel, kernel[::-1, ::-1])


def test_strong_contrast_spikes_first_and_each_step_takes_as_many() -> None:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (3, 12, 12), dtype=np.uint8)
    times = latency_code(images, n_steps=4)
    padded = np.pad(images.astype(np.int64), ((0, 0), (3, 3), (3, 3)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (7, 7), axis=(1, 2))
    contrast = (windows * dog_kernel()).sum(axis=(3, 4))
    for image, d in zip(times, contrast):
        both = np.stack([d, -d])
        assert ((image > 0) == (both > 10 << 10)).all()
        first, last = both[image == 1], both[image == 4]
        assert first.min() >= last.max()
        counts = np.bincount(image.ravel(), minlength=5)[1:]
        assert counts.max() - counts.min() <= 1
        assert counts.min() > 0


def test_an_empty_image_is_silent_and_wrong_images_are_refused() -> None:
    assert not latency_code(np.full((1, 9, 9), 0, np.uint8)).any()
    with pytest.raises(ConfigError, match="expected bytes"):
        latency_code(np.zeros((1, 9, 9)))
    with pytest.raises(ConfigError, match="n_steps is 256"):
        latency_code(np.zeros((1, 9, 9), np.uint8), n_steps=256)


# --- update -------------------------------------------------------------------------------------


def reference_change(rule: LearningRule, w: int, x1: int, random: int) -> int:
    """Lava's product series in plain integers (learning_rule_applier.py of lava-nc 0.10.0)."""
    acc = w * 128
    for term in rule.dw:
        product = term.signed_mantissa
        for factor in term.operands:
            product *= {"x1": x1, "w": w}[factor.variable]
        shifted = (product // 2**term.shift) * Fraction(2) ** (term.exp + 7)
        acc = int(max(-32769, min(32767, acc + max(-32769, min(32767, shifted)))))
    acc = max(acc, 0)
    return min(255, acc // 128 + (1 if random < acc % 128 else 0))


@pytest.mark.parametrize("rule", [OFFSET, OJA], ids=lambda rule: rule.name)
def test_every_update_equals_the_reference(rule: LearningRule) -> None:
    terms = post_terms(rule)
    moved = set()
    for w in range(0, 256, 5):
        for x1 in (*range(0, 128, 3), 127):
            for random in (0, 17, 64, 127):
                new = feature_kernels.changed_weight(w, x1, terms, random)
                assert new == reference_change(rule, w, x1, random)
                moved.add(np.sign(new - w))
    assert moved == {-1, 0, 1}


def test_one_winner_learns_what_it_saw() -> None:
    times = np.zeros((1, 2, 5, 5), np.uint8)
    times[0, 0] = 1  # all of it is seen from the middle alone
    times[0, 1, 0, :] = 8  # too late for the post spike of step 1
    config = FeatureConfig(n_filters=1, winners=1, threshold=5, eta=0)
    before = initial_bank(config, seed=3).weight[0].astype(int)
    after = learn_filters(times, config, seed=3)
    change = after.weight[0].astype(int) - before
    seen = times[0] == 1
    # 127 / 16 - 4 = 3.94 up, 4 down
    assert set(change[seen & (before < 250)]) <= {3, 4}
    assert set(change[~seen]) == {-4}
    assert after.wins.tolist() == [1]


def test_a_filter_wins_once_per_sample_and_winners_keep_their_distance() -> None:
    times = random_times(30)
    config = FeatureConfig(n_filters=6, winners=5, radius=10)
    assert learn_filters(times, config, seed=0).wins.sum() == 30
    config = FeatureConfig(n_filters=3, winners=5, radius=0)
    wins = learn_filters(times, config, seed=0).wins
    assert wins.tolist() == [30, 30, 30]


def test_thresholds_spread_the_wins() -> None:
    times = random_times(300, seed=4)
    wins = {
        eta: learn_filters(times, FeatureConfig(n_filters=16, winners=2, eta=eta), seed=1).wins
        for eta in (0.0, 0.02)
    }
    assert wins[0.02].std() < wins[0.0].std()
    assert wins[0.02].min() > 0


def test_learning_depends_on_its_seed_alone() -> None:
    times = random_times(50)
    first, again, other = (learn_filters(times, seed=s).weight for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_weights_become_binary_under_the_offset_rule() -> None:
    pattern = random_times(1, seed=7)
    weight = learn_filters(pattern.repeat(200, axis=0), FeatureConfig(n_filters=4), seed=0).weight
    # growth saturates in the 16-bit accumulator before the offset is taken off: 255 - 127/16 + 4 < 252
    assert set(np.unique(weight)) == {0, 252}
    assert 0.02 < (weight > 0).mean() < 0.6


@pytest.mark.parametrize(
    "rule",
    [PAIR, DELTA, LearningRule("s", (Term(1, 0, ("y0", "(x1-3)")),), traces={"x1": Trace(1, 1)})],
    ids=lambda rule: rule.name,
)
def test_rules_that_need_more_than_a_post_spike_are_refused(rule: LearningRule) -> None:
    with pytest.raises(ConfigError, match=r"cannot learn features.*'offset' and 'oja'"):
        FeatureConfig(rule=rule)


def test_settings_are_checked() -> None:
    with pytest.raises(ConfigError, match="odd size"):
        FeatureConfig(size=4)
    with pytest.raises(ConfigError, match="positive thresholds"):
        FeatureConfig(threshold=0)
    slow = LearningRule("slow", OFFSET.dw, traces=OFFSET.traces, t_epoch=2)
    with pytest.raises(ConfigError, match="t_epoch 1"):
        FeatureConfig(rule=slow)


# --- responses ----------------------------------------------------------------------------------


def test_responses_against_a_direct_sum() -> None:
    times = random_times(4, side=9, seed=2)
    bank = FilterBank(initial_bank(FeatureConfig(n_filters=3)).weight, threshold=2500)
    found = bank.features(times, pool=3, n_threads=3)
    first = np.zeros((4, 9, 9, 3), int)
    for step in range(8, 0, -1):
        seen = np.pad((times > 0) & (times <= step), ((0, 0), (0, 0), (2, 2), (2, 2)))
        windows = np.lib.stride_tricks.sliding_window_view(seen, (5, 5), axis=(2, 3))
        potential = np.einsum("ncyxij,fcij->nyxf", windows.astype(int), bank.weight.astype(int))
        first[potential > 2500] = step
    value = np.where(first > 0, 9 - first, 0)
    pooled = value.reshape(4, 3, 3, 3, 3, 3).max(axis=(2, 4))
    np.testing.assert_array_equal(found.values, pooled.reshape(4, -1))
    assert found.spiking == (first > 0).mean()
    assert 0.01 < found.spiking < 0.99
    higher = replace(bank, threshold=2600).features(times, pool=3)
    assert (higher.values != found.values).any()


def test_random_control() -> None:
    bank = binary_bank(FeatureConfig(n_filters=400), density=0.3, threshold=6)
    assert set(np.unique(bank.weight)) == {0, 255}
    assert abs((bank.weight > 0).mean() - 0.3) < 0.02
    assert bank.threshold == 6 * 255


# --- readout ------------------------------------------------------------------------------------


def test_ridge_is_the_same_from_samples_and_from_features() -> None:
    random = np.random.default_rng(0)
    centres = random.normal(size=(10, 60)) * 4
    y = random.integers(0, 10, 400)
    x = np.rint(centres[y] + random.normal(size=(400, 60)) * 6).astype(np.int16)
    for n in (59, 400):  # sample space, feature space
        ridge = fit_ridge(x[:n], y[:n])
        z = x[:n] - x[:n].mean(axis=0)
        target = np.eye(10)[y[:n]] - np.bincount(y[:n], minlength=10) / n
        penalty = ridge.strength * (z**2).sum() / 60
        wanted = np.linalg.solve(z.T @ z + penalty * np.eye(60), z.T @ target)
        np.testing.assert_allclose(ridge.weight, wanted, atol=2e-5 * np.abs(wanted).max())
    assert ridge.accuracy(x, y) > 0.95
    assert fit_ridge(x[:59], y[:59]).accuracy(x[59:], y[59:]) > 0.6
    with pytest.raises(ConfigError, match="at least 2"):
        fit_ridge(x[:1], y[:1])


# --- the comparison -----------------------------------------------------------------------------


def test_learned_filters_are_worth_more_than_controls() -> None:
    config = StudyConfig(
        features=FeatureConfig(n_filters=16, response_threshold=6),
        n_unlabelled=600,
        labels=(100, None),
        draws=3,
        n_tune=300,
        densities=(0.1, 0.3),
        thresholds=(4, 6),
        upscale=2,
    )
    seen: list[str] = []
    results = compare_banks(load_data("digits"), config, seed=0, progress=seen.append)
    names = [result.name for result in results]
    assert names[0] == "learned, 'offset' int8"
    assert names[-1] == "contrast latency, no filters"
    assert set(names) <= {*seen} | {names[-1]}
    learned, random, _, shuffled, initial, _ = results
    assert learned.accuracy[1] > 0.95
    assert learned.accuracy[0] > max(shuffled.accuracy[0], initial.accuracy[0] + 0.2)
    assert learned.spiking < random.spiking
    assert results == compare_banks(load_data("digits"), config, seed=0)


@pytest.mark.slow
def test_the_example_runs() -> None:
    command = [sys.executable, ROOT / "examples" / "stdp_features.py", "--quick", "--seeds", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ})
    assert "learned minus random binary 30%" in done.stdout
