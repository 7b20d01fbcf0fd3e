"""The alternative to following spikes: dense products over all steps at once, exact in float32.

Sums of 8-bit weights stay below 2**24, so that float32 products are exact; neurons advance on integers.
This form costs the same however few spikes there are, and shows from which activity on it would pay.

    python benchmarks/dense_form.py [--quick]
"""

from __future__ import annotations

from typing import Any

import numpy as np
from engines import Engine, Ours, torch_stage
from inference import check, check_lines
from measuring import Measured, ratios, take_turns
from numpy.typing import NDArray
from section import Section, Size, alone, table
from workloads import DV, WORKLOADS, Workload

from biril_nm.loihi import DECAY_BITS, DECAY_UNITY, VTH_SHIFT, WEIGHT_SHIFT

ROWS = 256  # images of one product: what the caches hold
BUSY = (0.20, 0.50, 1.00)  # input densities where dense products might pay
N_SAMPLES = {"dense": (128, 8), "conv": (8, 1)}
Rows = list[tuple[str, ...]]


class DenseForm(Engine):
    """torch: all steps of a layer in one product, then its neurons step by step."""

    exact = True

    def __init__(self, work: Workload, spikes: NDArray[Any], threads: int) -> None:
        super().__init__(spikes.shape[1], spikes.shape[0])
        import torch

        self.name = f"dense products (torch, exact), {threads} thread{'s' if threads > 1 else ''}"
        self.threads, self.torch = threads, torch
        self.inputs = torch.tensor(spikes, dtype=torch.float32)
        self.layers = [(torch_stage(layer), layer.vth << VTH_SHIFT) for layer in work.layers]
        self.last: Any = None

    def run(self) -> None:
        """All samples side by side."""
        self.torch.set_num_threads(self.threads)
        with self.torch.no_grad():
            out = self.inputs
            for stage, threshold in self.layers:
                rows = out.flatten(0, 1).split(ROWS)
                sums = self.torch.cat([stage(part) for part in rows]).int()
                out = self._advance(sums.unflatten(0, out.shape[:2]), threshold)
        self.last = out

    def _advance(self, sums: Any, threshold: int) -> Any:
        v = self.torch.zeros_like(sums[0])
        spikes = self.torch.empty(sums.shape, dtype=self.torch.float32)
        for step, a in enumerate(sums):
            product = v.long() * (DECAY_UNITY - DV)
            floor = product + ((product >> 63) & (DECAY_UNITY - 1))  # toward zero
            v = (floor >> DECAY_BITS).int() + (a << WEIGHT_SHIFT)
            fired = v > threshold
            v = v.masked_fill(fired, 0)
            spikes[step] = fired
        return spikes

    def outputs(self) -> NDArray[Any]:
        """Output spikes of all samples."""
        return np.asarray(self.last.numpy().astype(np.uint8))


def compare(name: str, size: Size) -> tuple[Rows, list[str]]:
    """Ours against dense products, one thread each, where most neurons spike."""
    work, rows, equal = WORKLOADS[name](), [], {}
    for density in BUSY:
        spikes = work.spikes(density, size.of(*N_SAMPLES[name]))
        ours, theirs = Ours(work, spikes, 1), DenseForm(work, spikes, 1)
        seconds = take_turns({"ours": ours.run, "theirs": theirs.run}, size.rounds)
        check(work, density, [(ours, spikes), (theirs, spikes)], equal)
        rates = [
            Measured.of([ours.sample_steps / each for each in seconds[key]]).text(1, 0)
            for key in ("ours", "theirs")
        ]
        faster = ratios(seconds["theirs"], seconds["ours"])
        rows.append((name, f"{density:.0%}", *rates, f"{faster.text(1, 2)}x"))
    return rows, check_lines(work, equal)


def section(size: Size) -> Section:
    """Whether another form would pay where most neurons spike."""
    found = [compare(name, size) for name in WORKLOADS]
    text = (
        "The simulator follows spikes in every layer at every activity. The alternative, dense products of "
        "all steps at once (torch, float32, exact; same output spikes, checked), costs the same however "
        "few spikes there are. One thread each:"
    )
    header = ("net", "input density", "ours, sample-steps/s", "dense products", "ours is faster by")
    rows = [row for each, _ in found for row in each]
    checks = [line for _, lines in found for line in lines]
    return Section("Dense products", (), f"{text}\n\n{table(header, rows)}", checks)


if __name__ == "__main__":
    alone(section, __doc__)
