"""biril-nm: train spiking networks with BIRIL and take them to Loihi-class hardware, proven intact.

Names are resolved on first use, so that the simulator and the Lava back end start without torch.
"""

from __future__ import annotations

import importlib
import logging

from biril_nm import _moved

TYPE_CHECKING = not __name__  # False, and not the literal, behind which jedi sees nothing
if TYPE_CHECKING:  # for type checkers and editors; at run time names are resolved on first use
    from typing import Any

    from biril_nm import errors, testing
    from biril_nm.coding import Coding
    from biril_nm.evaluation.labelled import accuracy
    from biril_nm.export import from_nir
    from biril_nm.hw_graph import LoihiGraph
    from biril_nm.learning.rule import LearningRule
    from biril_nm.loihi import CHIPS, LOIHI1, LOIHI2, ChipProfile
    from biril_nm.models import BirilNet, ModelConfig, build_model, load, save
    from biril_nm.parity import check_parity
    from biril_nm.reports import report
    from biril_nm.training import TrainConfig, fit

__version__ = "0.1.0"

_EXPORTS = {
    "BirilNet": "biril_nm.models",
    "CHIPS": "biril_nm.loihi",
    "LOIHI1": "biril_nm.loihi",
    "LOIHI2": "biril_nm.loihi",
    "Coding": "biril_nm.coding",
    "ChipProfile": "biril_nm.loihi",
    "LearningRule": "biril_nm.learning.rule",
    "LoihiGraph": "biril_nm.hw_graph",
    "ModelConfig": "biril_nm.models",
    "TrainConfig": "biril_nm.training",
    "accuracy": "biril_nm.evaluation.labelled",
    "build_model": "biril_nm.models",
    "check_parity": "biril_nm.parity",
    "errors": "",
    "fit": "biril_nm.training",
    "from_nir": "biril_nm.export",
    "load": "biril_nm.models",
    "report": "biril_nm.reports",
    "save": "biril_nm.models",
    "testing": "",
}

__all__ = [
    "CHIPS",
    "LOIHI1",
    "LOIHI2",
    "BirilNet",
    "ChipProfile",
    "Coding",
    "LearningRule",
    "LoihiGraph",
    "ModelConfig",
    "TrainConfig",
    "accuracy",
    "build_model",
    "check_parity",
    "errors",
    "fit",
    "from_nir",
    "load",
    "report",
    "save",
    "testing",
]

_moved.install()
logging.getLogger(__name__).addHandler(logging.NullHandler())


if not TYPE_CHECKING:  # which would let type checkers take any name

    def __getattr__(name: str) -> Any:
        if name not in _EXPORTS:
            raise AttributeError(f"module 'biril_nm' has no attribute '{name}'")
        home = _EXPORTS[name]
        if not home:
            return importlib.import_module(f"biril_nm.{name}")
        return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
