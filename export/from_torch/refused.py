"""Classes of torch.nn and snnTorch that no chip runs: a record for each kind of reason.

A class stands here by name, since not every version of torch has all of them. A derived class has the
reason of its nearest base that is known.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import snntorch
from torch import nn

from biril_nm.export.nir_nodes.kinds import REFUSED

__all__ = ["REFUSED_LAYERS", "REFUSED_NEURONS", "RefusedKind", "refused_classes"]


@dataclass(frozen=True)
class RefusedKind:
    """Classes that are refused for one reason.

    Attributes:
        names: of the classes.
        reason: why no integers can mean the same.
        way_out: what to write instead.
        policy: of the table of supported nodes.
    """

    names: tuple[str, ...]
    reason: str
    way_out: str
    policy: str = REFUSED

    @property
    def name(self) -> str:
        """All names, for the table."""
        return ", ".join(self.names)

    @property
    def becomes(self) -> str:
        """Reason and way out, for the table."""
        return f"{self.reason}. {self.way_out}"


def _kind(names: str, reason: str, way_out: str) -> RefusedKind:
    return RefusedKind(tuple(names.split()), reason, way_out)


# Layers of torch that no export takes, with the reason and the way out.
REFUSED_LAYERS = (
    _kind(
        "ReLU ReLU6 LeakyReLU PReLU RReLU ELU SELU CELU GELU SiLU Mish Hardswish Softplus Hardtanh "
        "Hardshrink Softshrink Tanhshrink Softsign Threshold",
        "it is a function of a current, and neurons are the only nonlinear part of the chip",
        "Put a neuron (snntorch.Leaky) in its place and train again; behind spikes leave it out",
    ),
    _kind(
        "Sigmoid LogSigmoid Tanh Hardsigmoid GLU",
        "it squashes or gates a current, and neurons are the only nonlinear part of the chip",
        "Put a neuron (snntorch.Leaky) in its place; behind the last layer apply it to the results",
    ),
    _kind(
        "Softmax Softmax2d Softmin LogSoftmax AdaptiveLogSoftmaxWithLoss",
        "it divides by a sum over all neurons, which the chip does not compute",
        "Take it out of forward and apply it to the results; the largest stays the largest without it",
    ),
    _kind(
        "FractionalMaxPool2d FractionalMaxPool3d",
        "it draws its windows at random in every run",
        "Use MaxPool2d behind a neuron",
    ),
    _kind(
        "MaxUnpool1d MaxUnpool2d MaxUnpool3d",
        "it needs the places of the maxima of another layer, which spikes do not carry",
        "Use a Linear layer with fixed weights that spreads the values",
    ),
    _kind(
        "LayerNorm GroupNorm RMSNorm InstanceNorm1d InstanceNorm2d InstanceNorm3d LocalResponseNorm "
        "CrossMapLRN2d",
        "it takes mean and deviation from each sample during the run, which the chip does not compute",
        "Use BatchNorm, whose stored statistics fold into the weights",
    ),
    _kind(
        "SyncBatchNorm",
        "it exchanges statistics between processes",
        "Use BatchNorm1d or BatchNorm2d with its parameters and running statistics",
    ),
    _kind(
        "RNN LSTM GRU RNNCell LSTMCell GRUCell RNNBase RNNCellBase",
        "its states pass tanh, and gates multiply signals with each other; no neuron of the chip does that",
        "Use RLeaky or RSynaptic for recurrence and train again",
    ),
    _kind(
        "MultiheadAttention Transformer TransformerEncoder TransformerDecoder TransformerEncoderLayer "
        "TransformerDecoderLayer",
        "attention multiplies signals with each other and divides by their sum",
        "Run it before or behind the spiking part, outside of the module that is exported",
    ),
    _kind(
        "Embedding EmbeddingBag",
        "it looks rows up by number, and the chip receives spikes",
        "Send one-hot spikes into a Linear layer whose weight is the transposed table",
    ),
    _kind(
        "Bilinear CosineSimilarity PairwiseDistance",
        "it multiplies two signals with each other",
        "Compute it from the results of the run, outside of the module",
    ),
    _kind(
        "BCELoss BCEWithLogitsLoss CTCLoss CosineEmbeddingLoss CrossEntropyLoss GaussianNLLLoss "
        "HingeEmbeddingLoss HuberLoss KLDivLoss L1Loss LinearCrossEntropyLoss MSELoss MarginRankingLoss "
        "MultiLabelMarginLoss MultiLabelSoftMarginLoss MultiMarginLoss NLLLoss PoissonNLLLoss "
        "SmoothL1Loss SoftMarginLoss TripletMarginLoss TripletMarginWithDistanceLoss",
        "a loss belongs to the training",
        "Take it out of forward",
    ),
)  # fmt: skip

# Neurons of snnTorch that no export takes, with the reason and the way out.
REFUSED_NEURONS = (
    _kind(
        "Alpha",
        "a spike clears both of its currents, and neurons of NIR and of the chip keep their synaptic current",
        "Use Synaptic, a neuron with one synaptic current, and train again",
    ),
    _kind(
        "SLSTM SConv2dLSTM",
        "its gates multiply signals with each other, which no neuron of the chip does",
        "Use RLeaky or RSynaptic (with a Conv2d as `recurrent` for images) and train again",
    ),
    _kind(
        "LeakyParallel",
        "it takes all steps at once through torch.nn.RNN, and its spikes reset nothing",
        "Use Linear and Leaky(reset_mechanism='zero', reset_delay=False) and train again",
    ),
    _kind(
        "StateLeaky LinearLeaky AssociativeLeaky",
        "it computes all steps at once, and its spikes reset nothing",
        "Use Linear and Leaky(reset_mechanism='zero', reset_delay=False) and train again",
    ),
    _kind(
        "DeltaLeaky",
        "it spikes where the membrane rises quickly, not where it is above the threshold",
        "Use Leaky and train again",
    ),
    _kind(
        "SpikingNeuron LIF",
        "it is a base class, whose equations are those of the derived class",
        "Use Leaky, Synaptic, Lapicque, RLeaky or RSynaptic",
    ),
)  # fmt: skip


def refused_classes() -> Iterator[tuple[type, RefusedKind]]:
    """Each class that this torch and snnTorch have, with its record."""
    for module, kinds in ((nn, REFUSED_LAYERS), (snntorch, REFUSED_NEURONS)):
        for kind in kinds:
            for name in kind.names:
                found = getattr(module, name, None)
                if isinstance(found, type):
                    yield found, kind
