"""A population over all steps from rest as one node of the graph of gradients, in compiled code."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from biril_nm.compartments import CUBA_LIF, CompartmentModel
from biril_nm.hardware_sim.engine.populations import reset_masks
from biril_nm.loihi import DECAY_UNITY
from biril_nm.neurons.surrogates import slope
from biril_nm.training.integers import records
from biril_nm.training.integers.kernels import run_back, run_steps
from biril_nm.training.integers.pooling import NO_POOL, Pool

__all__ = ["Form", "FusedRun", "advance_fused", "slope_of"]


@dataclass(frozen=True)
class Form:
    """What stays of a population.

    Attributes:
        shape: of the population.
        model: CUBA-LIF with any reset.
        keep_u, keep_v: what u and v keep of 4096 in a step, as they broadcast to ``shape``.
    """

    shape: tuple[int, ...]
    model: CompartmentModel
    keep_u: NDArray[Any]
    keep_v: NDArray[Any]

    @property
    def fits(self) -> bool:
        """Whether the decays are those that registers hold."""
        return all(k.min() >= 0 and k.max() <= DECAY_UNITY for k in (self.keep_u, self.keep_v))

    @property
    def rows(self) -> tuple[int, int]:
        """Channels, and neurons of each."""
        n_rows = self.shape[0] if len(self.shape) > 1 else 1
        return n_rows, int(np.prod(self.shape)) // n_rows

    def registers(self, bias: Tensor, theta: Tensor) -> records.Registers:
        """The record of the records."""
        keep = np.int32(self.keep_v.flat[0])
        simple = self.model is CUBA_LIF and not self.keep_u.any() and np.all(self.keep_v == keep)
        kind = records.ANY
        if simple:
            kind = records.IF if keep == DECAY_UNITY else records.LIF
        arrays = (self.keep_u, self.keep_v, bias.numpy(), theta.numpy())
        full = (np.broadcast_to(each, self.shape).reshape(self.rows) for each in arrays)
        keep_u, keep_v, drive, vth = (np.ascontiguousarray(x, dtype=np.int32) for x in full)
        inverse = (1 / vth).astype(np.float32)
        masks = reset_masks(self.model.reset)
        return records.Registers(kind, keep, keep_u, keep_v, drive, vth, inverse, masks)


@cache
def slope_of(name: str, surrogate: Any) -> records.Slope | None:
    """The surrogate as the kernels compute it; None: they do not know it."""
    name = name.partition(":")[0]
    if name not in records.SLOPES:
        return None
    at_0, at_1 = slope(surrogate, torch.tensor([0.0, 1.0], dtype=torch.float64)).tolist()
    parameters = {"sigmoid": 4 * at_0, "fast_sigmoid": at_1**-0.5 - 1, "atan": np.pi * at_0}
    return records.Slope(records.SLOPES.index(name), np.float32(parameters.get(name, 0.0)))


@dataclass(frozen=True)
class FusedRun:
    """One pass: steps, surrogate, blocks whose spikes are summed, and whether all states are wanted."""

    form: Form
    n_steps: int
    slope: records.Slope
    pool: Pool = NO_POOL
    v_last: bool = True
    states: bool = False

    def spikes(self, values: NDArray[Any]) -> records.Spikes:
        """A record of spikes, or of their gradients."""
        rows = values.reshape(self.n_steps, -1, self.form.rows[0], self.n_sent)
        return records.Spikes(rows, *self.pool, self.form.shape[-1])

    @property
    def n_sent(self) -> int:
        """Values that a channel sends."""
        return int(np.prod(self.sent_shape)) // self.form.rows[0]

    @property
    def sent_shape(self) -> tuple[int, ...]:
        """Shape of what is sent in a step."""
        if self.pool == NO_POOL:
            return self.form.shape
        *lead, height, width = self.form.shape
        return (*lead, height // self.pool[0], width // self.pool[1])


class _Fused(torch.autograd.Function):
    """All steps of a population in one node of the graph of gradients."""

    @staticmethod
    def forward(
        ctx: Any, a: Tensor, bias: Tensor, theta: Tensor, run: FusedRun
    ) -> tuple[Tensor, ...]:
        rows, n, batch = run.form.rows, run.form.rows[1], a.shape[1]
        values = _as_kernels_take(a).reshape(len(a), batch, *rows)
        registers = run.form.registers(bias.detach(), theta.detach())
        sent = torch.empty(run.n_steps, batch, *run.sent_shape, dtype=torch.float32)
        v_last = np.empty((batch if run.v_last else 0, *rows), dtype=np.int32)
        states = np.empty((2, run.n_steps if run.states else 0, batch, *rows), dtype=np.int32)
        spikes = run.spikes(sent.numpy())

        def part(first: int, last: int) -> None:
            room = v_last if run.v_last else np.empty((1, *rows), dtype=np.int32)
            scratch = (np.empty(n, dtype=np.float32), np.empty(n, dtype=np.int32))
            span = records.Span(first, last, run.n_steps)
            found = records.States(room, states[0], states[1])
            run_steps(span, values, registers, spikes, found, scratch)

        _in_parts(part, batch)
        ctx.run, ctx.registers, ctx.values = run, registers, values
        ctx.shape, ctx.dtypes = tuple(a.shape), (a.dtype, bias.dtype)
        v = torch.from_numpy(v_last).float().reshape(len(v_last), *run.form.shape)
        recorded = tuple(
            torch.from_numpy(x).reshape(len(x), batch, *run.form.shape) for x in states
        )
        ctx.mark_non_differentiable(*recorded)
        return sent, v, *recorded

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        run: FusedRun = ctx.run
        rows, n, values = run.form.rows, run.form.rows[1], ctx.values
        spikes = run.spikes(grads[0].contiguous().numpy())
        g_v = np.zeros((1, *rows), dtype=np.float32)
        if run.v_last:
            g_v = grads[1].contiguous().numpy().reshape(-1, *rows)
        d_a = np.zeros(values.shape, dtype=np.float32)
        sums: dict[int, NDArray[Any]] = {}

        def part(first: int, last: int) -> None:
            own = np.zeros((2, *rows), dtype=np.float32)
            sums[first] = own
            span = records.Span(first, last, run.n_steps)
            gradients = records.Gradients(spikes, g_v, d_a, own[0], own[1])
            # Of neurons that no block covers, the gradient stays 0.
            scratch = np.zeros((2 * run.n_steps + records.SCRATCH_ROWS, n), dtype=np.float32)
            words = np.empty((2, n), dtype=np.int32)
            run_back(span, values, ctx.registers, run.slope, gradients, words, scratch)

        _in_parts(part, values.shape[1])
        total = torch.from_numpy(sum(sums[first] for first in sorted(sums))).to(ctx.dtypes[1])
        d_bias, d_theta = total.reshape(2, *run.form.shape)
        return torch.from_numpy(d_a).reshape(ctx.shape).to(ctx.dtypes[0]), d_bias, d_theta, None


def advance_fused(
    a: Tensor, bias: Tensor, theta: Tensor, run: FusedRun
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Spikes or their sums over blocks, last v, and u and v of all steps (without gradients).

    Args:
        a: summed input ``(1 or n_steps, batch, *shape)`` that holds integers: one step stands for all.
        bias, theta: in units of v, of the shape of the population.
        run: what stays, and what is wanted; what is not is empty.
    """
    shape = run.form.shape
    found: tuple[Tensor, Tensor, Tensor, Tensor] = _Fused.apply(  # type: ignore[no-untyped-call]
        a, bias.expand(shape), theta.expand(shape), run
    )
    return found


def _as_kernels_take(a: Tensor) -> NDArray[Any]:
    """float32 as it is; float64, for what that does not hold, as 32-bit integers, as they wrap."""
    values: Any = a.detach() if a.dtype == torch.float32 else a.detach().long().to(torch.int32)
    return np.ascontiguousarray(values.numpy())


def _in_parts(work: Callable[[int, int], None], batch: int) -> None:
    """Call ``work(first, last)`` for parts of a batch, in as many threads as torch has."""
    n_threads = min(torch.get_num_threads(), batch)
    if n_threads < 2:
        work(0, batch)
        return
    edges = np.linspace(0, batch, n_threads + 1).astype(int).tolist()
    first, *spans = pairwise(edges)
    others = [_pool(os.getpid()).submit(work, *span) for span in spans]
    work(*first)
    for other in others:
        other.result()


@cache
def _pool(process: int) -> ThreadPoolExecutor:
    """Threads of this process; a forked one makes its own."""
    del process
    return ThreadPoolExecutor(max(1, torch.get_num_threads() - 1), "biril-train")
