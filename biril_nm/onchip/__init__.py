"""Deep learning on the chip itself: networks whose hidden layers learn too, in integers only."""

from biril_nm.onchip.lessons import SpikeSamples, lessons, pictures, recorded
from biril_nm.onchip.network import METHODS, DeepConfig, dfa_network, halved_impulse
from biril_nm.onchip.state import RunFolder, open_run_folder
from biril_nm.onchip.training import ChipPlan, ChipResult, accuracy, learn_on_chip
from biril_nm.onchip.weights import learned_layers

__all__ = [
    "METHODS",
    "ChipPlan",
    "ChipResult",
    "DeepConfig",
    "RunFolder",
    "SpikeSamples",
    "accuracy",
    "dfa_network",
    "halved_impulse",
    "learn_on_chip",
    "learned_layers",
    "lessons",
    "open_run_folder",
    "pictures",
    "recorded",
]
