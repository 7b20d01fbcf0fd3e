"""Structures of HDF5 files that the HDF5 library follows without looking where they lead.

A tree whose node is its own child overflows the stack of the library, a circle of nodes or of free space is
followed for ever. Here each is walked once, before the library opens the file. What the library writes only
when it is asked for later versions of the format (fractal heaps, version 2 B-trees, arrays of chunks) is
refused: damaged ones make it divide by zero, read beyond its memory or never return. Layout: HDF5 File
Format Specification 3.0, II (superblock), III.A.1 (version 1 B-trees), III.D (local heaps), IV.A (object
headers).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from biril_nm.errors import FileFormatError
from biril_nm.storage.hdf5_types import type_problem

__all__ = ["check_object", "check_root", "read_exactly"]

SIGNATURE = b"\x89HDF\r\n\x1a\n"
FIRST_PLACE = 512  # of a superblock behind other data; each next place is twice as far
VERSION_AT = 8  # of the superblock, behind the signature
# Version of the superblock: where the widths of addresses and lengths, and the address of the root are.
WIDTHS_AT, ROOT_AT = {0: 13, 1: 13, 2: 9, 3: 9}, {0: 64, 1: 68, 2: 36, 3: 36}
EXTENSION_AT = {2: 20, 3: 20}
UNDEFINED = (1 << 64) - 1  # an address of nothing
NODE = struct.Struct("<4sBBHQQ")  # signature, type, level, entries, left and right sibling
GROUP_NODE, CHUNK_NODE = 0, 1
GROUP_KEY_BYTES = 8
ADDRESS = struct.Struct("<Q")
MAX_NODES = 1 << 21  # of a tree, names or chunks included
HEAP = struct.Struct(
    "<4sB3xQQQ"
)  # signature, version, bytes of data, first free block, address of data
FREE_BLOCK = struct.Struct("<QQ")  # the next one, bytes
LAST_FREE = 1

OLD_HEADER = struct.Struct("<BxHII4x")  # version, messages, references, bytes
OLD_MESSAGE = struct.Struct("<HHB3x")  # kind, bytes, flags
NEW_HEADER, NEW_BLOCK = b"OHDR", b"OCHK"
NEW_MESSAGE = struct.Struct("<BHB")
TIMES, PHASE, ORDER = 0x20, 0x10, 0x04  # flags of a new header: fields that it has
CHECKSUM_BYTES = 4
CONTINUED = struct.Struct("<QQ")  # address, bytes
MAX_BLOCKS = 10_000  # of a header
LINKS, EXTERNAL, LAYOUT, CONTINUATION, SYMBOL_TABLE, ATTRIBUTES = 2, 7, 8, 16, 17, 21
SHARED = 0x02  # flag of a message that lies elsewhere
INDEX_BYTES = {LINKS: 8, ATTRIBUTES: 2}  # of the largest index, which may stand before a heap
CHUNKED, VIRTUAL = 2, 3
INDEXED_FROM = 4  # version of a layout that names its index of chunks
ONE_CHUNK, NO_INDEX = 1, 2
AGAIN = "Write the file again with h5py"
WAY_OUT = f"{AGAIN}, without libver and track_order"

Message = tuple[int, int, bytes]  # kind, flags, data


def check_root(raw: BinaryIO, source: Path) -> int | None:
    """Check what the library looks at when it opens a file: the superblock and the root.

    Returns:
        What is added to addresses, or None where the file is not HDF5.

    Raises:
        FileFormatError: as :func:`check_object`.
    """
    base = _signature_at(raw)
    if base is None:
        return None
    version = _at(raw, source, base + VERSION_AT, 1)[0]
    if version not in ROOT_AT:
        raise FileFormatError(
            f"'{source}' has a superblock of version {version}; expected {min(ROOT_AT)} to {max(ROOT_AT)}. "
            f"Write it again with h5py"
        )
    if set(_at(raw, source, base + WIDTHS_AT[version], 2)) != {ADDRESS.size}:
        raise FileFormatError(
            f"'{source}' has addresses of unusual width; expected {ADDRESS.size} bytes. Write it again "
            f"with h5py"
        )
    if version in EXTENSION_AT and _address(raw, source, base + EXTENSION_AT[version]) != UNDEFINED:
        raise FileFormatError(
            f"'{source}' has an extension of its superblock; expected none. {WAY_OUT}"
        )
    check_object(raw, source, base, _address(raw, source, base + ROOT_AT[version]), "/")
    return base


def _signature_at(raw: BinaryIO) -> int | None:
    """Where the library finds the superblock: at the start, or at 512, 1024, 2048, ..."""
    size, place = os.fstat(raw.fileno()).st_size, 0
    while place + len(SIGNATURE) <= size:
        raw.seek(place)
        if raw.read(len(SIGNATURE)) == SIGNATURE:
            return place
        place = max(FIRST_PLACE, 2 * place)
    return None


def check_object(raw: BinaryIO, source: Path, base: int, address: int, where: str) -> None:
    """Refuse an object whose trees or heaps lead the library astray, before it is opened.

    Args:
        raw: the bytes of the file.
        source: the file, for messages.
        base: what is added to addresses.
        address: of the header of a group or dataset.
        where: its name, for messages.

    Raises:
        FileFormatError: a circle, a node at the wrong level, something else than should be there, or a
            structure that is not walked here.
    """
    try:
        messages = list(_messages(raw, source, base, address))
        for kind, flags, data in messages:
            if flags & SHARED:
                raise _unread(source, where, "shares its type or size with others", "its own")
            if kind == SYMBOL_TABLE:
                tree, heap = struct.unpack_from("<QQ", data)
                _check_tree(raw, source, base, tree, GROUP_NODE, GROUP_KEY_BYTES)
                _check_heap(raw, source, base, heap)
            elif kind == LAYOUT:
                _check_layout(raw, source, base, data, where)
            elif kind == EXTERNAL:
                _check_heap(raw, source, base, *ADDRESS.unpack_from(data, 8))  # of file names
            elif kind in INDEX_BYTES:
                skip = 2 + INDEX_BYTES[kind] * (data[1] & 1)  # behind version and flags
                if ADDRESS.unpack_from(data, skip)[0] != UNDEFINED:
                    found = "keeps its members or attributes in a fractal heap"
                    raise _unread(source, where, found, "a table or a list of them")
        problem = type_problem([(kind, data) for kind, _, data in messages])
        if problem:
            raise FileFormatError(f"'{source}': '{where}' {problem}. {AGAIN}")
    except (
        struct.error,
        IndexError,
        OverflowError,
        OSError,
    ) as error:  # a message too short, an address beyond all
        raise _damaged(source, "object header", address) from error


def read_exactly(raw: BinaryIO, source: Path, n_bytes: int) -> bytes:
    """The next bytes of a file.

    Raises:
        FileFormatError: it ends before.
    """
    if not 0 <= n_bytes <= os.fstat(raw.fileno()).st_size - raw.tell():
        raise FileFormatError(
            f"'{source}' ends before what it should hold at byte {raw.tell()}; expected a whole file. Get it "
            f"again"
        )
    return raw.read(n_bytes)


def _damaged(source: Path, what: str, address: int) -> FileFormatError:
    return FileFormatError(
        f"'{source}' has a damaged {what} at byte {address}; expected one as the HDF5 library writes it. "
        f"Write the file again"
    )


def _unread(source: Path, where: str, found: str, expected: str) -> FileFormatError:
    return FileFormatError(f"'{source}': '{where}' {found}; expected {expected}. {WAY_OUT}")


def _address(raw: BinaryIO, source: Path, place: int) -> int:
    return int(ADDRESS.unpack(_at(raw, source, place, ADDRESS.size))[0])


def _at(raw: BinaryIO, source: Path, address: int, n_bytes: int) -> bytes:
    raw.seek(address)
    return read_exactly(raw, source, n_bytes)


def _messages(raw: BinaryIO, source: Path, base: int, address: int) -> Iterator[Message]:
    """Kind, flags and data of each message of an object header, of those in further blocks too."""
    first = _at(raw, source, base + address, OLD_HEADER.size)
    new = first.startswith(NEW_HEADER)
    flags = first[len(NEW_HEADER) + 1] if new else 0
    if new:
        start = len(NEW_HEADER) + 2 + 16 * bool(flags & TIMES) + 4 * bool(flags & PHASE)
        width = 1 << (flags & 3)
        size = int.from_bytes(_at(raw, source, base + address + start, width), "little")
        blocks = [(address + start + width, size)]
    else:
        if first[0] != 1:
            raise _damaged(source, "object header", address)
        blocks = [(address + OLD_HEADER.size, OLD_HEADER.unpack(first)[3])]
    seen: set[int] = set()
    while blocks:
        begin, size = blocks.pop()
        if begin in seen or len(seen) > MAX_BLOCKS:
            raise _damaged(source, "object header", address)
        seen.add(begin)
        for kind, marks, data in _in_block(_at(raw, source, base + begin, size), new, flags):
            if kind == CONTINUATION:
                following, n_bytes = CONTINUED.unpack_from(data)
                skip = len(NEW_BLOCK) if new else 0
                blocks.append((following + skip, n_bytes - skip - (CHECKSUM_BYTES if new else 0)))
            yield kind, marks, data


def _in_block(block: bytes, new: bool, flags: int) -> Iterator[Message]:
    form = NEW_MESSAGE if new else OLD_MESSAGE
    head = form.size + (2 if new and flags & ORDER else 0)
    at = 0
    while at + head <= len(block):
        kind, size, marks = form.unpack_from(block, at)
        yield kind, marks, block[at + head : at + head + size]
        at += head + size


def _check_layout(raw: BinaryIO, source: Path, base: int, data: bytes, where: str) -> None:
    """The tree of chunks, of a dataset that has one of version 1; other indexes are refused."""
    version = data[0]
    if version >= INDEXED_FROM:
        if data[1] == VIRTUAL:
            raise FileFormatError(f"'{source}': '{where}' takes its data from another file")
        rank, width = data[3:5] if data[1] == CHUNKED else (0, 0)
        if data[1] == CHUNKED and data[5 + rank * width] not in (ONE_CHUNK, NO_INDEX):
            raise _unread(source, where, "keeps a list of its chunks", "a tree of version 1")
        return
    kind, rank, start = (data[1], data[2], 3) if version == 3 else (data[2], data[1], 8)
    if kind == CHUNKED:
        (tree,) = ADDRESS.unpack_from(data, start)
        _check_tree(raw, source, base, tree, CHUNK_NODE, 8 + 8 * rank)


def _check_tree(
    raw: BinaryIO, source: Path, base: int, root: int, node_type: int, key_bytes: int
) -> None:
    """Walk a tree level by level: each node once, one level below its parent, siblings to the right."""
    if root == UNDEFINED:
        return
    level: int | None = None
    nodes, seen = [root], {root}
    while nodes:
        place = {address: index for index, address in enumerate(nodes)}
        below: list[int] = []
        for index, address in enumerate(nodes):
            head = NODE.unpack(_at(raw, source, base + address, NODE.size))
            signature, found_type, found_level, entries, _, right = head
            level = found_level if level is None else level
            children = _children(raw, source, entries, key_bytes)
            if (
                (signature, found_type, found_level) != (b"TREE", node_type, level)
                or (right != UNDEFINED and place.get(right, -1) <= index)
                or len(set(children)) < entries
                or not seen.isdisjoint(children)
                or len(seen) > MAX_NODES
            ):
                raise _damaged(source, "tree", address)
            seen.update(children)
            below += children
        if not level:  # below are names or chunks
            return
        nodes, level = below, level - 1


def _children(raw: BinaryIO, source: Path, entries: int, key_bytes: int) -> list[int]:
    """Addresses behind the head of a node: key, child, key, ..., child, key."""
    step = key_bytes + ADDRESS.size
    body = read_exactly(raw, source, key_bytes + entries * step)
    return [ADDRESS.unpack_from(body, key_bytes + i * step)[0] for i in range(entries)]


def _check_heap(raw: BinaryIO, source: Path, base: int, address: int) -> None:
    """Walk the free blocks of a heap of names, each once."""
    signature, _, size, free, data = HEAP.unpack(_at(raw, source, base + address, HEAP.size))
    if signature != b"HEAP":
        raise _damaged(source, "heap of names", address)
    seen: set[int] = set()
    while free != LAST_FREE:
        if free in seen or free + FREE_BLOCK.size > size:
            raise _damaged(source, "heap of names", address)
        seen.add(free)
        free, _ = FREE_BLOCK.unpack(_at(raw, source, base + data + free, FREE_BLOCK.size))
