"""HDF5 files from elsewhere: used only after their headers were checked, shared by all readers.

Nothing outside of the file is ever touched: soft and external links, external storage and virtual
datasets are refused, and sizes are bounded before an array is allocated. The heaps that hold text of
variable length are walked here first, because the HDF5 library never returns from a damaged one; trees and
headers in ``hdf5_structures``.
"""

from __future__ import annotations

import io
import math
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import h5py

from biril_nm.errors import BirilError, FileFormatError
from biril_nm.storage.bounds import MAX_BYTES, allowed_bytes, check_unpacked, open_regular
from biril_nm.storage.hdf5_structures import check_object, check_root, read_exactly
from biril_nm.storage.paths import atomic_file
from biril_nm.storage.text import is_unicode

__all__ = ["open_checked", "write_whole"]

MAX_MEMBERS = 100_000
MAX_CHUNKS = 1 << 20
MAX_CHUNK_BYTES = 64 << 20  # of a chunk that is larger than its array
CHECKSUM_BYTES = 4  # of fletcher32
# What nir and lava-dl write; others would be looked for among plugins, and lzf unpacks without bound.
FILTERS = {
    h5py.h5z.FILTER_DEFLATE: "gzip",
    h5py.h5z.FILTER_SHUFFLE: "shuffle",
    h5py.h5z.FILTER_FLETCHER32: "fletcher32",
}
# Compression makes zeros about 1,000 times smaller; more than that was never written.
HOLLOW_RATIO = 2_000
HOLLOW_BYTES = 1 << 20
MAX_DEPTH = 64

# HDF5 File Format Specification 3.0, III.E "Disk Format: Level 1E - Global Heap"
HEAP_HEADER = struct.Struct("<4sB3xQ")  # signature, version, size of the collection
HEAP_OBJECT = struct.Struct("<HH4xQ")  # index (0: free space), references, size
HEAP_REFERENCE = struct.Struct("<IQI")  # length of the text, address of its heap, index
HEAP_SIGNATURE = b"GCOL"


@contextmanager
def open_checked(
    path: str | Path, kind: str, max_bytes: int = MAX_BYTES, sequences: bool = False
) -> Iterator[Any]:
    """Open a file for reading and check its members.

    Args:
        path: the file.
        kind: what it should be, for messages: "NIR" or "netx".
        max_bytes: bound on the sum of all arrays.
        sequences: whether elements may be sequences of numbers.

    Raises:
        FileFormatError: no HDF5, links, too large, or whatever h5py finds wrong while it is read.
    """
    source = Path(path)
    try:
        with open_regular(source) as raw:
            base = check_root(raw, source)
        with h5py.File(source, "r") as file:
            allowed = min(max_bytes, allowed_bytes(source.stat().st_size))
            _check_members(source, file, base, allowed, sequences)
            yield file
    except BirilError:
        raise
    except Exception as error:  # h5py raises whatever a broken file provokes
        raise FileFormatError(
            f"'{source}' is not a readable {kind} file ({type(error).__name__}: {error})"
        ) from error


def write_whole(path: str | Path, fill: Callable[[BinaryIO], None], force: bool = True) -> None:
    """Write an HDF5 file atomically; ``fill`` writes it into memory.

    h5py, on a full disk, fails again when its objects are deleted, which Python can only print.

    Raises:
        StorageError: the disk is full.
        OutputExistsError: the file exists, and ``force`` is False.
    """
    image = io.BytesIO()
    fill(image)
    with atomic_file(path, force) as part:
        part.write_bytes(image.getbuffer())


def _check_members(
    source: Path, file: h5py.File, base: int | None, max_bytes: int, sequences: bool
) -> None:
    """Refuse external data, cyclic groups and sizes beyond the bounds, from headers alone."""
    if base != file.userblock_size:
        raise FileFormatError(
            f"'{source}' begins at byte {file.userblock_size} by the HDF5 library and at {base} by its "
            f"signature; expected one place. Write it again with h5py"
        )
    with source.open("rb") as raw:
        texts = _walk(raw, source, file, max_bytes)
        if texts:
            _check_texts(raw, source, file, texts, sequences)


def _walk(
    raw: BinaryIO, source: Path, file: h5py.File, max_bytes: int
) -> list[tuple[str, h5py.Dataset]]:
    """Look at each member once; the datasets whose elements have no fixed length."""
    total = members = 0
    texts: list[tuple[str, h5py.Dataset]] = []
    groups = [(file, "", 0)]
    base = file.userblock_size
    while groups:
        group, where, depth = groups.pop()
        if depth > MAX_DEPTH:
            raise FileFormatError(f"'{source}': groups nest deeper than {MAX_DEPTH} at '{where}'")
        members += len(group)  # before its names are read, which takes long for many
        if members > MAX_MEMBERS:
            raise FileFormatError(f"'{source}' has more than {MAX_MEMBERS} members")
        for key in group:
            item = _member(raw, source, group, key, where, base)
            path = f"{where}/{key}"
            if isinstance(item, h5py.Group):
                groups.append((item, path, depth + 1))
            elif isinstance(item, h5py.Dataset):
                total += _dataset_bytes(source, item, path)
                check_unpacked(source, total, max_bytes)
                if item.dtype.hasobject:  # text is never packed: _places
                    texts.append((path, item))
                elif item.chunks is not None:
                    _check_stored(source, item, path)
        check_unpacked(source, total, max_bytes)
    return texts


def _member(raw: BinaryIO, source: Path, group: Any, key: str, where: str, base: int) -> Any:
    """A member of this file whose name can be written."""
    if not isinstance(key, str) or not is_unicode(key):
        raise FileFormatError(f"'{source}': the name {key!r:.80} in '{where}/' is not Unicode text")
    if not isinstance(group.get(key, getlink=True), h5py.HardLink):
        raise FileFormatError(f"'{source}': '{where}/{key}' is a link, which is never followed")
    place = group.id.links.get_info(key.encode()).u
    check_object(raw, source, base, place, f"{where}/{key}")
    return group[key]


def _dataset_bytes(source: Path, item: Any, path: str) -> int:
    """Bytes that a dataset unpacks to, after all that could take more than that was refused."""
    if item.is_virtual or item.external:
        raise FileFormatError(f"'{source}': '{path}' takes its data from another file")
    size = int(item.size or 0) * int(item.dtype.itemsize)
    if size > HOLLOW_BYTES + HOLLOW_RATIO * item.id.get_storage_size():
        raise FileFormatError(
            f"'{source}': '{path}' declares {size} bytes, of which the file holds only "
            f"{item.id.get_storage_size()}. Write it again, whole"
        )
    if item.chunks is None and 0 < item.id.get_storage_size() < size:
        raise FileFormatError(
            f"'{source}': '{path}' holds {item.id.get_storage_size()} bytes; expected {size}. Write it again"
        )
    return size if item.chunks is None else max(size, _chunk_bytes(source, item, path, size))


def _filters(item: Any) -> list[int]:
    """In the order of writing."""
    properties = item.id.get_create_plist()
    return [properties.get_filter(i)[0] for i in range(properties.get_nfilters())]


def _chunk_bytes(source: Path, item: Any, path: str, size: int) -> int:
    """Bytes that all chunks unpack to; refuse chunks that are larger than their array, and other filters."""
    filters = _filters(item)
    if len(set(filters)) < len(filters) or not FILTERS.keys() >= set(filters):
        raise FileFormatError(
            f"'{source}': '{path}' is packed by filters {filters}; readable are "
            f"{', '.join(FILTERS.values())}, each once. Write it again with compression='gzip'"
        )
    chunk = math.prod(item.chunks) * int(item.dtype.itemsize)
    if chunk > max(size, MAX_CHUNK_BYTES) or item.id.get_num_chunks() > MAX_CHUNKS:
        raise FileFormatError(
            f"'{source}': '{path}' of {size} bytes has {item.id.get_num_chunks()} chunks of {chunk} "
            f"bytes. Write it again without chunks"
        )
    return int(chunk * item.id.get_num_chunks())


def _check_stored(source: Path, item: Any, path: str) -> None:
    """Each chunk must unpack to its size: HDF5 writes and reads beyond its memory where it does not."""
    filters, chunk = _filters(item), math.prod(item.chunks) * int(item.dtype.itemsize)
    stored: list[Any] = []
    item.id.chunk_iter(stored.append)
    for each in stored:
        used = [kind for i, kind in enumerate(filters) if not each.filter_mask >> i & 1]
        if h5py.h5z.FILTER_DEFLATE in used:
            _, data = item.id.read_direct_chunk(each.chunk_offset)
            found = _unpacked_size(data, used, chunk)
        else:
            found = each.size - CHECKSUM_BYTES * (h5py.h5z.FILTER_FLETCHER32 in used)
        if found != chunk:
            raise FileFormatError(
                f"'{source}': a chunk of '{path}' unpacks to {found} bytes or more; expected {chunk}. Write "
                f"the file again"
            )


def _unpacked_size(data: bytes, filters: list[int], chunk: int) -> int:
    """Bytes that the filters, in the order of writing, unpack; -1 if damaged, bounded beyond the chunk."""
    for kind in reversed(filters):
        if kind == h5py.h5z.FILTER_FLETCHER32:
            if len(data) < CHECKSUM_BYTES:
                return -1
            data = data[:-CHECKSUM_BYTES]
        elif kind == h5py.h5z.FILTER_DEFLATE:
            try:
                data = zlib.decompressobj().decompress(data, chunk + CHECKSUM_BYTES + 1)
            except zlib.error:
                return -1
    return len(data)


def _check_texts(
    raw: BinaryIO,
    source: Path,
    file: h5py.File,
    texts: list[tuple[str, h5py.Dataset]],
    sequences: bool,
) -> None:
    """Refuse text and sequences of variable length that lie in a damaged heap.

    The HDF5 library copies a whole object of a heap into the room that its reference states.
    """
    heaps: dict[int, list[tuple[int, int]]] = {}
    for path, item in texts:
        places = _places(source, path, item)
        width = _element_bytes(source, path, item, sequences) if places else 0
        for offset, stored in places:
            raw.seek(offset)
            data = read_exactly(raw, source, stored)
            for length, address, index in HEAP_REFERENCE.iter_unpack(data):
                if length:
                    place = address + file.userblock_size
                    heaps.setdefault(place, []).append((index, length * width))
    room = source.stat().st_size
    for address, wanted in sorted(heaps.items()):
        size, objects = _heap(raw, source, address)
        room -= size
        if room < 0:
            raise FileFormatError(f"'{source}' has heaps that overlap")
        if any(objects.get(index) != n_bytes for index, n_bytes in wanted):
            raise FileFormatError(
                f"'{source}' has text of other lengths than the heap at byte {address}"
            )


def _element_bytes(source: Path, path: str, item: Any, sequences: bool) -> int:
    """Bytes of what an element of variable length consists of."""
    if h5py.check_string_dtype(item.dtype) is not None:
        return 1
    inner = h5py.check_vlen_dtype(item.dtype)
    if not sequences or inner is None or inner.kind not in "iuf":
        raise FileFormatError(
            f"'{source}': '{path}' ({item.dtype}) is neither numbers nor plain text"
        )
    return int(inner.itemsize)


def _places(source: Path, path: str, item: Any) -> list[tuple[int, int]]:
    """Where the references of a dataset lie: offsets and bytes."""
    offset, stored = item.id.get_offset(), item.id.get_storage_size()
    if offset is not None or not stored:
        return [] if offset is None else [(offset, stored)]
    found: list[tuple[int, int]] = []
    whole = math.prod(item.chunks or ()) * HEAP_REFERENCE.size
    if item.chunks is None or item.id.get_create_plist().get_nfilters():
        raise FileFormatError(
            f"'{source}': '{path}' ({item.dtype}) is neither numbers nor plain text, or packed. Write it "
            f"again with h5repack -f NONE"
        )
    item.id.chunk_iter(lambda chunk: found.append((chunk.byte_offset, chunk.size)))
    if any(size != whole for _, size in found):
        raise FileFormatError(f"'{source}': '{path}' has chunks of other sizes than {whole} bytes")
    return found


def _heap(raw: BinaryIO, source: Path, address: int) -> tuple[int, dict[int, int]]:
    """Walk one heap, in which each object must move on and stay inside; free space ends it.

    Returns:
        Its size, and the bytes of each object.
    """
    raw.seek(address)
    signature, _, size = HEAP_HEADER.unpack(read_exactly(raw, source, HEAP_HEADER.size))
    if signature != HEAP_SIGNATURE or address + size > source.stat().st_size:
        raise FileFormatError(f"'{source}' has no heap of text at byte {address}")
    at = HEAP_HEADER.size
    objects: dict[int, int] = {}
    while at + HEAP_OBJECT.size <= size:
        raw.seek(address + at)
        index, _, length = HEAP_OBJECT.unpack(read_exactly(raw, source, HEAP_OBJECT.size))
        step = HEAP_OBJECT.size + (length + 7) // 8 * 8 if index else length
        if step < HEAP_OBJECT.size or at + step > size:
            raise FileFormatError(f"'{source}' has a damaged heap of text at byte {address}")
        if index:
            objects[index] = length
        at += step
    return int(size), objects
