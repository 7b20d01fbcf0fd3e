"""snnTorch networks as people write them: the inputs of the export tests.

Each entry is a function that returns (module, shape of one step, style). Styles: ``step`` (forward
computes one step), ``loop`` (forward loops over a first time dimension), ``static`` (forward shows
one image at every step).
"""

from tests.support.zoo import functions, layers, loops, states
from tests.support.zoo.registry import N_STEPS, ZOO

__all__ = ["N_STEPS", "ZOO", "functions", "layers", "loops", "states"]
