"""A user's own module from the command line: what makes it, and a sample of what it takes."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from biril_nm.coding import Coding
from biril_nm.errors import ConfigError

if TYPE_CHECKING:
    import torch

    from biril_nm.commands.options import OwnModule
    from biril_nm.models import OwnNet
    from biril_nm.models.saving import StoredNet

__all__ = ["architecture_of", "own_net", "sample_for"]

FORM = "package.module:MyNet"
STEPS = 16  # of a sample, where nothing says it
BATCH = 2


def architecture_of(text: str) -> Callable[[], Any]:
    """The class or function that ``package.module:MyNet`` names; modules of the working folder are found.

    Raises:
        ConfigError: another form, a module that cannot be imported, or a name that it does not have.
    """
    module, colon, path = text.partition(":")
    if not colon or not all(part.isidentifier() for part in (*module.split("."), *path.split("."))):
        raise ConfigError(
            f"--architecture is '{text:.80}'; expected {FORM}, where mynet.py in this folder is the "
            f"module mynet"
        )
    folder = str(Path.cwd())
    if folder not in sys.path:
        # Last, so that no file here hides a package; it stays for later imports.
        sys.path.append(folder)
    try:
        found: Any = importlib.import_module(module)
    except Exception as error:  # whatever the user's module raises
        raise ConfigError(
            f"--architecture {text}: importing {module} failed ({type(error).__name__}: {error}). Run "
            f"biril where {module} can be imported, or set PYTHONPATH"
        ) from error
    for name in path.split("."):
        if not hasattr(found, name):
            known = [key for key in vars(found) if not key.startswith("_")][:8]
            raise ConfigError(
                f"--architecture {text}: {module} has no '{name}'; it has {', '.join(known) or 'nothing'}"
            )
        found = getattr(found, name)
    if not callable(found):
        raise ConfigError(
            f"--architecture {text} is of type {type(found).__name__}; expected a class or a function"
        )
    made: Callable[[], Any] = found
    return made


def own_net(stored: StoredNet, path: Path, coding: str | None) -> OwnNet:
    """The module with its coding: as the file says, else as the option, else binary spikes.

    Raises:
        ConfigError: both say it, or it holds no spiking neurons.
    """
    from biril_nm.models import OwnNet

    if coding is not None and stored.coding is not None:
        raise ConfigError(f"--coding {coding}: '{path}' has its own, {stored.coding}. Leave it out")
    chosen = Coding("spikes", STEPS) if coding is None else Coding.parse(coding)
    return OwnNet(stored.net, stored.coding or chosen)


def sample_for(net: OwnNet, stored: StoredNet, path: Path, own: OwnModule) -> torch.Tensor:
    """Zeros of the shape that the module takes at once.

    Raises:
        ConfigError: nothing says the shape of a step, or both file and option do.
    """
    import torch

    from biril_nm.engines.torch_net import taken_at_once
    from biril_nm.models.saving import check_input_shape

    shape = stored.input_shape
    if own.input_shape is not None:
        sizes = own.input_shape.split(",")
        if shape is not None or not all(n.isascii() and n.isdigit() and len(n) < 9 for n in sizes):
            known = "" if shape is None else f", and '{path}' says {','.join(map(str, shape))}"
            raise ConfigError(
                f"--input-shape is '{own.input_shape:.60}'{known}; expected sizes such as 2,34,34, where "
                f"the file says none"
            )
        shape = check_input_shape([int(size) for size in sizes])
    if shape is None:
        raise ConfigError(
            f"'{path}' does not say the shape of one step of its input. Give --input-shape 2,34,34, or "
            f"save it: bnm.save(net, path, input_shape=(2, 34, 34))"
        )
    values = torch.zeros(net.coding.n_steps, BATCH, *shape)
    try:
        return taken_at_once(net.module, values)
    except ConfigError:  # its loop has another number of steps, perhaps
        return net.sample_of(values)
