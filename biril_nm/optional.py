"""Packages that an installation may lack, or that do not load: imported when they are needed."""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from biril_nm.errors import MissingDependencyError

__all__ = ["installed", "library"]

# torchvision 0.(N + 15).P is built for torch 2.N.P, and for no other.
TORCH, TORCHVISION_AHEAD = re.compile(r"2\.(\d{1,3})\.(\d{1,3})"), 15
MAX_REASON = 200


def installed(package: str) -> bool:
    """Whether a package is there, by its import name; it is not imported."""
    try:
        return importlib.util.find_spec(package) is not None
    except ImportError:
        return False
    except ValueError:  # it is imported, and has no __spec__
        return sys.modules.get(package) is not None


def library(name: str, extra: str, purpose: str) -> Any:
    """An optional package, imported.

    Args:
        name: its import name.
        extra: extra of biril-nm that installs it.
        purpose: what it is needed for, as the end of the sentence "... is needed to".

    Raises:
        MissingDependencyError: it is not installed, or cannot be imported; the message says what to do.
    """
    try:
        return importlib.import_module(name)
    except MemoryError:
        raise
    except Exception as error:  # a package that was built for another torch raises anything
        absent = isinstance(error, ModuleNotFoundError) and error.name == name
        command = _torchvision() if name == "torchvision" else ""
        raise MissingDependencyError(
            name, extra, purpose, command, "" if absent else _reason(error)
        ) from error


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text:.{MAX_REASON}}"


def _torchvision() -> str:
    """The command that installs the torchvision of the torch that is there, and leaves torch alone."""
    try:
        torch = version("torch")
    except PackageNotFoundError:
        return "pip install torch torchvision"
    found = TORCH.match(torch)
    if found is None:
        return "pip install torchvision"
    release = f"0.{int(found[1]) + TORCHVISION_AHEAD}.{found[2]}"
    command = f"pip install --no-deps torchvision=={release} pillow"
    return f"{command} (from the index that torch {torch} came from)" if "+" in torch else command
