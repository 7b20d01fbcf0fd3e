"""Parallel connections as one matrix of weights and one of delays, as netx has them."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import numpy as np

from biril_nm.arrays import IntArray
from biril_nm.export.netx.plan import LAVA_INSTEAD, Plan
from biril_nm.hw_graph import Connection, Conv, Sparse
from biril_nm.loihi import LOIHI2
from biril_nm.loihi.fixed_point import prepare_weights, shift_arithmetic

__all__ = ["INT32_LIMIT", "labels", "sum_up"]

log = logging.getLogger(__name__)

# Synapses of one dense matrix.
MAX_MATRIX = 1 << 27
INT32_LIMIT = 1 << 31


def labels(links: Mapping[str, Connection], key: str) -> dict[str, str]:
    """Names to give back when the file is read: one per matrix, or one per delay."""
    if len(links) == 1:
        return {key: next(iter(links))}
    delays = [link.delay for link in links.values()]
    if len(set(delays)) < len(delays):
        return {}
    return {f"{key}.delay{link.delay}": name for name, link in links.items()}


def sum_up(
    plan: Plan, name: str, links: Mapping[str, Connection]
) -> tuple[IntArray, IntArray] | None:
    """Weights and delays (scalar if shared) of parallel connections as one matrix."""
    count = len(plan.findings)
    total: dict[int, IntArray] = {}
    for label, link in links.items():
        matrix = _effective(plan, label, link)
        if matrix is not None:
            total[link.delay] = total.get(link.delay, np.zeros((), dtype=np.int64)) + matrix
    if len(plan.findings) > count:
        return None
    weight = np.asarray(sum(total.values()))
    used = sum((matrix != 0).astype(np.int64) for matrix in total.values())
    if np.any(np.asarray(used) > 1):
        plan.refuse(
            name, "has synapses with two delays", f"netx knows one delay each. {LAVA_INSTEAD}"
        )
    if max(total) > LOIHI2.delay_max or np.any(np.abs(weight) >= INT32_LIMIT):
        plan.refuse(name, "has delays or weights beyond the chip", "See biril info on the graph")
    delay = np.array(min(total))
    if len(total) > 1:
        delay = np.full(weight.shape, min(total))
        for steps, matrix in total.items():
            delay[matrix != 0] = steps
    return weight, delay


def _effective(plan: Plan, label: str, link: Connection) -> IntArray | None:
    """``weight << weight_exp`` as a matrix, if that is what the sums come to."""
    if isinstance(link, Conv):
        plan.refuse(label, "is a convolution beside a dense connection or in a loop", LAVA_INSTEAD)
        return None
    if link.weight.shape[0] * link.weight.shape[1] > MAX_MATRIX:
        plan.refuse(label, f"has shape {link.weight.shape}, too large to write out", LAVA_INSTEAD)
        return None
    if getattr(link, "rule", None) is not None:
        log.warning("'%s': netx has no learning; the weights stay as they are", label)
    weight = link.weight.toarray() if isinstance(link, Sparse) else link.weight
    wide = prepare_weights(weight, link.weight_bits, link.sign_mode)
    if link.weight_exp < 0 and np.any(wide % (1 << -link.weight_exp)):
        plan.refuse(
            label,
            f"has weight_exp {link.weight_exp}, which rounds sums of its weights down",
            f"netx has no such exponent. {LAVA_INSTEAD}, or lower with exponents from 0",
        )
        return None
    return shift_arithmetic(wide, link.weight_exp)
