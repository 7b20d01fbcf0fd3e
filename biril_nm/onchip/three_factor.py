"""Learning rules of training as three-factor rules of the chip: what a neuron program or a host delivers.

Rules of the form ``dW = sum_t q_t (x) ex_t`` with a filtered input ``ex_t = alpha ex_{t-1} + x_t`` run as

    dw = 2^(exp - 3) u x1 (y2 - y3)       x1 = ex, tau = -1 / ln(alpha);   y2 = max(q, 0), y3 = max(-q, 0)

of :func:`biril_nm.learning.rules.three_factor_rule`. q is, with fixed random projections B:

- BRP, DRTP: ``q = B^T label``, constant during a sample, gated by the neuron's spike;
- DFA: ``q = B^T (label - output)``, gated in the same way;
- ES-D-RTRL: ``q_t = l_t ef_t``, the learning signal times the neuron's own filtered derivative, which is no
  trace of the chip, because it depends on the state: the neuron program or the host computes it.

Source: C. Wang et al., "Model-agnostic linear-memory online learning in spiking neural networks", Nature
Communications 17 (2026), for ES-D-RTRL.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biril_nm.arguments import Numbers, Seed, checked
from biril_nm.errors import ConfigError
from biril_nm.hardware_sim import Simulator
from biril_nm.hw_graph import Dense, Input, LoihiGraph, Neurons
from biril_nm.hw_graph.plastic import make_plastic
from biril_nm.learning.rule import LearningRule
from biril_nm.learning.rules import three_factor_rule
from biril_nm.loihi import TRACE_BITS, TRACE_MAX

__all__ = ["filter_rule", "signed_factors", "three_factor_update", "update_cosine"]

SILENT_VTH = (1 << 17) - 1  # of neurons that only learn


@checked
def signed_factors(
    q: Numbers, top: float | None = None
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """A signed factor as two of the chip: ``y2 - y3 = round(127 q / top)``, each 0..127.

    Args:
        q: values of any shape.
        top: size that becomes 127, beyond which values saturate; by default the largest.

    Raises:
        ConfigError: a top that is not above 0.
    """
    values = np.asarray(q, dtype=np.float64)
    largest = float(np.abs(values).max(initial=0.0)) or 1.0
    if top is not None and not 0 < top < math.inf:
        raise ConfigError(f"top is {top}; expected a number above 0")
    whole = np.rint(np.clip(values / (top or largest), -1, 1) * TRACE_MAX).astype(np.int32)
    return np.maximum(whole, 0), np.maximum(-whole, 0)


@checked
def filter_rule(
    alpha: float, rate: float, exp: int = -4, decimation: int = 0, seed: Seed = 0
) -> LearningRule:
    """The three-factor rule whose pre-trace is ``ex_t = alpha ex_{t-1} + x_t``.

    The impulse is the largest with which the trace of an input of this rate stays below 127 on average:
    ``impulse rate / (1 - alpha) <= 127``.

    Args:
        alpha: what a filter keeps per step, between 0 and 1.
        rate: spikes per step of the busiest inputs, above 0 to 1.
        exp: exponent as written, -7..8.
        decimation: learn at every 2**decimation-th step.
        seed: of the random streams.

    Raises:
        ConfigError: alpha or rate out of range.
    """
    if not (0 < alpha < 1 and 0 < rate <= 1):
        raise ConfigError(
            f"alpha is {alpha:g} and rate {rate:g}; expected alpha between 0 and 1, and a rate above 0 and "
            f"up to 1"
        )
    impulse = min(TRACE_MAX, int(TRACE_MAX * (1 - alpha) / rate))
    if impulse < 1:
        raise ConfigError(
            f"alpha is {alpha:g} and rate {rate:g}, for which x1 has room for no impulse; expected a shorter "
            f"filter or a lower rate"
        )
    tau = -1 / math.log(alpha)
    return three_factor_rule(exp, tau, impulse, decimation, "filtered", seed)


@checked
def three_factor_update(
    x: NDArray[Any], y2: NDArray[Any], y3: NDArray[Any], rule: LearningRule
) -> NDArray[np.int64]:
    """What the chip's weights become from 0 under given factors, ``(n_post, n_pre)``.

    Args:
        x: input spikes ``(n_steps, n_pre)``.
        y2, y3: factors ``(n_steps, n_post)`` in step with x: those of step t meet a trace that holds x_t.
        rule: a rule with x1, y2 and y3.
    """
    n_pre, n_post = x.shape[1], y2.shape[1]
    graph = LoihiGraph(
        {
            "in": Input((n_pre,)),
            "fc": Dense(np.zeros((n_post, n_pre), np.int32)),
            "n": Neurons((n_post,), vth=SILENT_VTH),
            "y2": Input((n_post,), TRACE_BITS),
            "y3": Input((n_post,), TRACE_BITS),
        },
        (("in", "fc"), ("fc", "n")),
    )
    graph = make_plastic(graph, "fc", rule, {"y2": "y2", "y3": "y3"})
    session = Simulator(graph, learn=True)
    # Factors from outside act on the answer to the input of their step, one step after it.
    early = {name: np.roll(a, -1, axis=0) for name, a in (("y2", y2), ("y3", y3))}
    first = {name: a[-1:] for name, a in early.items()}
    session.run(
        {"in": np.zeros((1, 1, n_pre), np.int32), **{k: a[:, None] for k, a in first.items()}}
    )
    late = {name: np.concatenate([a[:-1], np.zeros_like(a[:1])]) for name, a in early.items()}
    session.run({"in": x[:, None], **{name: a[:, None] for name, a in late.items()}})
    return session.graph.plastic["fc"].weight.astype(np.int64)


@checked
def update_cosine(a: Numbers, b: Numbers) -> float:
    """Cosine of the angle between two updates.

    Raises:
        ConfigError: other shapes, or one of them is 0.
    """
    one, two = (np.asarray(v, dtype=np.float64).ravel() for v in (a, b))
    size = float(np.linalg.norm(one) * np.linalg.norm(two)) if one.shape == two.shape else 0.0
    if not size:
        raise ConfigError(
            f"the updates have shapes {np.shape(a)} and {np.shape(b)} and sizes {np.abs(one).sum():g} and "
            f"{np.abs(two).sum():g}; expected equal shapes, and none of them 0"
        )
    return float(one @ two / size)
