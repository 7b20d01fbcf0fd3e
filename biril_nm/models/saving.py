"""model.pt of any network: :func:`save` and :func:`load`; nothing in a file is executed or imported.

A network of this package is built from its configuration (:mod:`biril_nm.models.files`). The file of another
module holds its weights (:mod:`biril_nm.models.weights`) and, in the header, ``architecture``, the name of
its class, for messages only; and, where they are known, ``coding`` and ``input_shape``. Whoever loads it
says what builds the module.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, overload

import torch
from torch import Tensor, nn

from biril_nm.arguments import checked, shown
from biril_nm.coding import Coding
from biril_nm.errors import BirilError, ConfigError, FileFormatError
from biril_nm.models import files, weights
from biril_nm.models.net import BirilNet
from biril_nm.models.own import OwnNet
from biril_nm.models.wrappers import module_of, unwrapped

__all__ = ["StoredNet", "check_input_shape", "load", "read_network", "save"]

FORMATS = {
    files.FORMAT: (files.VERSION,),
    weights.FORMAT: (weights.VERSION,),
    files.CHECKPOINT_FORMAT: (files.CHECKPOINT_VERSION,),
}
MAX_DIMENSIONS, MAX_VALUES = 8, 1 << 26  # of one step of input
M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class StoredNet:
    """A network from a file.

    Attributes:
        net: the network, in eval mode on the CPU.
        coding: how values become its input, where the file says it; a BirilNet has its own.
        input_shape: shape of one step of its input, where the file says it.
    """

    net: nn.Module
    coding: Coding | None = None
    input_shape: tuple[int, ...] | None = None


@checked
def save(
    net: nn.Module,
    path: str | Path,
    force: bool = False,
    coding: Coding | None = None,
    input_shape: Sequence[int] | None = None,
) -> None:
    """Write ``net`` to ``path`` atomically; equal nets give equal files.

    Args:
        net: a BirilNet, or any other module, whose weights are written.
        path: the file to make.
        force: replace an existing file.
        coding: how values become the input of the module; a BirilNet has its own.
        input_shape: shape of one step of its input, without steps and samples. ``biril export`` needs it.

    Raises:
        OutputExistsError: the file exists and ``force`` is False.
        ConfigError: a state other than tensors, a shape that is not one, or facts given with a BirilNet.
    """
    inner = unwrapped(net)
    if isinstance(inner, BirilNet):
        if coding is not None or input_shape is not None:
            raise ConfigError(
                "coding and input_shape are given with a BirilNet, which has its own; expected none. Leave "
                "them out"
            )
        files.save_net(inner, path, force)
        return
    if isinstance(inner, OwnNet):
        coding = inner.coding if coding is None else coding
        input_shape = inner.input_shape if input_shape is None else input_shape
        inner = module_of(inner)
    kind = type(inner)
    facts: dict[str, Any] = {"architecture": f"{kind.__module__}:{kind.__qualname__}"}
    if coding is not None:
        facts["coding"] = coding.to_dict()
    if input_shape is not None:
        facts["input_shape"] = list(check_input_shape(input_shape))
    weights.write_weights(inner, path, facts, force)


@overload
def load(path: str | Path) -> BirilNet: ...
@overload
def load(path: str | Path, architecture: M) -> M: ...
@overload
def load(path: str | Path, architecture: Callable[[], M]) -> M: ...
@checked
def load(
    path: str | Path, architecture: nn.Module | Callable[[], nn.Module] | None = None
) -> nn.Module:
    """Read a file of :func:`save`; the net comes back in eval mode on the CPU.

    The checkpoint.pt of a training of a BirilNet is taken as well: the network after its last epoch.

    Args:
        path: the file. Weights that torch saved (``torch.save(net.state_dict(), path)``) are taken as well,
            if they hold tensors alone.
        architecture: what makes the module whose weights the file holds: its class, a function without
            arguments, or the module itself. None for a BirilNet, whose file says it.

    Raises:
        FileFormatError: truncated, hostile, of another format, or weights of another module.
        ConfigError: the architecture is missing, fails, makes no module, or is given with a BirilNet; or
            the checkpoint of another network.
    """
    return read_network(path, architecture).net


def read_network(
    path: str | Path, architecture: nn.Module | Callable[[], nn.Module] | None = None
) -> StoredNet:
    """As :func:`load`, with what else the file says.

    Raises:
        FileFormatError: as :func:`load`.
        ConfigError: as :func:`load`.
    """
    header, tensors = files.read_parts(path, FORMATS, bare=True)
    if header.get("format") == files.CHECKPOINT_FORMAT and "model" not in header:
        raise ConfigError(
            f"'{path}' is the checkpoint of a network that no name builds; expected its weights. Finish the "
            f"training with resume=True (--resume), and take what it leaves: weights.pt or model.loihi.npz"
        )
    if header.get("format") in (files.FORMAT, files.CHECKPOINT_FORMAT):
        if architecture is not None:
            raise ConfigError(
                f"'{path}' holds a network of biril-nm, and an architecture is given; expected none. "
                f"Leave it out"
            )
        net = files.net_from_parts(header, tensors, path)
        return StoredNet(net.eval(), net.coding, tuple(net.config.input_shape))
    coding, input_shape = _facts(header, path)
    if architecture is None:
        raise ConfigError(_missing(header, path))
    return StoredNet(_filled(architecture, header, tensors, path), coding, input_shape)


def check_input_shape(shape: Sequence[Any]) -> tuple[int, ...]:
    """``shape`` as whole numbers.

    Raises:
        ConfigError: no shape of one step of input.
    """
    sizes = tuple(shape)
    whole = all(isinstance(size, int) and not isinstance(size, bool) and size > 0 for size in sizes)
    if not 0 < len(sizes) <= MAX_DIMENSIONS or not whole or math.prod(sizes) > MAX_VALUES:
        raise ConfigError(
            f"input_shape is {shown(sizes)}; expected 1 to {MAX_DIMENSIONS} sizes from 1, of at most "
            f"{MAX_VALUES} values in all, without steps and samples"
        )
    return sizes


def _facts(
    header: Mapping[str, Any], path: str | Path
) -> tuple[Coding | None, tuple[int, ...] | None]:
    """Coding and shape that a header holds."""
    coding, shape = header.get("coding"), header.get("input_shape")
    try:
        return (
            None if coding is None else Coding.from_dict(coding),
            None if shape is None else check_input_shape(shape),
        )
    except (BirilError, TypeError) as error:
        raise FileFormatError(f"'{path}' has a wrong header: {error}") from error


def _named(header: Mapping[str, Any]) -> str:
    """The class that a file names, for messages."""
    name = header.get("architecture")
    return f" of {shown(name)}" if isinstance(name, str) and name else ""


def _missing(header: Mapping[str, Any], path: str | Path) -> str:
    return (
        f"'{path}' holds the weights{_named(header)} alone; expected what builds the module, since no "
        f"name in a file is imported. Give architecture=MyNet, on the command line --architecture "
        f"package.module:MyNet"
    )


def _filled(
    architecture: nn.Module | Callable[[], nn.Module],
    header: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    path: str | Path,
) -> nn.Module:
    """The module with the weights of the file."""
    module = architecture if isinstance(architecture, nn.Module) else _made(architecture)
    inner = module_of(module)
    try:
        with torch.no_grad():
            weights.take_weights(inner, tensors, path)
    except FileFormatError as error:
        name = type(inner).__qualname__
        raise FileFormatError(
            f"{error}. The file holds weights{_named(header) or ' without a name'}, and the architecture "
            f"made {name}. Make it as the network that was saved"
        ) from error
    module.eval()  # returns nothing where a train() of the user's does not
    return module.cpu()


def _made(architecture: Callable[[], nn.Module]) -> nn.Module:
    name = getattr(architecture, "__qualname__", type(architecture).__name__)
    try:
        module = architecture()
    except Exception as error:  # whatever the user's constructor raises
        raise ConfigError(
            f"architecture {name}() failed ({type(error).__name__}: {error}); expected a class or "
            f"function that needs no argument. Give a function that makes the network, or the network itself"
        ) from error
    if not isinstance(module, nn.Module):
        raise ConfigError(
            f"architecture {name}() made {shown(module)}; expected a torch.nn.Module. Return the network"
        )
    return module
