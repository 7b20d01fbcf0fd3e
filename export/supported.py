"""The supported-node table of documentation and ``biril info``, read from the dispatch tables."""

from __future__ import annotations

__all__ = ["supported_nodes", "supported_table"]

_BECOMES = {
    "Linear": "Dense connection",
    "Conv2d": "Conv connection (Sparse where a fold is no convolution)",
    "AvgPool2d": "folded into the next weights, exactly",
    "Flatten": "folded into the next weights, exactly",
    "BatchNorm1d": "folded into the layer before it",
    "BatchNorm2d": "folded into the layer before it",
    "Leaky": "LIF neurons; IF if beta = 1 (reset 'zero')",
    "Synaptic": "CUBA-LIF neurons (reset 'zero')",
    "Affine": "Dense connection and neuron bias",
    "Conv1d": "Sparse connection",
    "SumPool2d": "folded into the next weights, exactly",
    "Scale": "folded into the next weights, exactly",
    "Delay": "synaptic delay, one per connection, up to 62 steps",
    "Input": "Input",
    "Output": "Output",
    "IF": "neurons with dv = 0",
    "LIF": "neurons with dv = round(4096 dt/tau)",
    "CubaLIF": "neurons with du and dv; no affine bias in front",
    "I": "integrator without spikes",
    "LI": "leaky integrator without spikes",
    "CubaLI": "leaky integrator with synaptic current, without spikes",
    "Threshold": "neurons without memory",
    "Identity": "nothing (vanishes)",
    "Dropout": "nothing (vanishes)",
    "Dropout1d": "nothing (vanishes)",
    "Dropout2d": "nothing (vanishes)",
}


def supported_nodes() -> list[tuple[str, str, str]]:
    """Rows (from, node, becomes); a node of the dispatch tables without a text raises KeyError."""
    from biril_nm.export.passes.neuron_kinds import NEURON_KINDS
    from biril_nm.export.passes.stateless import STATELESS
    from biril_nm.export.torch_layers import LAYER_MAP, VANISHING
    from biril_nm.export.torch_neurons import NEURON_MAP

    rows = [("torch", kind.__name__) for kind in (*LAYER_MAP, *VANISHING)]
    rows += [("snnTorch", kind.__name__) for kind in NEURON_MAP]
    rows += [("NIR", kind.__name__) for kind in (*STATELESS, *NEURON_KINDS)]
    return [(side, name, _BECOMES[name]) for side, name in rows]


def supported_table() -> str:
    """The same as a Markdown table, for README."""
    lines = ["| from | node | becomes on the chip |", "| --- | --- | --- |"]
    lines += [f"| {side} | `{name}` | {text} |" for side, name, text in supported_nodes()]
    return "\n".join(lines)
