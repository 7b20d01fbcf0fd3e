"""Folders of one's own samples: ``PART/CLASS/FILE``, as torchvision's ImageFolder lays them out.

Files and folders whose names begin with a dot are no samples and no classes: systems and programs leave them
(``._1.png``, ``.ipynb_checkpoints``).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from biril_nm.data.sources import Request, missing
from biril_nm.errors import ConfigError

__all__ = ["class_names", "find_files"]

MAX_FILES = 1 << 24


def class_names(request: Request, parts: Sequence[str]) -> list[str]:
    """Names of the classes, sorted; the place of a name is its label.

    Raises:
        ConfigError: no such folders, or other classes in one part than in another.
    """
    root = request.folder()
    found = {}
    for part in parts:
        if not (root / part).is_dir():
            raise missing(request, f"there is no folder '{part}'")
        with os.scandir(root / part) as entries:
            found[part] = {each.name for each in entries if each.is_dir() and _seen(each.name)}
        if not found[part]:
            raise missing(request, f"there is no folder of a class in '{part}'")
    first = found[parts[0]]
    for part in parts[1:]:
        apart = sorted(found[part] ^ first)
        if apart:
            raise ConfigError(
                f"'{root}' has other classes in '{part}' than in '{parts[0]}': {', '.join(apart[:8])}; "
                f"expected the same folders in both. Add or remove them"
            )
    if len(first) < 2:
        raise ConfigError(f"'{root}' has one class, {first.pop()}; expected 2 or more")
    return sorted(first)


def find_files(
    folder: Path, names: Sequence[str], endings: Sequence[str], request: Request
) -> tuple[list[Path], list[int]]:
    """Files of each class, sorted by class and path, and their labels.

    Raises:
        ConfigError: a class without files, or too many of them.
    """
    files: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(names):
        own = sorted(
            Path(place, file)
            for place, inner, found in os.walk(folder / name)
            for file in _entered(inner, found)
            if file.lower().endswith(tuple(endings))
        )
        if not own:
            raise missing(request, f"class folder '{folder / name}' holds no such file")
        files += own
        labels += [label] * len(own)
    if len(files) > MAX_FILES:
        raise ConfigError(f"'{folder}' holds {len(files):,} files; expected at most {MAX_FILES:,}")
    return files, labels


def _entered(folders: list[str], files: Sequence[str]) -> list[str]:
    """The files that count; hidden folders are taken out of the list by which ``os.walk`` goes on."""
    folders[:] = filter(_seen, folders)
    return list(filter(_seen, files))


def _seen(name: str) -> bool:
    return not name.startswith(".")
