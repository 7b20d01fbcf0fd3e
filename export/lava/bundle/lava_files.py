"""Checked reading of a bundle's files with numpy alone: what one claims is bounded before it is read."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["InputError", "load_network", "load_spikes"]

SMALL_BYTES = 512 << 20  # an archive may unpack to this much, whatever its own size
MAX_RATIO = 4  # beyond that, to this many times its own size
MAX_BYTES = 2 << 30  # and never to more
PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


class InputError(ValueError):
    """Something the user gave that does not fit the network."""


def load_network(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Description and arrays of ``network.npz``.

    Raises:
        InputError: the file is missing or damaged.
    """
    arrays = read_arrays(path)
    try:
        text = arrays.pop("network").tobytes().decode("utf-8")
        return dict(json.loads(text)), arrays
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise InputError(f"'{path}' is not the network of a bundle: {error!r}") from error


def read_arrays(path: Path) -> dict[str, Any]:
    """All arrays of an ``.npz``; nothing is unpickled.

    Raises:
        InputError: not a regular file, damaged, or it unpacks to much more than its size.
    """
    try:
        allowed = min(MAX_BYTES, max(SMALL_BYTES, MAX_RATIO * path.stat().st_size))
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
        if sum(member.file_size for member in members) > allowed:
            raise ValueError(f"it unpacks to more than {allowed} bytes")
        if any(member.compress_type not in PACKINGS for member in members):
            raise ValueError("it is packed in a way that numpy.savez does not use")
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        others = [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]
        if others:
            raise ValueError(f"{others} are not arrays")
        return arrays
    except Exception as error:  # numpy, zipfile and zlib raise whatever a damaged file provokes
        raise InputError(
            f"'{path}' is not a readable .npz archive of plain arrays: {error}"
        ) from error


def load_spikes(path: Path, description: dict[str, Any], n_samples: int | None) -> dict[str, Any]:
    """Check and return the input arrays, (n_steps, batch, *shape) by input name.

    Raises:
        InputError: arrays are missing, or do not fit the inputs of the network.
    """
    if not path.is_file():
        raise InputError(f"file '{path}' does not exist. Pass --spikes X.npz")
    found = read_arrays(path)
    nodes = description["inputs"]
    spikes = {}
    for node in nodes:
        key = "spikes" if len(nodes) == 1 else node["name"]
        if key not in found:
            names = ", ".join(found) or "nothing"
            raise InputError(f"'{path}' has no array '{key}', only {names}")
        spikes[node["name"]] = _checked(path, key, found[key], node)[:, :n_samples]
    if len({array.shape[:2] for array in spikes.values()}) > 1:
        raise InputError(f"'{path}': the inputs differ in n_steps or batch")
    return spikes


def _checked(path: Path, key: str, array: Any, node: dict[str, Any]) -> Any:
    shape = tuple(node["shape"])
    if array.ndim != 2 + len(shape) or array.shape[2:] != shape or not array.size:
        wanted = f"(n_steps, batch, {', '.join(map(str, shape))})"
        raise InputError(f"'{path}': array '{key}' has shape {array.shape}; expected {wanted}")
    if array.dtype.kind not in "biu":
        raise InputError(f"'{path}': array '{key}' has dtype {array.dtype}; expected integers")
    high = (1 << node["message_bits"]) - 1 if node["message_bits"] else 1
    low = -high if node.get("signed", False) else 0
    if array.min() < low or array.max() > high:
        raise InputError(
            f"'{path}': array '{key}' holds {int(array.min())} to {int(array.max())}; expected {low} to "
            f"{high}. Encode the values as the network was exported"
        )
    return array
