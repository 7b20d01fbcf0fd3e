"""checkpoint.pt: all that is needed to continue a run after an epoch; written atomically.

Data order, rounding and rate coding are functions of seed and epoch, so no random state is stored.
An interrupted epoch starts again, and the resumed run ends in the same weights bit for bit.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from biril_nm.errors import BirilError, ConfigError, FileFormatError, bullet_list
from biril_nm.models.files import net_from_record, net_record, read_record
from biril_nm.models.net import BirilNet
from biril_nm.storage import atomic_file
from biril_nm.training.config import TrainConfig

__all__ = ["CHECKPOINT", "read_checkpoint", "write_checkpoint"]

CHECKPOINT = "checkpoint.pt"
FORMAT = "biril-nm checkpoint"
VERSION = 1


def write_checkpoint(
    path: Path,
    net: BirilNet,
    optimizer: torch.optim.Optimizer,
    config: TrainConfig,
    records: list[dict[str, Any]],
) -> None:
    """Write the state after ``len(records)`` epochs."""
    record = {
        "format": FORMAT,
        "version": VERSION,
        **net_record(net),
        "optimizer": optimizer.state_dict(),
        "train_config": json.dumps(config.to_dict()),
        "records": json.dumps(records),
    }
    with atomic_file(path) as part:
        torch.save(record, part)


def read_checkpoint(
    path: Path, net: BirilNet, optimizer: torch.optim.Optimizer, config: TrainConfig
) -> list[dict[str, Any]]:
    """Put net and optimiser into the state of the file; returns the records so far.

    Raises:
        FileFormatError: damaged or hostile file.
        ConfigError: the file belongs to another network or configuration.
    """
    record = read_record(path, FORMAT, VERSION)
    stored = net_from_record(record, path)
    try:
        before = TrainConfig.from_dict(json.loads(record["train_config"]))
        records = [dict(entry) for entry in json.loads(record["records"])]
    except (BirilError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise FileFormatError(f"'{path}' holds no valid training state: {error}") from error
    findings = config.differences(before)
    if (stored.name, stored.config) != (net.name, net.config):
        findings.append(
            f"model: {stored.name}, {stored.config} before, {net.name}, {net.config} now"
        )
    if findings:
        raise ConfigError(
            bullet_list(
                f"'{path}' belongs to another run; resume with the same settings or choose another "
                f"output folder:",
                findings,
            )
        )
    net.load_state_dict(stored.state_dict())
    _load_optimizer(path, optimizer, record)
    return records


def _load_optimizer(
    path: Path, optimizer: torch.optim.Optimizer, record: Mapping[str, Any]
) -> None:
    """Take over the moments; the settings of the optimiser follow from the configuration."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    try:
        stored = record["optimizer"]["state"]
        known = range(len(parameters))
        state = {i: _moments(entry, parameters[known.index(i)]) for i, entry in stored.items()}
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise FileFormatError(f"'{path}' holds no valid optimiser state: {error!r}") from error
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def _moments(entry: Mapping[str, Any], parameter: Tensor) -> dict[str, Tensor]:
    """State of Adam for one parameter."""
    moments = {name: entry[name] for name in ("step", "exp_avg", "exp_avg_sq")}
    for name, value in moments.items():
        shape = torch.Size() if name == "step" else parameter.shape
        plain = isinstance(value, Tensor) and (value.layout, value.dtype, value.shape) == (
            torch.strided,
            parameter.dtype,
            shape,
        )
        if not plain or not bool(value.isfinite().all()):
            raise ValueError(f"{name} is not finite or not of shape {tuple(shape)}")
    return {name: value.clone() for name, value in moments.items()}
