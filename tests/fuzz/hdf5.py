"""Damage to HDF5 files through h5py: members of other kinds, sizes, places and packings."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tests.fuzz.mutate import MAX_VALUES, Random, pick

TEXTS = (
    "",
    "a",
    "NIRGraph",
    "Conv2d",
    "LIF",
    "IF",
    "Input",
    "dense",
    "conv",
    "input",
    "CUBA",
    "[/red]",
    "\x1b[2J",
    "é" * 300,
)
NUMBERS = (0, 1, -1, 2, 0.5, np.nan, np.inf, -np.inf, 1 << 31, 1 << 62, -(1 << 40), 1e300)
SHAPES = ((), (0,), (1,), (2,), (3, 3), (1, 1, 3, 3), (0, 4), (200, 200))
TYPES = ("f8", "f4", "i8", "u1", ">f8", "c16", "S4", "?")


def damage_hdf5(path: Path, random: Random) -> None:
    """Change one to three members of the file in place."""
    with h5py.File(path, "r+") as file:
        for _ in range(int(random.integers(1, 4))):
            names: list[str] = []
            file.visit(names.append)
            with suppress(ValueError, OSError, RuntimeError, TypeError):  # what h5py cannot write
                if names:
                    _change(file, pick(random, names), random)


def _change(file: Any, name: str, random: Random) -> None:
    kind = int(random.integers(12))
    old = _values(file[name])
    if kind == 0:
        del file[name]
    elif kind == 1:
        parent, _, last = name.rpartition("/")
        file.move(
            name, f"{parent}/{pick(random, (last + 'x', 'nodes', '0', '9', '[red]', 'input'))}"
        )
    elif kind == 2:
        file.copy(name, f"{name}_again") if f"{name}_again" not in file else None
    elif kind == 3:
        link = pick(
            random,
            (h5py.SoftLink("/"), h5py.SoftLink("/x"), h5py.ExternalLink("/etc/hostname", "/")),
        )
        file[f"{name}_link"] = link
    elif old is None:
        file[name].create_dataset(f"x{random.integers(9)}", data=pick(random, NUMBERS))
    else:
        del file[name]
        _replace(file, name, old, kind, random)


def _values(member: Any) -> Any:
    """What a dataset holds, None for a group; no values where an earlier change made it huge."""
    if not isinstance(member, h5py.Dataset):
        return None
    return member[()] if (member.size or 0) <= MAX_VALUES else np.zeros(0)


def _replace(file: Any, name: str, old: Any, kind: int, random: Random) -> None:
    if kind == 4:
        file[name] = pick(random, TEXTS)
    elif kind == 5:
        file.create_group(name)
    elif kind == 6:
        file.create_dataset(name, pick(random, SHAPES), pick(random, TYPES))
    elif kind == 7:
        file.create_dataset(
            name, (1 << int(random.integers(1, 40)),), pick(random, TYPES), chunks=(1 << 10,)
        )
    elif kind == 8:
        file[name] = h5py.Empty("f4")
    elif kind == 9 and np.asarray(old).dtype.kind in "iuf" and np.size(old):
        new = np.array(old, dtype=np.float64)
        new.reshape(-1)[random.integers(0, new.size, 2)] = pick(random, NUMBERS)
        file[name] = new
    elif kind == 10:
        file.create_dataset(
            name, data=np.full(pick(random, SHAPES), pick(random, NUMBERS), np.float64)
        )
    else:
        file[name] = pick(random, NUMBERS)
