"""Readers by name: a sample of what each reads, the ways to damage one, and how to read it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.hdf5 import damage_hdf5
from tests.fuzz.mutate import Random, damage_bytes, pick

GOLDEN = Path(__file__).parent.parent / "golden"
OLD = GOLDEN / "v0_1_0"
BYTES_SHARE = 0.3

Damage = Callable[[bytes, Random], bytes]


@dataclass(frozen=True)
class Reader:
    """A kind of file.

    Attributes:
        name: how the file is called, its ending included.
        samples: writes good files or folders into a folder and returns them.
        damage: changes one, in place.
        read: reads one and uses what it holds.
    """

    name: str
    samples: Callable[[Path], list[Path]]
    damage: Callable[[Path, Random], None]
    read: Callable[[Path], object]


READERS: dict[str, Reader] = {}


def golden(*names: str) -> Callable[[Path], list[Path]]:
    return lambda folder: [GOLDEN / name for name in names]


def in_place(damage: Damage) -> Callable[[Path, Random], None]:
    """Damage to the structure of a file, or to its bytes."""

    def change(path: Path, random: Random) -> None:
        how = damage_bytes if random.random() < BYTES_SHARE else damage
        path.write_bytes(how(path.read_bytes(), random))

    return change


def reader(
    key: str,
    name: str,
    samples: Callable[[Path], list[Path]],
    damage: Callable[[Path, Random], None],
) -> Callable[[Callable[[Path], object]], Callable[[Path], object]]:
    def register(read: Callable[[Path], object]) -> Callable[[Path], object]:
        READERS[key] = Reader(name, samples, damage, read)
        return read

    return register


def hdf5_file(path: Path, random: Random) -> None:
    """Damage to an HDF5 file, through h5py or to its bytes."""
    if random.random() < BYTES_SHARE:
        path.write_bytes(damage_bytes(path.read_bytes(), random))
    else:
        damage_hdf5(path, random)


def one_of(**damages: Damage) -> Callable[[Path, Random], None]:
    """Damage one file of a folder: its content, or its kind."""

    def change(folder: Path, random: Random) -> None:
        ending = pick(random, list(damages))
        found = sorted(folder.rglob(f"*.{ending}"))
        if found:
            path = pick(random, found)
            if random.random() < 0.15:
                other_kind(path, random)
            else:
                in_place(damages[ending])(path, random)

    return change


def other_kind(path: Path, random: Random) -> None:
    path.unlink()
    kind = pick(random, ("fifo", "link", "device", "folder", "loop", "none"))
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind != "none":
        path.symlink_to({"link": "/etc/hostname", "device": "/dev/zero", "loop": path.name}[kind])
