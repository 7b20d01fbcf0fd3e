"""Compiled kernels on disk: kept only where nobody else can put code, since it is loaded and run."""

from __future__ import annotations

import logging
import stat
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numba

from biril_nm.storage.platform import user_id

__all__ = ["folder_of", "is_private", "kept", "owner_of"]

F = TypeVar("F", bound=Callable[..., Any])

log = logging.getLogger(__name__)


def kept(function: F, **options: Any) -> F:
    """Compile a function, and keep its machine code on disk between runs where that is safe.

    numba caches beside the module, or in the user's cache folder. Where neither can be written, or others
    can write it, the code is compiled again in each process.
    """
    try:
        compiled = numba.njit(function, cache=True, **options)
    except RuntimeError:  # numba: "no locator available": no folder for the cache
        return cast(F, numba.njit(function, **options))
    folder = folder_of(compiled)
    if folder is None or not is_private(folder):
        return cast(F, numba.njit(function, **options))
    return cast(F, compiled)


def folder_of(compiled: Any) -> Path | None:
    """Where numba keeps the code of a function; None if it does not, or does not say so."""
    index = getattr(getattr(compiled, "_cache", None), "_cache_file", None)
    path = getattr(index, "_index_path", None)
    return None if path is None else Path(path).parent


@cache
def is_private(folder: Path) -> bool:
    """Whether nobody can put code there who could not change the sources as well.

    Whoever writes files of the cache runs code as the user who reads them.
    """
    user = user_id()
    if user is None:
        return True
    ours = {user, 0, owner_of(Path(__file__))}
    open_to = stat.S_IWOTH | (0 if _mode(Path(__file__).parent) & stat.S_IWGRP else stat.S_IWGRP)
    private = owner_of(folder) in ours and not _mode(folder) & open_to
    if not private:
        log.warning(
            "the folder of compiled kernels '%s' can be written by others, so kernels are compiled anew in "
            "each process; expected a folder that only you can write. Set NUMBA_CACHE_DIR to one",
            folder,
        )
    return private


def _mode(path: Path) -> int:
    return path.stat().st_mode


def owner_of(path: Path) -> int:
    """Number of the user to whom a file or folder belongs."""
    return path.stat().st_uid
