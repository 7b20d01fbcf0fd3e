"""Spoken digits as pictures of sound: the energy in bands of frequency over frames of time.

The Free Spoken Digit Dataset, from its folder of recordings or packed into one file. Recordings 0 to 4 of
each speaker and digit are the test part, as its authors say.

Each recording is cut into ``frames`` windows that overlap by half. Its energies in ``bands`` triangular
filters, evenly spaced in mel, ``2595 log10(1 + f / 700)``, are divided

* ``scale=l1``: by their sum in each frame, as BRP-SNN has it, or
* ``scale=log``: as logarithms, from the lowest of :data:`FLOOR_DB` below the loudest to the loudest.
"""

from __future__ import annotations

import os
import re
import wave
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biril_nm.data.labels import N_DIGITS
from biril_nm.data.sources import DataSource, Option, Request, missing
from biril_nm.data.splits import BYTE_TOP, DataSet, Split
from biril_nm.errors import BirilError, FileFormatError
from biril_nm.storage import open_regular, read_npz

__all__ = ["SPOKEN", "Recording", "mel_energies", "mel_filters", "read_recordings"]

PACKED, FOLDER = "fsdd_8khz.npz", "fsdd/recordings"
NAME = re.compile(r"([0-9])_([A-Za-z]+)_([0-9]{1,4})\.wav")
RATE = 8000  # samples per second
MAX_SAMPLES = 10 * RATE  # of one recording
MAX_WAVE_BYTES = 1 << 20  # six times what the samples take
MAX_RECORDINGS = 1 << 16
N_TEST = 5  # recordings of each speaker and digit
FLOOR_DB = 60.0
QUIET = 1e-12
LOW_HZ = 20.0

Recording = tuple[NDArray[np.int16], int, int]  # samples, the digit, and its number among them


def mel_energies(
    audio: NDArray[np.int16], bands: int, frames: int, scale: str = "l1"
) -> NDArray[np.float32]:
    """Energies of a recording in 0..1.

    Shape:
        ``(samples,)`` to ``(bands, frames)``.
    """
    hop = max(1, -(-len(audio) // (frames + 1)))
    window = 2 * hop
    x = np.zeros(hop * (frames + 1), dtype=np.float32)
    x[: len(audio)] = audio[: len(x)]
    cut = np.lib.stride_tricks.sliding_window_view(x, window)[::hop][:frames]
    size = 1 << max(window - 1, 4 * bands).bit_length()
    power = np.abs(np.fft.rfft(cut * np.hanning(window), size)) ** 2
    energy = power @ mel_filters(bands, size).T
    if scale == "l1":
        return np.asarray((energy / (energy.sum(axis=1, keepdims=True) + QUIET)).T, np.float32)
    level = 10 * np.log10(energy / (energy.max() + QUIET) + QUIET)
    return np.asarray(np.clip(1 + level / FLOOR_DB, 0, 1).T, np.float32)


def mel_filters(bands: int, size: int, low_hz: float = LOW_HZ) -> NDArray[np.float64]:
    """Triangles over the frequencies of a transform, ``(bands, size / 2 + 1)``."""
    ends = 2595 * np.log10(1 + np.array([low_hz, RATE / 2]) / 700)
    corners = 700 * (10 ** (np.linspace(ends[0], ends[1], bands + 2) / 2595) - 1)
    f = np.linspace(0, RATE / 2, size // 2 + 1)
    low, middle, high = (corners[i : i + bands, None] for i in range(3))
    rising, falling = (f - low) / (middle - low), (high - f) / (high - middle)
    return np.asarray(np.clip(np.minimum(rising, falling), 0, None), np.float64)


def _load(request: Request) -> DataSet:
    chosen = request.options
    found_parts = read_recordings(request.folder())
    if found_parts is None:
        raise missing(request)
    parts = []
    for found in found_parts:
        settings = (chosen["bands"], chosen["frames"], chosen["scale"])
        values = np.stack([mel_energies(audio, *settings) for audio, _, _ in found])
        raw = np.rint(BYTE_TOP * values).astype(np.uint8)
        parts.append(Split(raw, np.array([digit for _, digit, _ in found], np.int64), BYTE_TOP))
    return DataSet("spoken", parts[0], parts[1], n_classes=N_DIGITS)


def read_recordings(root: Path) -> tuple[list[Recording], list[Recording]] | None:
    """The training and the test recordings in a folder of data sets; None where it has no spoken digits.

    Raises:
        FileFormatError: a damaged file, or a part without recordings.
    """
    if (root / FOLDER).is_dir():
        recordings = list(_from_folder(root / FOLDER))
    elif (root / PACKED).is_file():
        recordings = list(_unpacked(root / PACKED))
    else:
        return None
    parts = []
    for test in (False, True):
        parts.append([each for each in recordings if (each[2] < N_TEST) == test])
        if not parts[-1]:
            raise FileFormatError(
                f"'{root}' holds {len(recordings)} recordings of spoken digits, none of them of the "
                f"{'test' if test else 'training'} part; expected numbers below {N_TEST} and others. Get all"
            )
    return parts[0], parts[1]


def _from_folder(folder: Path) -> Iterator[Recording]:
    """The recordings of a folder, ``DIGIT_SPEAKER_NUMBER.wav``."""
    for path in sorted(folder.iterdir()):
        name = NAME.fullmatch(path.name)
        if name:
            yield _wave(path), int(name[1]), int(name[3])


def _wave(path: Path) -> NDArray[np.int16]:
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size > MAX_WAVE_BYTES:  # wave looks at one chunk after the other
                raise FileFormatError(
                    f"'{path}' has {size} bytes; expected at most {MAX_WAVE_BYTES}. Cut it, or get it again"
                )
            with wave.open(file) as sound:
                form = (sound.getnchannels(), sound.getsampwidth(), sound.getframerate())
                length = sound.getnframes()
                data = sound.readframes(min(length, MAX_SAMPLES + 1))
    except BirilError:
        raise
    except Exception as error:  # wave raises anything on damaged headers
        raise FileFormatError(
            f"'{path}' is not a WAV file ({type(error).__name__}: {error}); expected one of {RATE} Hz in 16 "
            f"bits. Get it again"
        ) from error
    if form != (1, 2, RATE) or len(data) < 2 or len(data) % 2:
        raise FileFormatError(
            f"'{path}' has {form[0]} channels of {form[1]} bytes at {form[2]} Hz, {len(data)} bytes in all; "
            f"expected 1 channel of 2 bytes at {RATE} Hz, with samples"
        )
    if length > MAX_SAMPLES or len(data) != 2 * length:
        raise FileFormatError(
            f"'{path}' has {length} samples by its header and {len(data) // 2} or more in it; expected 1 to "
            f"{MAX_SAMPLES}, all there. Cut it, or get it again"
        )
    return np.frombuffer(data, dtype="<i2").astype(np.int16)


def _unpacked(path: Path) -> Iterator[Recording]:
    """The recordings of one file: audio, offsets of each, label and index."""
    arrays = read_npz(path)
    try:
        audio, offsets, labels, index = (arrays[k] for k in ("audio", "offsets", "label", "index"))
    except KeyError as error:
        raise FileFormatError(
            f"'{path}' lacks {error}; expected audio, offsets, label and index"
        ) from error
    _check_packed(path, audio, offsets, labels, index)
    ends = offsets.astype(np.int64)
    for n, (start, end) in enumerate(pairwise(ends)):
        yield audio[start:end], int(labels[n]), int(index[n])


def _check_packed(path: Path, audio: Any, offsets: Any, labels: Any, index: Any) -> None:
    count = len(labels) if labels.ndim == 1 else -1
    whole = all(part.ndim == 1 and part.dtype.kind in "iu" for part in (offsets, labels, index))
    fits = whole and 0 < count <= MAX_RECORDINGS and len(offsets) == count + 1 == len(index) + 1
    if not fits or audio.dtype != np.int16 or audio.ndim != 1:
        raise FileFormatError(
            f"'{path}' holds audio {audio.dtype} {audio.shape}, offsets {offsets.shape}, label "
            f"{labels.shape} and index {index.shape}; expected samples of 16 bits and whole numbers that "
            f"fit together"
        )
    ends = offsets.astype(np.int64)
    lengths = np.diff(ends)
    inside = ends[0] == 0 and ends[-1] == len(audio) and lengths.min() > 0
    if not inside or lengths.max() > MAX_SAMPLES or labels.min() < 0 or labels.max() >= N_DIGITS:
        raise FileFormatError(
            f"'{path}' holds recordings of {lengths.min()} to {lengths.max()} samples and labels "
            f"{labels.min()} to {labels.max()}; expected 1 to {MAX_SAMPLES} samples, which fill the audio, "
            f"and digits"
        )


# The source of the spoken digits: 8 kHz recordings as spikes of frequency bands.
SPOKEN = DataSource(
    "spoken",
    "spoken digits (FSDD)",
    _load,
    files=f"ROOT/{FOLDER}/*.wav (or ROOT/{PACKED})",
    get="github.com/Jakobovski/free-spoken-digit-dataset",
    shape="30 bands x 30 frames",
    classes=N_DIGITS,
    options={
        "bands": Option(30, "bands of frequency", low=2),
        "frames": Option(30, "frames of a recording", low=2),
        "scale": Option("l1", "shares of a frame (l1) or logarithms (log)", ("l1", "log")),
    },
)
