"""Which post-spikes may drive a local rule: the "spike gating" that BIRIL names but does not define.

Our definition (the paper gives none): a neuron is eligible in a sample if it is a winner and not too
busy, ``gate_j = winner_j AND (rate_j <= rate_max OR n_j = 1)``, n_j its spikes; they count only then.
Winner-take-all with inhibition follows Kheradpisheh et al., Neural Networks 99 (2018): earliest spike
first; a winner removes its own channel everywhere and every channel within ``radius`` of its place.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["rate_gate", "winner_gate"]


def rate_gate(spikes: Tensor, rate_max: float) -> Tensor:
    """1 where a neuron fires in at most ``rate_max`` of the steps, or once, which is never busy.

    Shape:
        ``(n_steps, batch, *shape)`` to ``(batch, *shape)``.
    """
    return ((spikes.mean(dim=0) <= rate_max) | (spikes.sum(dim=0) <= 1)).to(spikes.dtype)


def winner_gate(
    spikes: Tensor, winners: int, radius: int, generator: torch.Generator | None = None
) -> Tensor:
    """1 at up to ``winners`` neurons of each sample, 0 elsewhere.

    Winners are chosen one after the other by earliest first spike, then by most spikes (which
    stands in for the largest potential), then at random. ``radius`` acts on (C, H, W) only.

    Shape:
        ``(n_steps, batch, C, H, W)`` or ``(n_steps, batch, features)`` to the shape without time.
    """
    n_steps, batch = spikes.shape[:2]
    steps = torch.arange(n_steps, 0, -1, device=spikes.device, dtype=spikes.dtype)
    first = (spikes * steps.view(-1, *[1] * (spikes.ndim - 1))).amax(dim=0)
    score = first * (n_steps + 1) + spikes.sum(dim=0)
    tie = torch.rand(score.shape, generator=generator).to(score.device)
    score = torch.where(first > 0, score + 0.5 * tie, torch.zeros_like(score))
    gate = torch.zeros_like(score)
    index = torch.arange(batch, device=spikes.device)
    for _ in range(winners):
        best, where = score.flatten(1).max(dim=1)
        gate.view(batch, -1)[index, where] += (best > 0).to(gate.dtype)
        _inhibit(score, where, radius)
    return gate


def _inhibit(score: Tensor, where: Tensor, radius: int) -> None:
    """Set the score of all neurons that a winner at flat index ``where`` silences to 0."""
    index = torch.arange(score.shape[0], device=score.device)
    if score.ndim == 2:
        score[index, where] = 0.0
        return
    _, _, height, width = score.shape
    channel, place = where // (height * width), where % (height * width)
    score[index, channel] = 0.0
    rows = torch.arange(height, device=score.device) - (place // width).unsqueeze(1)
    columns = torch.arange(width, device=score.device) - (place % width).unsqueeze(1)
    near = (rows.abs() <= radius).unsqueeze(2) & (columns.abs() <= radius).unsqueeze(1)
    score.masked_fill_(near.unsqueeze(1), 0.0)
