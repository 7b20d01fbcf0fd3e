"""``biril train --logger``: where the numbers of its epochs go beside its folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from biril_nm.arguments import unknown_name
from biril_nm.errors import ConfigError

if TYPE_CHECKING:
    from biril_nm.training import Callback
    from biril_nm.training.run_config import RunConfig

__all__ = ["NO_LOGGERS", "logger_options", "loggers_of"]

EVENTS = "tensorboard"
NO_LOGGERS = "none"  # no events of TensorBoard either


def logger_options(text: str | None) -> dict[str, Any]:
    """Settings of a run that the text of ``--logger`` means; None where it is not given."""
    if text is None:
        return {"loggers": None, "tensorboard": None}
    names = [] if text == NO_LOGGERS else text.split(",")
    return {
        "loggers": [name for name in names if name != EVENTS],
        "tensorboard": EVENTS in names or (None if names else False),
    }


def loggers_of(run: RunConfig, folder: Path) -> list[Callback]:
    """What passes the epochs of a run on.

    Raises:
        ConfigError: an unknown logger.
        MissingDependencyError: its package is not installed.
    """
    from biril_nm.training import LogTo
    from biril_nm.training.wandb_run import WandbRun

    makers = {"wandb": WandbRun}
    for name in run.loggers:
        if name == EVENTS:
            raise ConfigError(
                "loggers has 'tensorboard', which is a setting of training; expected others. Set tensorboard "
                "= true in [train], or give --logger tensorboard"
            )
        if name not in makers:
            raise ConfigError(unknown_name("logger", name, (EVENTS, *makers, NO_LOGGERS)))
    return [LogTo(makers[name](folder), run.to_dict()) for name in dict.fromkeys(run.loggers)]
