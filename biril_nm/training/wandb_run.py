"""A run of Weights & Biases that a training logs to, and goes on with where the training is resumed."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from biril_nm import optional
from biril_nm.errors import ConfigError
from biril_nm.storage import atomic_file, read_bytes

__all__ = ["RUN_ID", "WandbRun"]

RUN_ID = "wandb_id.txt"  # file of the run's name there, in the folder of a training
PROJECT = "biril-nm"  # if WANDB_PROJECT does not name another
MAX_ID_BYTES = 64
ID_BYTES = 8


class WandbRun:
    """A logger with the methods that :class:`biril_nm.training.LogTo` calls.

    The run starts with the first of them. Its id is in ``wandb_id.txt`` of the folder, so that a resumed
    training adds its epochs to the same run. Variables of the environment are those of wandb: WANDB_API_KEY,
    WANDB_PROJECT, ``WANDB_MODE=offline``.

    Args:
        folder: of the training; files of wandb go to its folder ``wandb``.

    Raises:
        MissingDependencyError: wandb is not installed.
    """

    def __init__(self, folder: Path) -> None:
        self._wandb = optional.library("wandb", "", "log to Weights & Biases")
        self._folder = folder
        self._run: Any = None

    def log_hyperparams(self, params: Mapping[str, Any]) -> None:
        """Settings of the run.

        Raises:
            ConfigError: wandb cannot start a run.
        """
        self._started().config.update(dict(params), allow_val_change=True)

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Numbers of an epoch.

        Raises:
            ConfigError: wandb cannot start a run.
        """
        self._started().log(dict(metrics), step=step)

    def finalize(self, status: str) -> None:
        """End the run, and wait until wandb has sent all of it."""
        if self._run is not None:
            self._run.finish(exit_code=0 if status == "success" else 1)

    def _started(self) -> Any:
        if self._run is None:
            path = self._folder / RUN_ID
            name = _read_id(path) or secrets.token_hex(ID_BYTES)
            try:
                self._run = self._wandb.init(
                    project=None if "WANDB_PROJECT" in os.environ else PROJECT,
                    name=self._folder.resolve().name,
                    id=name,
                    resume="allow",
                    dir=str(self._folder),
                )
            except self._wandb.errors.Error as error:
                reason = " ".join(str(error).split())
                raise ConfigError(
                    f"wandb cannot start a run: {reason:.300}; expected an account, or none. Run "
                    f"'wandb login', or set WANDB_MODE=offline, which keeps the run on this machine"
                ) from error
            with atomic_file(path) as part:
                part.write_text(name, encoding="ascii")
        return self._run


def _read_id(path: Path) -> str:
    """The id that a folder holds; empty without one."""
    if not path.is_file():
        return ""
    return read_bytes(path, MAX_ID_BYTES, follow_links=False).decode("ascii", "replace").strip()
