"""model.pt of a BirilNet: its configuration and weights; reading one executes nothing.

The file is an ``.npz``: a JSON ``header``, and ``weights/NAME`` for each tensor. It is read without torch,
and held against the shapes that its own configuration implies before memory is taken. Files of 0.1.0
are read by :mod:`biril_nm.models.old_files`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from biril_nm.errors import BirilError, FileFormatError
from biril_nm.models.config import ModelConfig
from biril_nm.models.net import BirilNet
from biril_nm.models.old_files import is_torch_archive, read_torch_archive
from biril_nm.models.plans import without_ignored
from biril_nm.models.registry import build_model
from biril_nm.storage import check_output, read_document, write_document

__all__ = [
    "CHECKPOINT_FORMAT",
    "CHECKPOINT_VERSION",
    "FORMAT",
    "VERSION",
    "as_array",
    "check_shapes",
    "check_tensors",
    "net_from_parts",
    "net_parts",
    "read_parts",
    "save_net",
]

FORMAT = "biril-nm model"
VERSION = 2
# Format and version of checkpoint.pt, which holds the same beside the state of a training.
CHECKPOINT_FORMAT, CHECKPOINT_VERSION = "biril-nm checkpoint", 2
HEADER_ALLOWANCE = 1 << 20  # tensors may claim at most this much more than the file holds
WEIGHTS = "weights/"


def net_parts(net: BirilNet) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Plain values and arrays from which :func:`net_from_parts` builds an equal net."""
    header = {"model": net.name, "config": net.config.to_dict()}
    return header, {f"{WEIGHTS}{k}": as_array(v) for k, v in net.state_dict().items()}


def as_array(tensor: Tensor) -> NDArray[Any]:
    """The values of a tensor; bfloat16, which NumPy lacks, as float32."""
    plain = tensor.detach().cpu()
    array: NDArray[Any] = (plain.float() if plain.dtype == torch.bfloat16 else plain).numpy()
    return array


def save_net(net: BirilNet, path: str | Path, force: bool = False) -> None:
    """Write ``net`` to ``path`` atomically; equal nets give equal files.

    Raises:
        OutputExistsError: the file exists and ``force`` is False.
    """
    target = check_output(path, force)
    header, arrays = net_parts(net)
    header = {"format": FORMAT, "version": VERSION, **header}
    write_document(target, header, arrays, compress=False, force=force)


def read_parts(
    path: str | Path,
    file_format: str | Mapping[str, Sequence[int]],
    version: int = 0,
    bare: bool = False,
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Header and tensors of a file; nothing in it is executed.

    Args:
        path: the file.
        file_format: its format; or several, each with its versions.
        version: of the one format.
        bare: whether weights that torch saved alone are taken, which have an empty header.

    Raises:
        FileFormatError: no such file, or not what is expected.
    """
    source = Path(path)
    if is_torch_archive(source):
        old = file_format if isinstance(file_format, str) else FORMAT
        return read_torch_archive(source, old, bare)
    room = source.stat().st_size + HEADER_ALLOWANCE
    header, arrays = read_document(source, file_format, (version,), room)
    try:
        return header, {name: torch.from_numpy(array) for name, array in arrays.items()}
    except (TypeError, ValueError) as error:  # text, or bytes in another order
        raise FileFormatError(f"'{source}' holds arrays that are not tensors: {error}") from error


def net_from_parts(
    header: Mapping[str, Any], tensors: Mapping[str, Tensor], path: str | Path
) -> BirilNet:
    """Inverse of :func:`net_parts`; shapes are checked before any network is made.

    Raises:
        FileFormatError: the weights do not belong to the configuration.
    """
    source = Path(path)
    state = {k.removeprefix(WEIGHTS): v for k, v in tensors.items() if k.startswith(WEIGHTS)}
    try:
        name = str(header["model"])
        config = without_ignored(name, ModelConfig.from_dict(header["config"]))
        check_tensors(source, state)
        with torch.device("meta"):
            expected = build_model(name, config).state_dict()
    except FileFormatError:
        raise
    except (BirilError, KeyError, TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise FileFormatError(f"'{source}' has no valid configuration: {error!r}") from error
    check_shapes(source, state, expected)
    net = build_model(name, config)
    try:
        net.load_state_dict(state)
    except RuntimeError as error:  # complex numbers of the right shape
        raise FileFormatError(f"'{source}' holds weights that are not plain numbers") from error
    return net


def check_tensors(source: Path, state: Mapping[str, Tensor]) -> None:
    """Refuse weights that are larger than their file, or not finite."""
    claimed = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    if claimed > source.stat().st_size + HEADER_ALLOWANCE:
        raise FileFormatError(f"'{source}' claims {claimed} bytes of weights but is smaller")
    bad = [k for k, v in state.items() if v.is_floating_point() and not bool(v.isfinite().all())]
    if bad:
        raise FileFormatError(f"'{source}': weights {bad[:8]} hold nan or infinity")


def check_shapes(source: Path, state: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Refuse weights of other names or shapes than expected."""
    missing, extra = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    if missing or extra:
        raise FileFormatError(
            f"'{source}': weights do not belong to its model; missing {missing[:8]}, unknown {extra[:8]}"
        )
    wrong = [
        f"{key} is {state[key].dtype} {tuple(state[key].shape)}; expected {tuple(tensor.shape)}"
        for key, tensor in expected.items()
        if state[key].shape != tensor.shape
        or state[key].is_floating_point() != tensor.is_floating_point()
    ]
    if wrong:
        raise FileFormatError(f"'{source}': {'; '.join(wrong[:8])}")
