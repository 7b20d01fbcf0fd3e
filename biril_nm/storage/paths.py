"""Output paths: no overwriting by accident, and writes that appear whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from biril_nm.errors import OutputExistsError

__all__ = ["atomic_directory", "atomic_file", "check_output"]


def check_output(path: str | Path, force: bool, folder_with: str | None = None) -> Path:
    """Return ``path`` if it may be written.

    Args:
        path: file or folder to make.
        force: replace an existing one of the same kind.
        folder_with: for folders: a file by which an earlier output is known; no other folder is
            ever replaced, unless it is empty.

    Raises:
        OutputExistsError: it exists and ``force`` is False, or it is something else.
    """
    target = Path(path)
    if not os.path.lexists(target):
        return target
    if not force:
        raise OutputExistsError(
            f"output '{target}' exists already; pass --force (force=True) to replace it, or choose "
            f"another path"
        )
    if folder_with is None and target.exists() and not target.is_file():
        raise OutputExistsError(
            f"output '{target}' is a folder or device, which a file never replaces; choose another "
            f"path"
        )
    if folder_with is not None and not _is_ours(target, folder_with):
        raise OutputExistsError(
            f"output '{target}' exists and is no folder with {folder_with}, so it is not replaced; "
            f"choose another path, or remove it yourself"
        )
    return target


def _is_ours(folder: Path, known_by: str) -> bool:
    return folder.is_dir() and ((folder / known_by).is_file() or not any(folder.iterdir()))


@contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; move it there only if the block succeeds."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
    os.close(handle)
    part = Path(name)
    try:
        yield part
        part.chmod(0o666 & ~_umask())
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def atomic_directory(path: str | Path) -> Iterator[Path]:
    """Yield a temporary folder beside ``path``; it replaces ``path`` only if the block succeeds."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part"))
    try:
        yield part
        part.chmod(0o777 & ~_umask())
        if target.exists():
            old = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.old."))
            target.replace(old / target.name)
            part.replace(target)
            shutil.rmtree(old)
        else:
            part.replace(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
