"""Which differences between methods are beyond the error: of the seeds, and of the test samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from biril_nm.arguments import checked
from biril_nm.errors import ConfigError
from biril_nm.studies.grid.cell import CellResult
from biril_nm.studies.grid.summary import CONFIDENCE, Interval, interval

__all__ = ["Difference", "compare", "compare_all", "holm"]

MIN_SEEDS = 3  # of a claim: two that agree by chance have an interval of no width


@dataclass(frozen=True)
class Difference:
    """Accuracy of one method above that of another, with the same seeds.

    Attributes:
        method: name.
        control: name of the other.
        difference: in shares 0..1.
        p: probability of such a difference, or a greater one, where there is none (:func:`compare`);
            corrected where it is one of several (:func:`compare_all`).
        n_compared: comparisons for which p is corrected.
    """

    method: str
    control: str
    difference: Interval
    p: float = 1.0
    n_compared: int = 1

    @property
    def beyond_error(self) -> bool:
        """Whether p is below 5 %, over at least :data:`MIN_SEEDS` seeds."""
        return self.difference.n >= MIN_SEEDS and self.p < 1 - CONFIDENCE


@checked
def compare(results: Sequence[CellResult], method: str, control: str) -> Difference:
    """Paired difference of float test accuracies over the seeds that both have.

    A difference is beyond the error where both of its errors are too small for it; ``p`` is the greater of
    two probabilities.

    * Of the seeds: Student's paired t-test, ``t = mean / (s / sqrt(n))`` with n - 1 degrees of freedom.
    * Of the test samples: with ``g_x`` the number of seeds in which the method alone classifies sample x
      rightly, minus those in which the control alone does, ``z = (|sum g_x| - n) / sqrt(sum g_x^2)``, at
      least 0, on the normal distribution. With one seed that is McNemar's test with Edwards' correction for
      continuity (Psychometrika 12, 1947, 153; 13, 1948, 185). Seeds that measure the same samples are no
      further samples, so that their sums are what varies (Liang and Zeger, Biometrika 73, 1986, 13).

    Results that do not hold which samples were right have p = 1.

    Raises:
        ConfigError: they have no seed in common.
    """
    table = {(r.method, r.seed): r for r in results}
    seeds = [r.seed for r in results if r.method == method and (control, r.seed) in table]
    if not seeds:
        raise ConfigError(
            f"'{method}' and '{control}' have no seed in common; expected at least one"
        )
    pairs = [(table[method, seed], table[control, seed]) for seed in seeds]
    found = interval([ours.accuracy - theirs.accuracy for ours, theirs in pairs])
    return Difference(method, control, found, max(_of_seeds(found), _of_samples(pairs)))


def _of_seeds(found: Interval) -> float:
    """The t-test; equal differences have no spread, and say nothing against themselves."""
    if found.n == 1 or not found.mean:
        return 1.0
    if not found.half:
        return 0.0
    spread = found.half / float(stats.t.ppf(0.5 + CONFIDENCE / 2, found.n - 1))
    return float(2 * stats.t.sf(abs(found.mean) / spread, found.n - 1))


def _of_samples(pairs: Sequence[tuple[CellResult, CellResult]]) -> float:
    """McNemar's test, over sums of all seeds."""
    signs = [_signs(result) for pair in pairs for result in pair]
    gains = np.zeros(max(len(row) for row in signs))
    for index, row in enumerate(signs):
        gains[: len(row)] += -row if index % 2 else row
    error = float(np.sqrt(np.sum(gains**2)))
    if not error:
        return 1.0
    return float(2 * stats.norm.sf(max(0.0, abs(float(gains.sum())) - len(pairs)) / error))


def _signs(result: CellResult) -> NDArray[np.float64]:
    """1 for each sample that is right; 0 for the others, and for those that were not used."""
    text = np.frombuffer(result.right.encode(), np.uint8)
    return np.asarray(text == ord("1"), np.float64)


@checked
def compare_all(
    results: Sequence[CellResult], pairs: Sequence[tuple[str, str]]
) -> list[Difference]:
    """:func:`compare` of (method, control) pairs, with p corrected for their number by :func:`holm`.

    Pairs without a common seed are left out, as where cells have failed. Differences of fewer than
    :data:`MIN_SEEDS` seeds make no claim, and are not counted.
    """
    seeds: dict[str, set[int]] = {}
    for result in results:
        seeds.setdefault(result.method, set()).add(result.seed)
    both = [(a, b) for a, b in pairs if seeds.get(a, set()) & seeds.get(b, set())]
    gaps = [compare(results, method, control) for method, control in both]
    claims = [index for index, gap in enumerate(gaps) if gap.difference.n >= MIN_SEEDS]
    for index, p in zip(claims, holm([gaps[index].p for index in claims])):
        gaps[index] = replace(gaps[index], p=p, n_compared=len(claims))
    return gaps


@checked
def holm(p_values: Sequence[float]) -> list[float]:
    """Probabilities corrected for their number k, in their order (step-down Bonferroni).

    The i-th smallest becomes ``max over j <= i of min(1, (k - j + 1) p_j)``: the probability that any of
    those below 5 % is there by chance is at most 5 % (Holm, Scandinavian Journal of Statistics 6, 1979, 65).
    """
    corrected, so_far = [0.0] * len(p_values), 0.0
    for place, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        so_far = max(so_far, min(1.0, (len(p_values) - place) * float(p_values[index])))
        corrected[index] = so_far
    return corrected
