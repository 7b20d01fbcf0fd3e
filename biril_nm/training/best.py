"""The weights of the best epoch, in a file or in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from biril_nm.models.files import read_parts, save_net
from biril_nm.models.net import BirilNet
from biril_nm.models.saving import FORMATS
from biril_nm.models.weights import save_weights, take_weights
from biril_nm.training.world import World

__all__ = ["BEST", "TEST", "VALIDATION", "BestWeights", "is_best"]

BEST = "best.pt"
# Names of an accuracy in the record of an epoch: on samples that choose the epoch, and on others.
VALIDATION, TEST = "validation_accuracy", "test_accuracy"


def is_best(records: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the last of some epochs is the first with the highest accuracy."""
    *before, last = (record[VALIDATION] for record in records)
    return all(last > each for each in before)


class BestWeights:
    """Keeps the weights of the best epoch of a run.

    They are written before the checkpoint of their epoch. A run that is killed in between trains the epoch
    again, and writes the same weights again.

    Args:
        net: that is trained.
        folder: of the run; without one the weights stay in memory.
        world: the processes that train together.
        wanted: whether there is anything to do.
    """

    def __init__(self, net: nn.Module, folder: Path | None, world: World, wanted: bool) -> None:
        self._net, self._world, self._wanted = net, world, wanted
        self._path = None if folder is None else folder / BEST
        self._state: dict[str, Any] = {}

    def look_at(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Keep the weights if the last epoch is the best."""
        if not (self._wanted and self._world.leads and is_best(records)):
            return
        if self._path is not None:
            if isinstance(self._net, BirilNet):
                save_net(self._net, self._path, force=True)
            else:
                save_weights(self._net, self._path, force=True)
        else:
            self._state = {k: v.detach().clone() for k, v in self._net.state_dict().items()}

    def take_back(self) -> None:
        """Give the network the weights that were kept."""
        if not self._wanted:
            return
        if self._world.leads and self._path is not None:
            take_weights(self._net, read_parts(self._path, FORMATS)[1], self._path)
        elif self._state:
            self._net.load_state_dict(self._state)
        if self._world.size > 1:
            self._net.load_state_dict(self._world.agree(self._net.state_dict()))
