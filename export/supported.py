"""What becomes of each layer and node: the table of documentation and ``biril info``.

The rows follow the dispatch tables; a node there without a text, or a text without a node, is a
KeyError in the tests. Three policies: *exact* (the integers mean the same, up to rounding that the
report tells), *approximation* (stated in the row, and in the graph's metadata where it happened),
*refused* (with the reason).
"""

from __future__ import annotations

__all__ = ["POLICIES", "policy_table", "supported_nodes", "supported_table"]

EXACT, APPROXIMATION, REFUSED = "exact", "approximation", "refused"
POLICIES = (EXACT, APPROXIMATION, REFUSED)

_TORCH = {
    "Linear": (EXACT, "Linear or Affine; as the last layer: see `readout` of `lower`"),
    "Conv1d": (EXACT, "Conv1d, any stride, padding, dilation, groups"),
    "Conv2d": (EXACT, "Conv2d, any stride, padding, dilation, groups and kernel shape"),
    "AvgPool1d": (EXACT, "depthwise Conv1d"),
    "AvgPool2d": (EXACT, "AvgPool2d; not with ceil_mode over the edge or another divisor"),
    "LPPool1d": (EXACT, "norm 1 only: depthwise Conv1d of ones"),
    "LPPool2d": (EXACT, "norm 1 only: SumPool2d"),
    "AdaptiveAvgPool1d": (EXACT, "plain average pooling where the size divides"),
    "AdaptiveAvgPool2d": (EXACT, "plain average pooling where the size divides"),
    "Flatten": (EXACT, "Flatten; also `x.flatten(1)`, `x.view(len(x), -1)`, `x.reshape(...)`"),
    "BatchNorm1d": (EXACT, "folded into the layer before it, else a diagonal Affine or Conv1d"),
    "BatchNorm2d": (EXACT, "folded into the layer before it, else a Conv2d of size 1"),
    "Identity": (EXACT, "nothing (vanishes)"),
    "Dropout": (EXACT, "nothing (vanishes)"),
    "Dropout1d": (EXACT, "nothing (vanishes)"),
    "Dropout2d": (EXACT, "nothing (vanishes)"),
    "MaxPool2d": (REFUSED, "a maximum is not linear and NIR has no node for it; use AvgPool2d"),
    "Softmax, ReLU, ...": (REFUSED, "no spiking neuron; the chip has no such function"),
}
_SNNTORCH = {
    "Leaky": (EXACT, "LIF, or IF if beta = 1; LI or I if only its membrane is read"),
    "Synaptic": (EXACT, "CubaLIF; CubaLI if only its membrane is read"),
    "RLeaky": (EXACT, "LIF with a loop of one connection, all-to-all, convolutional or one-to-one"),
    "RSynaptic": (EXACT, "CubaLIF with a loop of one connection"),
    "Lapicque": (EXACT, "LIF with tau = R C"),
    "Alpha, SLSTM, SConv2dLSTM, ...": (REFUSED, "NIR has no node of these equations"),
    "inhibition, state_quant": (REFUSED, "NIR has no form for them"),
}
_NIR = {
    "Input": (EXACT, "Input; several inputs are allowed"),
    "Output": (EXACT, "Output; several outputs are allowed"),
    "NIRGraph": (
        EXACT,
        "dissolved, inner nodes called `outer.inner`; one input and one output each",
    ),
    "Linear": (EXACT, "Dense connection (Sparse where folding makes it so)"),
    "Affine": (
        EXACT,
        "Dense connection and neuron bias; before CubaLIF a neuron that always spikes",
    ),
    "Conv1d": (EXACT, "Sparse connection"),
    "Conv2d": (EXACT, "Conv connection (Sparse where a fold is no convolution)"),
    "AvgPool2d": (EXACT, "folded into the next weights"),
    "SumPool2d": (EXACT, "folded into the next weights"),
    "Flatten": (EXACT, "nothing: order of the next weights"),
    "Scale": (EXACT, "folded into the next weights"),
    "Delay": (
        APPROXIMATION,
        "synaptic delay, rounded to whole steps, up to 62; different delays split the connection",
    ),
    "IF": (
        APPROXIMATION,
        "neurons with dv = 0; v grows by r x per step as all producers mean it, by the letter of NIR "
        "it would be dt r x (node metadata `if_integration = continuous` asks for that)",
    ),
    "LIF": (EXACT, "neurons with dv = round(4096 dt/tau)"),
    "CubaLIF": (EXACT, "neurons with du and dv from tau_syn and tau_mem"),
    "I": (EXACT, "integrator without spikes, as the last layer only"),
    "LI": (EXACT, "leaky integrator without spikes, as the last layer only"),
    "CubaLI": (EXACT, "leaky integrator with synaptic current, as the last layer only"),
    "Threshold": (EXACT, "neurons without memory (dv = 4096)"),
    "v_reset other than 0": (
        APPROXIMATION,
        "v, v_leak and v_threshold are counted from v_reset; v also starts there, which NIR leaves open",
    ),
    "loop of one connection": (EXACT, "one step, as in snnTorch"),
    "loop of several connections": (
        APPROXIMATION,
        "one step for each connection; refused where the file says `lag = 1` (networks of `to_nir`)",
    ),
    "reset by subtraction": (
        REFUSED,
        'the chip resets v to 0; `reset="force-zero"` accepts the change of meaning',
    ),
    "loop without a neuron": (REFUSED, "it has no delay, so no meaning in steps"),
    "sum of neurons at an Output": (
        REFUSED,
        "the chip reads neurons; give each an Output of its own",
    ),
    "padding 'same'": (REFUSED, "with an even kernel or a stride: it has no symmetric form"),
}


def _rows() -> list[tuple[str, str, str, str]]:
    import nir

    from biril_nm.export.from_torch.layers import LAYER_MAP, VANISHING
    from biril_nm.export.from_torch.neurons import NEURONS
    from biril_nm.export.nir_nodes.neurons import NEURON_KINDS
    from biril_nm.export.nir_nodes.stateless import STATELESS

    rows = []
    for side, texts, kinds in (
        ("torch", _TORCH, (*LAYER_MAP, *VANISHING)),
        ("snnTorch", _SNNTORCH, NEURONS),
        ("NIR", _NIR, (*STATELESS, *NEURON_KINDS, nir.NIRGraph)),
    ):
        names = [kind.__name__ for kind in kinds]
        more = [name for name in texts if name not in names]
        rows += [(side, name, *texts[name]) for name in (*names, *more)]
    return rows


def supported_nodes() -> list[tuple[str, str, str]]:
    """Rows (from, node, becomes) of what is supported."""
    return [(side, name, text) for side, name, policy, text in _rows() if policy != REFUSED]


def supported_table() -> str:
    """The same as a Markdown table, for README."""
    lines = ["| from | node | becomes |", "| --- | --- | --- |"]
    lines += [f"| {side} | `{name}` | {text} |" for side, name, text in supported_nodes()]
    return "\n".join(lines)


def policy_table() -> str:
    """docs/supported_nodes.md: every layer and node with its policy."""
    head = [
        "# Supported layers and nodes",
        "",
        "Written by `python docs/make_tables.py` from the dispatch tables of the exporter. torch and",
        "snnTorch layers become NIR nodes (`to_nir`), NIR nodes of any producer become integers (`lower`).",
        "",
        "| from | layer or node | policy | becomes, or reason |",
        "| --- | --- | --- | --- |",
    ]
    lines = [f"| {side} | `{name}` | {policy} | {text} |" for side, name, policy, text in _rows()]
    return "\n".join([*head, *lines, ""])
