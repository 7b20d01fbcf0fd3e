"""Weights of any module in the container of ``model.pt``: nothing in the file is executed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from snntorch import SpikingNeuron
from torch import Tensor, nn

from biril_nm.arguments import checked
from biril_nm.errors import ConfigError, FileFormatError
from biril_nm.models.files import WEIGHTS, as_array, check_shapes, check_tensors, read_parts
from biril_nm.models.wrappers import unwrapped
from biril_nm.storage import check_output, write_document

__all__ = ["load_weights", "save_weights", "take_weights", "weight_arrays", "write_weights"]

FORMAT = "biril-nm weights"
VERSION = 1
RESET = "reset_mechanism_val"  # snnTorch's buffer
PREFIXES = ("_orig_mod.", "module.")  # of torch.compile; DataParallel and AveragedModel
AVERAGED = "n_averaged"  # a count of AveragedModel


def weight_arrays(module: nn.Module) -> dict[str, NDArray[Any]]:
    """Parameters and buffers under the names of a file.

    Raises:
        ConfigError: the state holds something other than tensors.
    """
    state = module.state_dict()
    other = [name for name, value in state.items() if not isinstance(value, Tensor)]
    if other:
        raise ConfigError(
            f"the state of {type(module).__name__} holds {other[:8]}, which are not tensors; expected "
            f"tensors. Leave out get_extra_state"
        )
    return {f"{WEIGHTS}{name}": as_array(value) for name, value in state.items()}


def take_weights(module: nn.Module, tensors: Mapping[str, Tensor], path: str | Path) -> None:
    """Put the weights of a file into ``module``.

    Raises:
        FileFormatError: they are not those of such a module.
    """
    source = Path(path)
    state = {k.removeprefix(WEIGHTS): v for k, v in tensors.items() if k.startswith(WEIGHTS)}
    state = _without_wrappers(state, module.state_dict())
    check_tensors(source, state)
    check_shapes(source, state, module.state_dict())
    _check_resets(source, state, module.state_dict())
    try:
        module.load_state_dict(state)
    except RuntimeError as error:  # complex numbers of the right shape
        raise FileFormatError(f"'{source}' holds weights that are not plain numbers") from error


def _without_wrappers(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights without what DataParallel, torch.compile and AveragedModel put in front of their names."""
    found = dict(state)
    if AVERAGED not in own:
        found.pop(AVERAGED, None)
    for prefix in (*PREFIXES, *PREFIXES):  # one within the other
        if not any(name.startswith(prefix) for name in own):
            wrapped = bool(found) and all(name.startswith(prefix) for name in found)
            found = {k.removeprefix(prefix): v for k, v in found.items()} if wrapped else found
    return _without_attribute(found, own)


def _without_attribute(state: dict[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights without the attribute that held the whole network (``model.`` of a LightningModule)."""
    some = next(iter(own), "")
    for name in state if some else ():
        prefix = name.removesuffix(some)
        if prefix.endswith(".") and state.keys() == {f"{prefix}{key}" for key in own}:
            return {key: state[f"{prefix}{key}"] for key in own}
    return state


def _check_resets(source: Path, state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    """Refuse other resets than the module's, whose neurons have chosen their update when they were made."""
    names = dict(enumerate(SpikingNeuron.reset_dict))
    for name, value in state.items():
        layer, _, buffer = name.rpartition(".")
        if buffer == RESET and not torch.equal(value, own[name].to(value)):
            theirs, ours = (names.get(int(v), "an unknown kind") for v in (value, own[name]))
            raise FileFormatError(
                f"'{source}' holds weights of neurons '{layer}' that reset by {theirs}, and the module's "
                f"reset by {ours}; expected the same. Make them with the reset_mechanism of the file"
            )


@checked
def save_weights(module: nn.Module, path: str | Path, force: bool = False) -> None:
    """Write the parameters and buffers of ``module`` to ``path`` atomically.

    Raises:
        OutputExistsError: the file exists and ``force`` is False.
        ConfigError: its state holds something other than tensors.
    """
    write_weights(module, path, {}, force)


def write_weights(
    module: nn.Module, path: str | Path, facts: Mapping[str, Any], force: bool
) -> None:
    """Write a file of :func:`save_weights` with further facts in its header."""
    target = check_output(path, force)
    header = {"format": FORMAT, "version": VERSION, **facts}
    weights = weight_arrays(unwrapped(module))
    write_document(target, header, weights, compress=False, force=force)


@checked
def load_weights(module: nn.Module, path: str | Path) -> None:
    """Put the weights of a file of :func:`save_weights` into ``module``.

    Raises:
        FileFormatError: truncated, hostile, of another format, or of another module.
    """
    with torch.no_grad():
        take_weights(module, read_parts(path, FORMAT, VERSION)[1], path)
