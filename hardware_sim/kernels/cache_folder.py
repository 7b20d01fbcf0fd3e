"""Whether a folder may hold compiled kernels: their files are pickles and machine code."""

from __future__ import annotations

import logging
import os
import stat
from functools import cache
from pathlib import Path

__all__ = ["is_private", "owner_of"]

log = logging.getLogger(__name__)


@cache
def is_private(folder: Path) -> bool:
    """Whether nobody can put code there who could not change the sources as well.

    Whoever writes files of the cache runs code as the user who reads them.
    """
    if not hasattr(os, "getuid"):  # Windows: folders of a user are private
        return True
    ours = {os.getuid(), 0, owner_of(Path(__file__))}
    private = owner_of(folder) in ours and not folder.stat().st_mode & stat.S_IWOTH
    if not private:
        log.warning(
            "the folder of compiled kernels '%s' can be written by others, so kernels are compiled anew in "
            "each process; expected a folder that only you can write. Set NUMBA_CACHE_DIR to one",
            folder,
        )
    return private


def owner_of(path: Path) -> int:
    """Number of the user to whom a file or folder belongs."""
    return path.stat().st_uid
