"""The choices of the engine between exact ways, and how a test takes each of them.

All ways of a choice give the same integers. The engine takes the quickest one that is proven to; with
:class:`Paths` a test takes another one: ``compile_graph(graph, Paths(receive="buffered"))``, then whatever
runs the graph. What the arguments of a run decide has no field here: threads, recording u, whole runs or
sessions, steps of sessions, repeated images, types of inputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from biril_nm.arguments import checked
from biril_nm.errors import ConfigError

__all__ = ["Paths", "refuse_path"]


@checked
@dataclass(frozen=True)
class Paths:
    """The way at each choice, for all parts of a graph; None: the best one for each part.

    Attributes:
        types: of weights; sums have twice the bits.
        power: whether a power of two that all weights share moves from the weights to their sums.
        sparse: a Sparse adds the synapses of each source that spikes, or takes those of silent ones from the
            sum of all.
        targets: a Sparse sums its targets in few blocks, or in small ones, which threads share however
            little there is to do.
        taps: a Conv adds a line of a kernel as one run, or each tap alone.
        pixel: how a Conv finds the pixel of a source: a product with a reciprocal, or a division.
        modulo: whether sums of a Conv pass the modulo of Lava, where it changes nothing.
        step: of populations: without memory of u, of 32 bits, or the declared step of the model in 64 bits.
        registers: one value for all neurons, or one for each.
        receive: in one kernel with the step of the target, or through a buffer.
        order: node by node for all steps of a block, or all nodes step by step.
        block: steps and samples that a kernel runs in one call: ``"few"`` are 3 and 2.
        memory: whether a run takes over the memory of the run before.
        learned: how connections that learn compute rows of synapses: shifts of whole rows and the short
            cut for pairs of products, without it, the short cut for two products with u, or product by
            product.
        shifts: whether a table of shifts is made for all values of a trace, or each when it is needed.
        first_phase: the first learning phase visits every synapse, as after weights out of range.
    """

    types: Literal["int8", "int16", "int32"] | None = None
    power: Literal["moved", "kept"] | None = None
    sparse: Literal["active", "silent"] | None = None
    targets: Literal["whole", "parts"] | None = None
    taps: Literal["joined", "alone"] | None = None
    pixel: Literal["product", "division"] | None = None
    modulo: Literal["passed", "skipped"] | None = None
    step: Literal["short", "32 bits", "declared"] | None = None
    registers: Literal["shared", "each"] | None = None
    receive: Literal["fused", "buffered"] | None = None
    order: Literal["by node", "by step"] | None = None
    block: Literal["one", "few"] | None = None
    memory: Literal["kept", "new"] | None = None
    learned: Literal["pair", "shifts", "delta", "products"] | None = None
    shifts: Literal["table", "single"] | None = None
    first_phase: Literal["all"] | None = None


def refuse_path(part: str, field: str, value: object, reason: str) -> ConfigError:
    """The error for a way that a part of a graph cannot take."""
    return ConfigError(
        f"{part} cannot take the path {field}={value!r}: {reason}. Leave {field} out"
    )
