"""The records of a training for loggers of Lightning: Weights & Biases, TensorBoard, CSV and others."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from biril_nm.arguments import checked, shown
from biril_nm.errors import ConfigError
from biril_nm.training.callbacks import Callback
from biril_nm.training.reporting import scalars

__all__ = ["LogTo"]

METHODS = ("log_metrics", "log_hyperparams", "finalize")


class LogTo(Callback):
    """Pass each epoch on to a logger.

    A logger has the methods of :class:`lightning_fabric.loggers.Logger`: ``log_metrics(metrics, step)`` with
    the numbers of an epoch and its number from 1, ``log_hyperparams(params)`` once before the first one, and
    ``finalize(status)`` behind the last one. Of several processes, the one that leads calls them.

    Args:
        logger: one of Lightning, or what has its methods.
        hyperparameters: what the logger is to hold of the run, such as ``config.to_dict()``.

    Raises:
        ConfigError: the logger lacks a method.
    """

    @checked
    def __init__(self, logger: Any, hyperparameters: Mapping[str, Any] | None = None) -> None:
        missing = [name for name in METHODS if not callable(getattr(logger, name, None))]
        if missing:
            raise ConfigError(
                f"logger is {shown(logger)}, without {', '.join(missing)}; expected a logger of Lightning. "
                f"Give one such as lightning.pytorch.loggers.WandbLogger()"
            )
        self.logger = logger
        self.hyperparameters = dict(hyperparameters or {})

    def on_train_start(self, first_epoch: int, n_epochs: int) -> None:
        """Pass the hyperparameters on, if the logger takes any."""
        del first_epoch, n_epochs
        if self.hyperparameters:
            with suppress(NotImplementedError):  # CSVLogger of Fabric
                self.logger.log_hyperparams(self.hyperparameters)

    def on_epoch_end(self, record: dict[str, Any]) -> None:
        """Pass the numbers on; what the logger holds back is written, since the run may be stopped."""
        self.logger.log_metrics(scalars(record), step=record["epoch"])
        save = getattr(self.logger, "save", None)
        if callable(save):
            save()

    def on_train_end(self, records: list[dict[str, Any]]) -> None:
        """Close the logger."""
        del records
        self.logger.finalize("success")
