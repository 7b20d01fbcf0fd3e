"""Readers of data sets: IDX, events, pictures, folders, caches."""

from __future__ import annotations

import gzip
import io
import os
import shutil
from pathlib import Path

import numpy as np

from tests.fuzz.mutate import (
    Random,
    damage_bytes,
    damage_json,
    damage_npy,
    damage_records,
    damage_zip,
)
from tests.fuzz.registry import hdf5_file, in_place, one_of, reader

N_EVENTS = 40


def _idx(folder: Path) -> list[Path]:
    images = bytes.fromhex("00000803 00000003 0000001c 0000001c") + bytes(3 * 28 * 28)
    (folder / "x.gz").write_bytes(gzip.compress(images, mtime=0))
    return [folder / "x.gz"]


def _damage_gzip(data: bytes, random: Random) -> bytes:
    stream = io.BytesIO()
    with gzip.GzipFile(fileobj=stream, mode="wb", mtime=0) as packed:
        packed.write(damage_bytes(gzip.decompress(data), random))
    return stream.getvalue()


@reader("idx", "x.gz", _idx, in_place(_damage_gzip))
def read_images(path: Path) -> object:
    from biril_nm.data.mnist import read_idx

    return read_idx(path, 2051, (3, 28, 28))


# --- events -------------------------------------------------------------------------------------


def _events() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    made = {
        name: random.integers(0, top, N_EVENTS) for name, top in (("x", 34), ("y", 34), ("p", 2))
    }
    return {**made, "t": np.sort(random.integers(0, 1 << 16, N_EVENTS))}


def _bin(folder: Path) -> list[Path]:
    x, y, p, t = _events().values()
    y[7] = 240  # the clock has run over
    rows = np.stack([x, y, (p << 7) | (t >> 16), (t >> 8) & 255, t & 255], axis=-1)
    (folder / "x.bin").write_bytes(rows.astype(np.uint8).tobytes())
    return [folder / "x.bin"]


def _aedat(folder: Path) -> list[Path]:
    x, y, p, t = _events().values()
    rows = np.stack([((127 - y) << 8) | ((127 - x) << 1) | (1 - p), t], axis=-1)
    content = b"#!AER-DAT2.0\r\n# a comment\r\n" + rows.astype(">u4").tobytes()
    (folder / "x.aedat").write_bytes(content)
    return [folder / "x.aedat"]


def _records(folder: Path) -> list[Path]:
    made = _events()
    for name, aligned in (("a", False), ("b", True)):
        kind = np.dtype([("x", "u2"), ("y", "u2"), ("t", "i8"), ("p", "u1")], align=aligned)
        records = np.zeros(N_EVENTS, kind)
        for key, values in made.items():
            records[key] = values
        np.save(folder / f"{name}.npy", records)
    np.save(folder / "c.npy", np.stack([made[key] for key in ("x", "y", "t", "p")], axis=-1))
    return [folder / "a.npy", folder / "b.npy", folder / "c.npy"]


def _archive(folder: Path) -> list[Path]:
    np.savez_compressed(folder / "x.npz", **_events())
    return [folder / "x.npz"]


@reader("events_bin", "x.bin", _bin, in_place(damage_bytes))
@reader("events_aedat", "x.aedat", _aedat, in_place(damage_bytes))
@reader("events_npy", "x.npy", _records, in_place(damage_records))
@reader("events_npz", "x.npz", _archive, in_place(damage_zip))
def read_events_file(path: Path) -> object:
    from biril_nm.data.event_files import read_events
    from biril_nm.data.frames import FrameSettings, count_frames, windows

    settings = FrameSettings(128, 128, 2, 3, "time", side=32)
    events = read_events(path)
    parts = [part for part, _ in zip(windows(events, 10_000), range(20))]
    return [count_frames(part, settings).sum() for part in (events, *parts)]


def _digits_of_sounds(folder: Path) -> list[Path]:
    import h5py

    root = folder / "root"
    (root / "SHD").mkdir(parents=True)
    for part in ("train", "test"):
        with h5py.File(root / "SHD" / f"shd_{part}.h5", "w") as file:
            for name, kind, top in (("times", "f2", 1.0), ("units", "u2", 700)):
                values = file.create_dataset(
                    f"spikes/{name}", (3,), h5py.vlen_dtype(kind), chunks=(2,)
                )
                for i in range(3):
                    values[i] = np.linspace(0, top, 4 + i, endpoint=False).astype(kind)
            file["labels"] = np.arange(3)
            file["extra/keys"] = np.array([b"one", b"two"])
            file["extra/speaker"] = np.zeros(3, int)
        (root / "SHD" / f"shd_{part}.h5.zip").touch()
    return [root]


def _damage_part(folder: Path, random: Random) -> None:
    names = ("shd_train.h5", "shd_test.h5")
    path = folder / "SHD" / names[int(random.integers(2))]
    if random.random() < 0.1:
        one_of(h5=damage_bytes)(folder, random)
    else:
        hdf5_file(path, random)


@reader("shd", "root", _digits_of_sounds, _damage_part)
def read_sounds(path: Path) -> object:
    from biril_nm.data import load_data

    data = load_data("shd:steps=4", _with_cache(path))
    return [int(part.raw[:].sum()) for part in (data.train, data.test)]


def _with_cache(path: Path) -> Path:
    """Let caches lie beside a file, where there are none from before."""
    home = path.with_name("cache")
    shutil.rmtree(home, ignore_errors=True)
    os.environ["BIRIL_CACHE"] = str(home)
    return path


# --- pictures -----------------------------------------------------------------------------------


def _pictures(folder: Path) -> list[Path]:
    from PIL import Image

    random = np.random.default_rng(0)
    colours = Image.fromarray(random.integers(0, 256, (9, 12, 3), np.uint8))
    made: list[Path] = []
    for name, options in (
        ("a.png", {}), ("b.jpg", {}), ("c.bmp", {}), ("d.ppm", {}), ("e.tif", {}), ("f.webp", {}),
        ("g.tif", {"compression": "tiff_lzw"}), ("h.jpg", {"progressive": True}),
        ("i.webp", {"lossless": True}),
    ):  # fmt: skip
        colours.save(folder / name, **options)
        made.append(folder / name)
    for name, image in (
        ("j.png", colours.convert("P")), ("k.png", colours.convert("RGBA")), ("l.bmp", colours.convert("1")),
        ("m.pgm", colours.convert("L")),
    ):  # fmt: skip
        image.save(folder / name)
        made.append(folder / name)
    return made


@reader("picture", "x.png", _pictures, in_place(damage_bytes))
def read_picture_file(path: Path) -> object:
    from biril_nm.data.pictures import read_picture

    return [read_picture(path, colour, side).sum() for colour in ("rgb", "grey") for side in (0, 5)]


def _packed(root: Path) -> object:
    from biril_nm.data.cache import packed

    samples = ((np.full((2, 3, 4), i, np.uint8), i) for i in range(5))
    return packed("x", {"files": "y"}, samples, (2, 3, 4))


def _cache(folder: Path) -> list[Path]:
    os.environ["BIRIL_CACHE"] = str(folder / "home")
    _packed(folder)
    return [folder / "home"]


@reader("cache", "home", _cache, one_of(json=damage_json, npy=damage_npy))
def read_cache(path: Path) -> object:
    os.environ["BIRIL_CACHE"] = str(path)
    values, labels = _packed(path)
    return values[:].sum(), labels.sum()
