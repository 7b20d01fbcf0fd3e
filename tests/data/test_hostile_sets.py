"""Samples that are damaged: refused by the name of what is damaged, in one line, and never cached."""

from __future__ import annotations

import struct
import warnings
import wave

import numpy as np
import pytest
from PIL import Image

from biril_nm.data import load_data
from biril_nm.data.cache import cache_folder, packed
from biril_nm.data.pictures import read_picture
from biril_nm.errors import FileFormatError, StorageError


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BIRIL_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("label", [-1, -(1 << 63), 1 << 64])
def test_labels_that_are_no_classes_are_not_cached(label):
    samples = [(np.zeros(2, np.uint8), 0), (np.zeros(2, np.uint8), label)]
    with pytest.raises(
        FileFormatError, match="'own': labels are .*; expected .*Get its files again"
    ):
        packed("own", {}, samples, (2,))
    assert list(cache_folder().iterdir()) == []


def test_a_cache_whose_name_is_too_long_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("BIRIL_CACHE", str(tmp_path / ("x" * 300)))
    with pytest.raises(StorageError, match="cannot be written: File name too long"):
        packed("own", {}, [(np.zeros(2, np.uint8), 0)], (2,))


@pytest.mark.parametrize("place", [4, 16, 40])
@pytest.mark.parametrize("size", [0xFFFF_FFF0, 0x7FFF_FFFF, 0])
def test_sizes_of_parts_of_a_recording_are_not_believed(place, size, tmp_path):
    folder = tmp_path / "fsdd" / "recordings"
    folder.mkdir(parents=True)
    for number in (0, 9):
        with wave.open(str(folder / f"0_bob_{number}.wav"), "wb") as file:
            file.setparams((1, 2, 8000, 0, "NONE", ""))
            file.writeframes(bytes(200))
    path = folder / "0_bob_0.wav"
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, place, size)
    path.write_bytes(data)
    try:
        load_data("spoken", tmp_path)
    except FileFormatError as error:
        assert "0_bob_0.wav" in str(error)
    else:
        assert place == 4  # the size of the file, which is not needed


def test_damaged_notes_in_a_picture_give_no_warning(tmp_path):
    pixels = np.arange(192, dtype=np.uint8).reshape(8, 8, 3)
    path = tmp_path / "x.tif"
    Image.fromarray(pixels).save(path, software="x" * 100)
    data = bytearray(path.read_bytes())
    at = data.index(struct.pack("<HH", 305, 2))  # the program, as text
    struct.pack_into("<I", data, at + 8, len(data) + 1000)  # lies behind the end
    path.write_bytes(data)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        np.testing.assert_array_equal(read_picture(path), pixels.transpose(2, 0, 1))
    assert found == []
