"""Spoken digits: the filter bank, both layouts of files, and what is refused."""

from __future__ import annotations

import wave

import numpy as np
import pytest

from biril_nm.data import load_data
from biril_nm.data.spoken import mel_energies
from biril_nm.errors import ConfigError, FileFormatError
from biril_nm.training.run_config import RunConfig

RATE = 8000


def tone(hertz, n=2000):
    return (9000 * np.sin(2 * np.pi * hertz / RATE * np.arange(n))).astype(np.int16)


def recordings():
    """(audio, digit, number) of two digits with six recordings each."""
    return [(tone(400 + 900 * d, 1500 + 100 * n), d, n) for d in (0, 1) for n in range(6)]


def write_folder(root):
    folder = root / "fsdd" / "recordings"
    folder.mkdir(parents=True)
    for audio, digit, number in recordings():
        with wave.open(str(folder / f"{digit}_ann_{number}.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(RATE)
            file.writeframes(audio.astype("<i2").tobytes())
    (folder / "README.txt").write_text("not a recording")
    return folder


def packed(**changes):
    parts = recordings()
    ends = np.cumsum([0, *(len(audio) for audio, _, _ in parts)])
    arrays = {
        "audio": np.concatenate([audio for audio, _, _ in parts]),
        "offsets": ends,
        "label": np.array([digit for _, digit, _ in parts]),
        "index": np.array([number for _, _, number in parts]),
    }
    return {key: value for key, value in (arrays | changes).items() if value is not None}


def test_a_tone_is_in_its_band():
    low, high = (mel_energies(tone(hertz), 20, 10) for hertz in (300, 3000))
    assert low.shape == (20, 10) and low.dtype == np.float32
    np.testing.assert_allclose(low.sum(axis=0), 1, rtol=1e-3)  # shares of each frame
    loudest = [int(x.mean(axis=1).argmax()) for x in (low, high)]
    mel = [2595 * np.log10(1 + hertz / 700) for hertz in (20, 300, 3000, 4000)]
    expected = [21 * (m - mel[0]) / (mel[3] - mel[0]) - 1 for m in mel[1:3]]
    assert all(abs(a - b) < 1 for a, b in zip(loudest, expected, strict=True))
    logs = mel_energies(tone(300), 20, 10, "log")
    assert logs.max() == 1 and logs.min() == 0 and logs.mean(axis=1).argmax() == loudest[0]
    assert mel_energies(np.zeros(3, np.int16), 5, 8).max() == 0  # silence, shorter than its frames


def test_folder_and_packed_file_hold_the_same(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    write_folder(tmp_path / "a")
    np.savez(tmp_path / "b" / "fsdd_8khz.npz", **packed())
    ours, theirs = (load_data("spoken:bands=12,frames=8", tmp_path / x) for x in "ab")
    assert (len(ours.train), len(ours.test), ours.input_shape) == (2, 10, (12, 8))
    for part in ("train", "test"):
        a, b = getattr(ours, part), getattr(theirs, part)
        order = [np.lexsort((x.stored().reshape(len(x), -1).sum(1), x.labels)) for x in (a, b)]
        np.testing.assert_array_equal(a.stored()[order[0]], b.stored()[order[1]])
        assert a.stored().max() > 100
    run = RunConfig.make(recipe="brp_spoken").with_data(ours)
    assert (run.net.input_shape, run.net.coding.kind) == ((12, 8), "rate")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"index": None}, "lacks 'index'; expected audio, offsets, label and index"),
        ({"label": np.zeros(3, int)}, "expected samples of 16 bits and whole numbers that fit"),
        ({"audio": np.zeros(9, np.float32)}, "expected samples of 16 bits"),
        ({"label": np.full(12, 10)}, "labels 10 to 10; expected 1 to 80000 samples, .* and digits"),
        ({"offsets": np.arange(13)}, "recordings of 1 to 1 samples"),
        ({"offsets": np.zeros(13, int)}, "recordings of 0 to 0 samples"),
        (
            {"index": np.zeros(12, int)},
            "none of them of the training part; expected numbers below 5",
        ),
    ],
)
def test_damaged_files_are_refused(tmp_path, changes, message):
    np.savez(tmp_path / "fsdd_8khz.npz", **packed(**changes))
    with pytest.raises(FileFormatError, match=message):
        load_data("spoken", tmp_path)


def test_missing_and_foreign_recordings_say_what_to_get(tmp_path):
    with pytest.raises(
        ConfigError, match=r"no spoken digits .*fsdd/recordings/\*\.wav.*github\.com/J"
    ):
        load_data("spoken", tmp_path)
    path = write_folder(tmp_path) / "3_bob_0.wav"
    path.write_bytes(b"RIFF")
    with pytest.raises(FileFormatError, match=r"3_bob_0\.wav' is not a WAV file"):
        load_data("spoken", tmp_path)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(44100)
        file.writeframes(bytes(400))
    with pytest.raises(
        FileFormatError, match="has 2 channels of 2 bytes at 44100 Hz.*expected 1 channel"
    ):
        load_data("spoken", tmp_path)


@pytest.mark.parametrize(("samples", "kept", "found"), [(80001, 80001, 80001), (500, 400, 400)])
def test_no_recording_is_cut_without_an_error(tmp_path, samples, kept, found):
    path = write_folder(tmp_path) / "1_bob_0.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(bytes(2 * samples))
    with path.open("r+b") as raw:
        raw.truncate(path.stat().st_size - 2 * (samples - kept))
    with pytest.raises(FileFormatError, match=f"has {samples} samples by its header and {found}"):
        load_data("spoken", tmp_path)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(bytes(2 * 80000))
    assert len(load_data("spoken:bands=4,frames=4", tmp_path).test) == 11


def test_files_of_many_chunks_are_refused(tmp_path):
    """They are looked at one after the other."""
    path = write_folder(tmp_path) / "1_bob_0.wav"
    chunks = b"RIFF" + b"\xff" * 4 + b"WAVE" + (1 << 17) * b"abcd\0\0\0\0"
    path.write_bytes(chunks)
    with pytest.raises(FileFormatError, match="has 1048588 bytes; expected at most 1048576"):
        load_data("spoken", tmp_path)
    path.write_bytes(chunks[:-16])
    with pytest.raises(FileFormatError, match="is not a WAV file"):
        load_data("spoken", tmp_path)
