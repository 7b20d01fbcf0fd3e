"""model.pt: configuration and weights of a BirilNet; reading one executes nothing.

The file is a ``torch.save`` archive of plain values and tensors, read with ``weights_only=True``
and held against the shapes that its own configuration implies before memory is taken.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from biril_nm.errors import BirilError, FileFormatError
from biril_nm.models.config import ModelConfig
from biril_nm.models.net import BirilNet
from biril_nm.models.registry import build_model
from biril_nm.storage import atomic_file, check_output

__all__ = ["load", "net_from_record", "net_record", "read_record", "save"]

FORMAT = "biril-nm model"
VERSION = 1
HEADER_ALLOWANCE = 1 << 20  # tensors may claim at most this much more than the file holds


def net_record(net: BirilNet) -> dict[str, Any]:
    """Plain values and tensors from which :func:`net_from_record` builds an equal net."""
    return {
        "model": net.name,
        "config": net.config.to_dict(),
        "state_dict": {k: v.detach().cpu() for k, v in net.state_dict().items()},
    }


def save(net: BirilNet, path: str | Path, force: bool = False) -> None:
    """Write ``net`` to ``path`` atomically.

    Raises:
        OutputExistsError: the file exists and ``force`` is False.
    """
    target = check_output(path, force)
    record = {"format": FORMAT, "version": VERSION, **net_record(net)}
    with atomic_file(target) as part:
        torch.save(record, part)


def load(path: str | Path) -> BirilNet:
    """Read a file of :func:`save`; the net comes back in eval mode on the CPU.

    Raises:
        FileFormatError: truncated, hostile, of another format, or inconsistent.
    """
    record = read_record(path, FORMAT, VERSION)
    net = net_from_record(record, path)
    net.eval()
    return net


def read_record(path: str | Path, file_format: str, version: int) -> dict[str, Any]:
    """Read a torch archive of plain values; nothing in it is executed.

    Raises:
        FileFormatError: no such file, or not what is expected.
    """
    source = Path(path)
    if not source.is_file():
        raise FileFormatError(f"file '{source}' does not exist")
    try:
        record = torch.load(source, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise FileFormatError(
            f"'{source}' holds something other than plain weights, which is never loaded: "
            f"{str(error).splitlines()[0]}"
        ) from error
    except Exception as error:  # a damaged archive fails anywhere inside torch's reader
        raise FileFormatError(
            f"'{source}' is damaged or no torch file ({type(error).__name__}: "
            f"{(str(error).splitlines() or [''])[0]})"
        ) from error
    found = record.get("format") if isinstance(record, dict) else type(record).__name__
    if found != file_format:
        raise FileFormatError(f"'{source}' is '{found}'; needed is a '{file_format}' file")
    if record.get("version") != version:
        raise FileFormatError(
            f"'{source}' has version {record.get('version')}; readable is version {version}"
        )
    return dict(record)


def net_from_record(record: Mapping[str, Any], path: str | Path) -> BirilNet:
    """Inverse of :func:`net_record`; shapes are checked before any network is made.

    Raises:
        FileFormatError: the weights do not belong to the configuration.
    """
    source = Path(path)
    try:
        name, state = str(record["model"]), record["state_dict"]
        config = ModelConfig.from_dict(record["config"])
        _check_tensors(source, state)
        with torch.device("meta"):
            expected = build_model(name, config).state_dict()
    except FileFormatError:
        raise
    except (BirilError, KeyError, TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise FileFormatError(f"'{source}' has no valid configuration: {error!r}") from error
    _check_shapes(source, state, expected)
    net = build_model(name, config)
    try:
        net.load_state_dict(state)
    except RuntimeError as error:  # sparse, quantised or complex tensors of the right shape
        raise FileFormatError(f"'{source}' holds weights that are no plain numbers") from error
    return net


def _check_tensors(source: Path, state: Any) -> None:
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise FileFormatError(f"'{source}': state_dict is no table of tensors")
    claimed = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    if claimed > source.stat().st_size + HEADER_ALLOWANCE:
        raise FileFormatError(f"'{source}' claims {claimed} bytes of weights but is smaller")
    bad = [k for k, v in state.items() if v.is_floating_point() and not bool(v.isfinite().all())]
    if bad:
        raise FileFormatError(f"'{source}': weights {bad} hold nan or infinity")


def _check_shapes(source: Path, state: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    missing, extra = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    if missing or extra:
        raise FileFormatError(
            f"'{source}': weights do not belong to its model; missing {missing}, unknown {extra}"
        )
    wrong = [
        f"{key} is {state[key].dtype} {tuple(state[key].shape)}, needed {tuple(tensor.shape)}"
        for key, tensor in expected.items()
        if state[key].shape != tensor.shape
        or state[key].is_floating_point() != tensor.is_floating_point()
    ]
    if wrong:
        raise FileFormatError(f"'{source}': {'; '.join(wrong)}")
