"""Differences are beyond the error where neither seeds nor test samples nor their number explain them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from biril_nm.errors import ConfigError
from biril_nm.studies.grid import compare, compare_all
from biril_nm.studies.grid.cell import CellResult
from biril_nm.studies.grid.verdicts import holm
from tests.support.command_line import biril


def result(method, seed, right):
    """A cell with these samples right."""
    text = "".join("1" if sample else "0" for sample in right)
    return CellResult(method, seed, "", (0.5,), 1, float(np.mean(right)), text)


def pair(gains, losses, seeds, n=1000):
    """Cells of ``a`` and ``b``; ``a`` alone is right on the first samples, ``b`` alone on the next."""
    cells = []
    for seed in range(seeds):
        ours, theirs = np.arange(n) % 2 == 0, np.arange(n) % 2 == 0
        gained, lost = gains + seed, losses
        ours[:gained], theirs[:gained] = True, False
        ours[gained : gained + lost], theirs[gained : gained + lost] = False, True
        cells += [result("a", seed, ours), result("b", seed, theirs)]
    return cells


def test_one_more_sample_in_each_of_three_seeds_is_within_the_error():
    base = np.arange(360) % 5 > 0
    cells = [result("b", seed, base) for seed in range(3)]
    cells += [result("a", seed, base | (np.arange(360) == 0)) for seed in range(3)]
    gap = compare(cells, "a", "b")
    assert gap.difference.half == 0 and gap.difference.mean == pytest.approx(1 / 360)
    assert gap.p == 1 and not gap.beyond_error


def test_one_seed_is_mcnemars_test_with_edwards_correction():
    cells = pair(30, 12, seeds=1)
    chi = (30 - 12 - 1) ** 2 / (30 + 12)
    assert stats.chi2.sf(chi, 1) < 0.05
    assert compare(cells, "a", "b").p == 1  # of one seed there is no error
    equal = [
        CellResult(c.method, seed, "", (0.5,), 1, c.accuracy, c.right)
        for c in cells
        for seed in range(3)
    ]
    assert compare(equal, "a", "b").p == pytest.approx(
        stats.chi2.sf(chi, 1)
    )  # three times the same samples


def test_other_samples_in_each_seed_add_up():
    cells = pair(30, 12, seeds=1, n=100)
    moved = [
        CellResult(c.method, seed, "", (0.5,), 1, c.accuracy, "-" * 100 * seed + c.right)
        for c in cells
        for seed in range(3)
    ]
    assert compare(moved, "a", "b").p == pytest.approx(2 * stats.norm.sf((54 - 3) / math.sqrt(126)))


def test_differences_are_paired_by_seed_and_need_three():
    cells = pair(100, 5, seeds=3)
    gap = compare(cells, "a", "b")
    assert gap.beyond_error and gap.difference.mean == pytest.approx(0.096)
    gaps = [0.095, 0.096, 0.097]
    assert gap.p == pytest.approx(stats.ttest_1samp(gaps, 0).pvalue, rel=1e-6)
    assert not compare(cells, "a", "a").beyond_error
    assert not compare([c for c in cells if c.seed < 2], "a", "b").beyond_error
    with pytest.raises(ConfigError, match="no seed in common"):
        compare(cells, "a", "c")


def test_results_without_their_samples_make_no_claim():
    cells = [
        CellResult(m, s, "", (0.5,), 1, x + s / 1e3)
        for m, x in (("a", 0.9), ("b", 0.5))
        for s in range(3)
    ]
    assert compare(cells, "a", "b").p == 1


def test_holm_is_the_step_down_bonferroni():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.6]) == [1, 1] and holm([]) == []


def test_many_comparisons_find_less_by_chance():
    rng, found, alone = np.random.default_rng(0), 0, 0
    for _ in range(100):
        cells = [result(m, s, rng.random(200) < 0.5) for m in "abcdefghk" for s in range(3)]
        gaps = compare_all(cells, [(m, "k") for m in "abcdefgh"])
        assert {gap.n_compared for gap in gaps} == {8}
        found += any(gap.beyond_error for gap in gaps)
        alone += any(compare(cells, m, "k").beyond_error for m in "abcdefgh")
    assert found <= 5 and found <= alone


def test_comparisons_of_few_seeds_are_not_counted():
    cells = pair(100, 5, seeds=3)
    cells += [result("c", 0, np.arange(1000) % 3 > 0)]
    first, second = compare_all(cells, [("a", "b"), ("c", "b")])
    assert first.n_compared == 1 and first.p == compare(cells, "a", "b").p
    assert second.difference.n == 1 and not second.beyond_error


def test_the_line_says_the_correction(tmp_path):
    (tmp_path / "x.toml").write_text(
        'name = "x"\ndataset = "digits"\nmodel = "mlp"\nepochs = 1\nn_train = 32\nn_validation = 20\n'
        "n_test = 20\nbits = []\nshifts = []\nmethods = [\n"
        '{name = "a", schedule = "B", train = {lr = 1e-6}}, {name = "b", schedule = "B"},\n'
        '{name = "plain", schedule = "B", role = "control"}]\n'
    )
    done = biril("study", tmp_path / "x.toml", "--out", tmp_path / "x")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("the error (p = ") + done.stdout.count("the error (p < ") == 2
    assert done.stdout.count(", corrected by Holm for 2 comparisons)") == 2
