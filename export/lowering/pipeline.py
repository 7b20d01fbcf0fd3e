"""Lowering: a NIR graph (float, SI units) becomes a LoihiGraph (integers), pass by pass.

This file holds the order of the passes. Each pass is a pure function in
:mod:`biril_nm.export.lowering.passes`, and :class:`Lowering` keeps what each of them has made.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

import nir
from numpy.typing import ArrayLike

from biril_nm.arguments import Seed, checked
from biril_nm.export.design_rules import check_design
from biril_nm.export.lowering.numbers.weight_grid import AUTO
from biril_nm.export.lowering.options import LoweringOptions
from biril_nm.export.lowering.passes.assemble import assemble
from biril_nm.export.lowering.passes.balance_delays import balance_delays, shared_delays
from biril_nm.export.lowering.passes.bits import with_bits
from biril_nm.export.lowering.passes.calibrate import calibrate_peaks
from biril_nm.export.lowering.passes.describe import (
    delayed_notes,
    describe,
    notes,
    repairs,
    several_spikes_notes,
)
from biril_nm.export.lowering.passes.float_net import float_net
from biril_nm.export.lowering.passes.forced_resets import forced_notes
from biril_nm.export.lowering.passes.normalise import normalise
from biril_nm.export.lowering.passes.plain_graph import plain_graph, with_own_weights
from biril_nm.export.lowering.passes.quantize import quantize_node
from biril_nm.export.lowering.passes.settle import settle, settle_dt
from biril_nm.export.lowering.passes.split import split_signs
from biril_nm.export.lowering.stages import Lowering
from biril_nm.export.nir_files.exact_reading import exact_graph
from biril_nm.export.nir_nodes.decision import decision_of_nir
from biril_nm.export.nir_nodes.typed_convolutions import restored
from biril_nm.hw_graph import LoihiGraph
from biril_nm.hw_graph.digest import with_digests
from biril_nm.loihi import LOIHI2, WEIGHT_BITS, ChipProfile

__all__ = ["lower", "lower_stages"]

log = logging.getLogger(__name__)


@checked
def lower(
    nir_graph: nir.NIRGraph,
    chip: ChipProfile | str = LOIHI2,
    dt_s: float | None = None,
    weight_bits: int | Mapping[str, int] = WEIGHT_BITS,
    reset: str | None = None,
    calibration: ArrayLike | Mapping[str, ArrayLike] | None = None,
    seed: Seed = 0,
    readout: str | None = None,
    scale_search: str = AUTO,
    split_mixed: bool = False,
    if_integration: str | None = None,
    decision: str | None = None,
) -> LoihiGraph:
    """Turn a NIR graph into an integer network for ``chip``.

    Args:
        nir_graph: from :func:`to_nir`, ``nir.read`` or any other producer.
        chip: register limits.
        dt_s: width of a step in seconds; needed if the file does not say and something depends on it.
        weight_bits: bits per weight, 1 to 8; connections from graded input keep 8, which costs little and
            gains much. A dict names connections (or the nodes that they are made of): ``{"conv1": 8,
            "*": 3}``, where ``"*"`` stands for all others.
        reset: where the file does not say it, ``"zero"`` says that spikes set v to 0, ``"subtract"`` that
            they take the threshold from v; ``"force-zero"`` changes what the file says into zero.
        calibration: chip input ``(n_steps, batch, *shape)``, a dict for several inputs; limits the
            scale by observed peaks of u and v where proven bounds would cost precision.
        seed: stored in the metadata for stages with random numbers; lowering itself has none.
        readout: ``"accumulate"`` sums the output of a last linear layer over the steps in neurons
            ``LAYER.sum`` without threshold; files that ask for it need no request.
        scale_search: ``"max"`` clips no weight, ``"percentile"`` the largest 0.1 %, ``"mse"`` as many as
            make the squared error of rounding and clipping smallest; ``"auto"`` is ``"mse"`` below 5 bits,
            else ``"max"``.
        split_mixed: give weights of both signs two connections, ``NAME.plus`` and ``NAME.minus``, with all
            bits each; 1-bit weights are always split.
        if_integration: how IF and I grow per step where their metadata do not say: ``"per_step"`` by
            ``r x``, ``"continuous"`` by ``dt r x``; needed where r is neither 1 nor 1/dt.
        decision: how the output decides: ``"count"`` (most spikes; the membrane among equals), ``"score"``
            (spikes and membrane added) or ``"membrane"``; None: the file says, else ``"count"``.

    Raises:
        UnsupportedNodeError: meaning would be lost; the message names node and way out.
        RangeError: the registers cannot hold the network, or ``weight_bits`` is out of range.
        ConfigError: dt is missing, or an argument is unknown or contradicts the file.
    """
    options = LoweringOptions(
        chip=chip,
        dt_s=dt_s,
        weight_bits=weight_bits,
        reset=reset,
        calibration=calibration,
        seed=seed,
        readout=readout,
        scale_search=scale_search,
        split_mixed=split_mixed,
        if_integration=if_integration,
        decision=decision,
    )
    return _lowered(plain_graph(nir_graph), options, keep=False).graph


@checked
def lower_stages(nir_graph: nir.NIRGraph, options: LoweringOptions | None = None) -> Lowering:
    """The same as :func:`lower`, with all stages of the way, which own their weights.

    Args:
        nir_graph: from :func:`to_nir`, ``nir.read`` or any other producer.
        options: all defaults if None.
    """
    plain = with_own_weights(plain_graph(nir_graph))
    return _lowered(plain, options or LoweringOptions(), keep=True)


def _lowered(plain: nir.NIRGraph, options: LoweringOptions, keep: bool) -> Lowering:
    """All stages behind the plain graph; ``keep``: float weights too, once they are integers."""
    chip = options.profile
    written = restored(plain)
    dt_s = settle_dt(written, options.dt_s)
    exact = exact_graph(plain) if options.keeps_bits else None
    if exact is not None:
        check_design(exact, chip)
        for name in options.requests():
            log.warning("%s changes nothing: the file holds integers, which are kept", name)
        if options.decision is not None:
            exact = exact.with_metadata(decision=options.decision)
        return Lowering(exact, plain, chip=chip)
    settled = settle(written, dt_s, options.reset, options.readout, options.if_integration, chip)
    net = float_net(settled.graph, settled.step_s)
    net = with_bits(net, options.weight_bits)
    net = split_signs(net, lambda link: options.splits_signs(link.weight_bits))
    peaks = calibrate_peaks(net, options.calibration)
    changes = forced_notes(net, settled.forced, options.calibration)
    for line in changes:
        log.warning("%s", line)
    quantised = {
        name: quantize_node(node, chip, peaks.get(name), options.scale_search)
        for name, node in normalise(net)
    }
    outline = net.outline()
    if not keep:
        net = outline  # frees what folding has made
    late = [link.name for link in net.links if link.late]
    balanced, delays = balance_delays(assemble(outline, quantised), chip.delay_max, late)
    graph = balanced.with_metadata(
        **describe(settled, outline, quantised, chip),
        **options.facts(),
        decision=options.decision or decision_of_nir(plain.metadata),
        notes=[
            *repairs(plain),
            *settled.notes,
            *changes,
            *several_spikes_notes(settled.resets, peaks),
            *notes(balanced, outline, quantised, late),
            *delayed_notes(balanced, shared_delays(balanced, late, delays)),
        ],
        balanced_delays=delays,
    )
    graph = with_digests(graph)
    check_design(graph, chip)
    log.info("lowered %d neuron nodes, %d connections", len(graph.neurons), len(graph.connections))
    return Lowering(graph, plain, settled, net, quantised, chip)
