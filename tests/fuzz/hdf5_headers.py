"""HDF5 files of all structures that are walked; damage to their headers, whose checksums are put right."""

from __future__ import annotations

import struct
from pathlib import Path

import h5py
import numpy as np

from tests.fuzz.mutate import NUMBERS, Random, pick
from tests.fuzz.registry import reader

OLD, NEW = "earliest", "latest"
SIGNATURES = (b"TREE", b"HEAP", b"SNOD", b"GCOL")
HEADER_BYTES = 200  # looked at from the start of an object or a structure
SUPERBLOCK_BYTES = 44  # of version 3, before its checksum
WORD = (1 << 32) - 1
MIX = ((0, 2, 1, 4), (1, 0, 2, 6), (2, 1, 0, 8), (0, 2, 1, 16), (1, 0, 2, 19), (2, 1, 0, 4))
LAST = ((2, 1, 14), (0, 2, 11), (1, 0, 25), (2, 1, 16), (0, 2, 4), (1, 0, 14), (2, 1, 24))


def checksum(data: bytes) -> int:
    """The hash of headers: Bob Jenkins, lookup3.c, hashlittle."""
    words = [(0xDEADBEEF + len(data)) & WORD] * 3
    while len(data) > 12:
        words = [(a + b) & WORD for a, b in zip(words, struct.unpack_from("<3I", data))]
        for to, by, further, bits in MIX:
            words[to] = (words[to] - words[by]) & WORD ^ _turned(words[by], bits)
            words[by] = (words[by] + words[further]) & WORD
        data = data[12:]
    if data:
        rest = struct.unpack("<3I", data.ljust(12, b"\0"))
        words = [(a + b) & WORD for a, b in zip(words, rest)]
        for to, by, bits in LAST:
            words[to] = ((words[to] ^ words[by]) - _turned(words[by], bits)) & WORD
    return words[2]


def _turned(word: int, bits: int) -> int:
    return (word << bits | word >> 32 - bits) & WORD


def checked_parts(data: bytes) -> list[tuple[int, int]]:
    """Start and end of what a checksum follows: the superblock, and object headers."""
    found = [(0, SUPERBLOCK_BYTES)] if data[8] == 3 else []
    at = data.find(b"OHDR")
    while at >= 0:
        flags = data[at + 5]
        begin = at + 6 + 16 * bool(flags & 0x20) + 4 * bool(flags & 0x10)
        width = 1 << (flags & 3)
        end = begin + width + int.from_bytes(data[begin : begin + width], "little")
        if end + 4 <= len(data):
            found.append((at, end))
        at = data.find(b"OHDR", at + 1)
    return found


def _write(path: Path, libver: str) -> None:
    random = np.random.default_rng(0)
    with h5py.File(path, "w", libver=libver) as file:
        numbers = file.create_group("numbers")
        packed = {"compression": "gzip", "shuffle": True, "fletcher32": True, "chunks": (40,)}
        numbers.create_dataset("packed", data=random.integers(0, 9, 40), **packed)
        numbers.create_dataset("plain", data=np.arange(40), chunks=(40,))
        numbers.create_dataset("never", (9,), "f4", fillvalue=2.5)
        numbers["flags"] = np.array([True, False])
        texts = file.create_group("texts")
        texts["one"], texts["fixed"] = "of variable length", np.array([b"ab", b"c"])
        texts.create_dataset("lists", (3,), h5py.vlen_dtype("u2"))[1] = [1, 2, 3]
        if libver == OLD:
            numbers.create_dataset("many", data=np.eye(9), chunks=(2, 2), compression="gzip")
            for i in range(30):
                texts[f"n{i}"] = np.int64(i)


def _samples(folder: Path) -> list[Path]:
    for libver in (OLD, NEW):
        _write(folder / f"{libver}.h5", libver)
    return [folder / f"{libver}.h5" for libver in (OLD, NEW)]


def _places(path: Path, data: bytes) -> list[int]:
    """Where headers and structures begin."""
    found = [0]
    with h5py.File(path) as file:
        file.visititems(lambda _, item: found.append(h5py.h5o.get_info(item.id).addr))
    for signature in SIGNATURES:
        at = data.find(signature)
        while at >= 0:
            found.append(at)
            at = data.find(signature, at + 1)
    return sorted(found)


def damage_headers(path: Path, random: Random) -> None:
    """Change one to three numbers."""
    data = bytearray(path.read_bytes())
    places, parts = _places(path, bytes(data)), checked_parts(bytes(data))
    for _ in range(int(random.integers(1, 4))):
        width = int(pick(random, (1, 1, 2, 4, 8)))
        at = min(pick(random, places) + int(random.integers(HEADER_BYTES)), len(data) - width)
        old = int.from_bytes(data[at : at + width], "little")
        near = old + int(pick(random, (-1, 1, 2, 8, 16)))
        new = int(pick(random, (near, pick(random, NUMBERS), pick(random, places))))
        data[at : at + width] = (new & (1 << 8 * width) - 1).to_bytes(width, "little")
    for begin, end in parts:
        struct.pack_into("<I", data, end, checksum(bytes(data[begin:end])))
    path.write_bytes(data)


@reader("hdf5", "x.h5", _samples, damage_headers)
def read_members(path: Path) -> object:
    """Every value of every dataset."""
    from biril_nm.storage.hdf5 import open_checked

    values: list[object] = []

    def look(_: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            values.append(item[()])

    with open_checked(path, "test", sequences=True) as file:
        file.visititems(look)
    return values
