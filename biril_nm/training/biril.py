"""The three phases of BIRIL.

* B, STBP: surrogate gradient through time, Adam on all layers.
* S, STDP: a local rule on the plastic kernels and nothing else. No gradient, BatchNorm in eval
  mode, the optimiser is not touched; the kernels move on the 8-bit grid of the chip. Where phases take
  turns by the batch, they move by whole steps of that grid and keep what lies between: gradient steps of
  less than half a step would be lost at every S.
* H, STDP-STBP: the step of B, then the local rule with the spikes of the same forward pass.

S and H are our own design after the paper's words (algorithm 1, equation 3): the published
code constructs no STDP learner, so its S epochs train nothing and its H epochs equal B.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from biril_nm.models.links import Link
from biril_nm.models.spiking_net import NetOutput, SpikingNet
from biril_nm.training.local_rule.plasticity import Grid
from biril_nm.training.local_rule.torch_engine import LayerSpikes
from biril_nm.training.losses import LOSSES
from biril_nm.training.phase import Batch, Metrics, PhaseState, gradient_step, metrics_of
from biril_nm.training.plastic import plastic_links

__all__ = ["stbp", "stdp", "stdp_stbp"]


def stbp(
    net: SpikingNet, batch: Batch, optimizer: torch.optim.Optimizer, state: PhaseState
) -> Metrics:
    """Phase B."""
    net.train()
    return gradient_step(net, batch, optimizer, state, record=())[1]


def stdp(
    net: SpikingNet, batch: Batch, optimizer: torch.optim.Optimizer, state: PhaseState
) -> Metrics:
    """Phase S."""
    x, labels = batch
    links = plastic_links(net, state.plastic)
    optimizer.zero_grad(set_to_none=True)  # zeroed gradients would still move weights (momentum)
    net.eval()
    with torch.no_grad():
        out = net(x, record=_populations(links))
        loss = LOSSES[state.loss](out.scores, labels, net.scored_steps(x.shape[0]))
        if not state.learner.engine.inert:
            for link in links:
                _move_on_grid(link, _activity(link, out, state), state)
    return metrics_of(out, labels, loss)


def stdp_stbp(
    net: SpikingNet, batch: Batch, optimizer: torch.optim.Optimizer, state: PhaseState
) -> Metrics:
    """Phase H."""
    links = plastic_links(net, state.plastic)
    net.train()
    out, metrics = gradient_step(net, batch, optimizer, state, _populations(links))
    right = out.predictions.detach() == batch[1] if state.plasticity.confident else None
    if not state.learner.engine.inert:
        for link in links:
            _turn(link, _activity(link, out, state, right), state)
    return metrics


@torch.no_grad()
def _turn(link: Link, activity: LayerSpikes, state: PhaseState) -> None:
    """Add the rule's change to float weights, within ``w_clip``."""
    weight = link.weight
    grid = Grid.of(weight)
    integers = weight / grid.unit
    new = state.learner.change(link.layer, integers, grid.mode, activity, state.eta_scale)
    bound = max(state.plasticity.w_clip, float(weight.abs().max()))
    weight.add_((new - integers) * grid.unit).clamp_(-bound, bound)


@torch.no_grad()
def _move_on_grid(link: Link, activity: LayerSpikes, state: PhaseState) -> None:
    """Apply the rule to grid integers; the first call of an epoch puts the kernel on its grid.

    Unless phases take turns by the batch, when the weights keep their distance from the grid.
    """
    weight = link.weight
    grid = state.grids.setdefault(link.name, Grid.of(weight))
    integers = grid.integers(weight)
    new = state.learner.change(link.layer, integers, grid.mode, activity, state.eta_scale)
    rounded = state.learner.round_to_grid(new, grid)
    if state.by_batch:
        weight.add_((rounded - integers) * grid.unit)
    else:
        weight.copy_(rounded * grid.unit)


def _activity(
    link: Link, out: NetOutput, state: PhaseState, samples: Tensor | None = None
) -> LayerSpikes:
    def whole(spikes: Tensor) -> Tensor:
        """Of all processes, in the type of the weights: products of traces are no numbers of bfloat16."""
        return state.world.whole(spikes).to(link.weight.dtype)

    # The gate draws random numbers for the whole batch.
    post = state.learner.gate(whole(out.recorded[link.post]))
    if samples is not None:
        chosen = whole(samples.to(post.dtype).view(1, -1))
        post = post * chosen.view(1, -1, *[1] * (post.ndim - 2))
    return LayerSpikes(whole(out.recorded[link.pre]), post, link.between)


def _populations(links: Sequence[Link]) -> tuple[str, ...]:
    return tuple({name: None for link in links for name in (link.pre, link.post)})
