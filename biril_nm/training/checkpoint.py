"""checkpoint.pt: all that is needed to continue a run after an epoch; written atomically.

Data order, rounding, rate coding and what layers draw are functions of seed, epoch and batch, so no random
state is stored.
An interrupted epoch starts again, and the resumed run ends in the same weights bit for bit.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from itertools import repeat
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from biril_nm.errors import BirilError, ConfigError, FileFormatError, bullet_list
from biril_nm.models.files import (
    CHECKPOINT_FORMAT,
    CHECKPOINT_VERSION,
    as_array,
    check_tensors,
    net_from_parts,
    net_parts,
    read_parts,
)
from biril_nm.models.net import BirilNet
from biril_nm.models.spiking_net import SpikingNet
from biril_nm.models.weights import take_weights, weight_arrays
from biril_nm.storage import write_document
from biril_nm.training.best import TEST, VALIDATION
from biril_nm.training.config import TrainConfig

__all__ = ["CHECKPOINT", "read_checkpoint", "write_checkpoint"]

CHECKPOINT = "checkpoint.pt"
OPTIMIZER, KEPT = "optimizer/", "kept/"


def write_checkpoint(
    path: Path,
    net: SpikingNet,
    optimizer: torch.optim.Optimizer,
    config: TrainConfig,
    records: list[dict[str, Any]],
    kept: Mapping[str, Tensor] | None = None,
) -> None:
    """Write the state after ``len(records)`` epochs; ``kept`` is what phases keep."""
    own = ({"network": net.identity()}, weight_arrays(net))
    header, arrays = net_parts(net) if isinstance(net, BirilNet) else own
    header |= {
        "format": CHECKPOINT_FORMAT,
        "version": CHECKPOINT_VERSION,
        "train_config": config.to_dict(),
        "records": [_finite(record) for record in records],
    }
    for index, entry in optimizer.state_dict()["state"].items():
        arrays |= {f"{OPTIMIZER}{index}/{name}": as_array(value) for name, value in entry.items()}
    arrays |= {f"{KEPT}{name}": as_array(value) for name, value in (kept or {}).items()}
    write_document(path, header, arrays, compress=False)


def _finite(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record without nan and infinity, which JSON lacks: a loss that diverged becomes None."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in record.items()
    }


def read_checkpoint(
    path: Path,
    net: SpikingNet,
    optimizer: torch.optim.Optimizer,
    config: TrainConfig,
    kept: dict[str, Tensor] | None = None,
) -> list[dict[str, Any]]:
    """Put net, optimiser and ``kept`` into the state of the file; returns the records so far.

    Raises:
        FileFormatError: damaged or hostile file.
        ConfigError: the file belongs to another network or configuration.
    """
    header, tensors = read_parts(path, CHECKPOINT_FORMAT, CHECKPOINT_VERSION)
    stored = None if "network" in header else net_from_parts(header, tensors, path)
    try:
        before = TrainConfig.from_dict(header["train_config"])
        entries = enumerate(map(_named, header["records"], repeat(before.keep)), 1)
        records = [_checked_record(i, entry) for i, entry in entries]
    except (BirilError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise FileFormatError(f"'{path}' holds no valid training state: {error}") from error
    findings = config.differences(before)
    then = header["network"] if stored is None else f"{stored.name}, {stored.config}"
    now = f"{net.name}, {net.config}" if isinstance(net, BirilNet) else _plain(net.identity())
    if then != now:
        findings.append(f"model: {then} before, {now} now")
    if findings:
        raise ConfigError(
            bullet_list(
                f"'{path}' belongs to another run. Resume with the same settings or choose another "
                f"output folder:",
                findings,
            )
        )
    if stored is None:
        take_weights(net, tensors, path)
    else:
        net.load_state_dict(stored.state_dict())
    _load_optimizer(path, optimizer, tensors)
    if kept is not None:
        own = {k.removeprefix(KEPT): v.clone() for k, v in tensors.items() if k.startswith(KEPT)}
        check_tensors(path, own)
        kept.update(own)
    return records


def _plain(values: Mapping[str, Any]) -> Any:
    """The values as a file gives them back."""
    return json.loads(json.dumps(values))


def _named(record: Mapping[str, Any], keep: str) -> dict[str, Any]:
    """A record with the present name of the accuracy that chooses an epoch, which was once TEST."""
    chooses = keep == "best"
    return {VALIDATION if chooses and key == TEST else key: v for key, v in record.items()}


def _checked_record(epoch: int, record: Mapping[str, Any]) -> dict[str, Any]:
    """The record of an epoch with values that reports can show."""
    shown = ("loss", "train_accuracy", TEST, VALIDATION)
    numbers = [record[key] for key in shown if key in record]
    numbers += [*record.get("firing_rates", {}).values(), record.get("seconds", 0.0)]
    if record["epoch"] != epoch or not isinstance(record["phase"], str) or "loss" not in record:
        raise ValueError(f"record {epoch} is of epoch {record['epoch']!r:.40}")
    if not all(value is None or type(value) in (int, float) for value in numbers):
        raise ValueError(f"record {epoch} holds something other than numbers")
    return dict(record)


def _load_optimizer(
    path: Path, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]
) -> None:
    """Take over the moments; the settings of the optimiser follow from the configuration."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    stored: dict[int, dict[str, Tensor]] = {}
    try:
        for key, tensor in tensors.items():
            if key.startswith(OPTIMIZER):
                index, _, name = key.removeprefix(OPTIMIZER).partition("/")
                stored.setdefault(range(len(parameters)).index(int(index)), {})[name] = tensor
        state = {i: _moments(entry, parameters[i]) for i, entry in stored.items()}
    except (LookupError, ValueError, RuntimeError) as error:
        raise FileFormatError(f"'{path}' holds no valid optimiser state: {error!r}") from error
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def _moments(entry: Mapping[str, Tensor], parameter: Tensor) -> dict[str, Tensor]:
    """State of Adam for one parameter."""
    moments = {name: entry[name] for name in ("step", "exp_avg", "exp_avg_sq")}
    for name, value in moments.items():
        shape = torch.Size() if name == "step" else parameter.shape
        plain = (value.layout, value.dtype, value.shape) == (
            torch.strided,
            parameter.dtype,
            shape,
        )
        if not plain or not bool(value.isfinite().all()):
            raise ValueError(f"{name} is not finite or not of shape {tuple(shape)}")
    return {name: value.clone() for name, value in moments.items()}
