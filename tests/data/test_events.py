"""Events: files of each format, frames, folders, tonic's sets, EventMix."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from biril_nm.data import Batches, Split, load_data
from biril_nm.data.event_files import read_events
from biril_nm.data.event_mix import event_mask, kept_share
from biril_nm.data.frames import EVENT, FrameSettings, count_frames, windows
from biril_nm.errors import ConfigError, FileFormatError

tonic = pytest.importorskip("tonic")
RANDOM = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BIRIL_CACHE", str(tmp_path / "cache"))


def events(n=400, side=34, length=900_000):
    made = np.zeros(n, EVENT)
    for name, top in (("x", side), ("y", side), ("p", 2)):
        made[name] = RANDOM.integers(0, top, n)
    made["t"] = np.sort(RANDOM.integers(0, length, n))
    return made


def as_bin(made) -> bytes:
    t = made["t"]
    rows = [made["x"], made["y"], (made["p"] << 7) | (t >> 16), (t >> 8) & 255, t & 255]
    return np.stack(rows, axis=-1).astype(np.uint8).tobytes()


def as_aedat2(made) -> bytes:
    address = ((127 - made["y"]) << 8) | ((127 - made["x"]) << 1) | (1 - made["p"])
    data = np.stack([address, made["t"]], axis=-1).astype(">u4").tobytes()
    return b"#!AER-DAT2.0\r\n# a comment\r\n" + data


def write(path: Path, made) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".bin":
        path.write_bytes(as_bin(made))
    elif path.suffix == ".aedat":
        path.write_bytes(as_aedat2(made))
    elif path.suffix == ".npz":
        np.savez(path, **{name: made[name] for name in EVENT.names})
    else:
        np.save(path, made)
    return path


@pytest.mark.parametrize("ending", [".bin", ".aedat", ".npy", ".npz"])
def test_files_hold_what_was_written(ending, tmp_path):
    made = events()
    np.testing.assert_array_equal(read_events(write(tmp_path / f"a{ending}", made)), made)


def test_special_events_of_a_dvs128_are_no_pixels(tmp_path):
    made = events(side=128)
    data = as_aedat2(made)
    signals = np.array([[1 << 15, 7], [1 << 31 | 5, 8], [0xFFFF, 9]], ">u4").tobytes()
    (tmp_path / "a.aedat").write_bytes(data + signals)
    np.testing.assert_array_equal(read_events(tmp_path / "a.aedat"), made)


def test_addresses_of_another_camera_are_refused(tmp_path):
    other = np.array([[120 << 22 | 90 << 12 | 1 << 11, 7]], ">u4").tobytes()  # of a DAVIS
    (tmp_path / "a.aedat").write_bytes(as_aedat2(events(side=128)) + other)
    message = "holds address 503687168; expected those of a DVS128, .* Convert recordings of other"
    with pytest.raises(FileFormatError, match=message):
        read_events(tmp_path / "a.aedat")


def test_columns_are_x_y_t_p(tmp_path):
    made = events()
    np.save(tmp_path / "a.npy", np.stack([made[name] for name in ("x", "y", "t", "p")], axis=-1))
    np.testing.assert_array_equal(read_events(tmp_path / "a.npy"), made)


def test_readers_agree_with_tonic(tmp_path):
    made = events()
    made["y"][100] = 240  # the clock has run over
    path = write(tmp_path / "a.bin", made)
    expected = tonic.io.read_mnist_file(path, dtype=tonic.datasets.NMNIST.dtype)
    found = read_events(path)
    assert len(found) == len(made) - 1 and found["t"][-1] == made["t"][-1] + 8192
    for name in EVENT.names:
        np.testing.assert_array_equal(found[name], expected[name])
    path = write(tmp_path / "a.aedat", events(side=128))
    version, start, _ = tonic.io.read_aedat_header_from_file(path)
    raw = tonic.io.get_aer_events_from_file(path, version, start)
    found = read_events(path)
    np.testing.assert_array_equal(found["x"], 127 - ((raw["address"] >> 1) & 127))
    np.testing.assert_array_equal(found["t"], raw["timeStamp"])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.bin", b"1234567", "has 7 bytes; expected a multiple of 5"),
        (
            "a.aedat",
            b"#!AER-DAT3.1\r\n",
            "begins with .*expected #!AER-DAT2.0, the format of a DVS128",
        ),
        ("a.npy", b"\x93NUMPY\x01\x00v\x00{'descr': '|O'", "is not a plain array"),
        ("a.npy", b"nothing", "is not an array in numpy's .npy form"),
        ("a.npz", b"PK", "not a readable"),
    ],
)
def test_damaged_files_are_refused(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FileFormatError, match=message):
        read_events(tmp_path / name)


def test_objects_pipes_and_other_arrays_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(
        FileFormatError, match="of type .*O.*numbers or text. Objects are never read"
    ):
        read_events(tmp_path / "a.npy")
    np.save(tmp_path / "b.npy", np.zeros((3, 3)))
    with pytest.raises(FileFormatError, match=r"shape \(3, 3\); expected columns x, y, t, p"):
        read_events(tmp_path / "b.npy")
    np.savez(tmp_path / "c.npz", x=np.zeros(3), y=np.zeros(3))
    with pytest.raises(FileFormatError, match=r"holds arrays \['x', 'y'\]; expected x, y, t and p"):
        read_events(tmp_path / "c.npz")
    os.mkfifo(tmp_path / "d.bin")
    with pytest.raises(FileFormatError, match="is a named pipe"):
        read_events(tmp_path / "d.bin")
    far = events()
    far["x"][3] = 40
    with pytest.raises(FileFormatError, match="far has x from 0 to 40; expected 0 to 33"):
        count_frames(far, FrameSettings(34, 34, 2, 4, "time"), what="far")


@pytest.mark.parametrize("by", ["time", "count"])
@pytest.mark.parametrize("side", [0, 17, 10])
def test_frames_count_every_event_once(by, side):
    made = events()
    settings = FrameSettings(34, 34, 2, 5, by, side)
    found = count_frames(made, settings)
    expected = np.zeros(settings.shape, int)
    columns = side or 34
    span = made["t"][-1] - made["t"][0] + 1
    for i, event in enumerate(made):
        step = i * 5 // 400 if by == "count" else (event["t"] - made["t"][0]) * 5 // span
        expected[step, event["p"], event["y"] * columns // 34, event["x"] * columns // 34] += 1
    np.testing.assert_array_equal(found, expected)
    assert found.sum() == 400 and found.shape == (5, 2, columns, columns)
    binary = count_frames(made, FrameSettings(34, 34, 2, 5, by, side, binary=True))
    np.testing.assert_array_equal(binary, np.minimum(expected, 1))


def test_frames_saturate_and_an_empty_sample_is_silent():
    many = np.zeros(300, EVENT)
    settings = FrameSettings(1, 1, 2, 1, "time")
    assert count_frames(many, settings)[0, 0, 0, 0] == 255
    assert count_frames(many[:0], settings).sum() == 0
    assert FrameSettings(240, 180, 2, 1, "time", side=48).size == (36, 48)
    assert FrameSettings(700, 1, 1, 1, "time", side=140).size == (1, 140)
    with pytest.raises(ConfigError, match="side is 35, and the sensor has 34 x 34 pixels"):
        FrameSettings(34, 34, 2, 1, "time", side=35)


def test_windows_are_of_one_length_and_begin_at_zero():
    made = events(length=1_000_000)
    parts = list(windows(made, 300_000))
    assert len(parts) == (made["t"][-1] - made["t"][0]) // 300_000 == 3
    assert all(part["t"].min() >= 0 and part["t"].max() < 300_000 for part in parts)
    kept = made[made["t"] - made["t"][0] < 900_000]
    assert sum(map(len, parts)) == len(kept)


def own_folder(root: Path) -> Path:
    for part, count in (("train", 3), ("test", 2)):
        for name in ("mug", "pen"):
            for i in range(count):
                write(root / part / name / f"{i}{('.npy', '.bin')[i % 2]}", events())
    return root


def test_a_folder_of_recordings_becomes_frames(tmp_path):
    root = own_folder(tmp_path / "data")
    data = load_data("events:sensor=34,steps=6,side=17", root)
    assert (len(data.train), len(data.test), data.n_classes) == (6, 4, 2)
    assert data.input_shape == (2, 17, 17) and data.train.n_steps == 6
    values, labels = next(Batches(data.train, 4, shuffle=True, augment=("crop:2",)).epoch(0))
    assert values.shape == (6, 4, 2, 17, 17) and len(labels) == 4
    cut = load_data("events:sensor=34,window_ms=200", root)
    assert len(cut.train) == 6 * 4 and sorted(set(cut.train.labels)) == [0, 1]
    with pytest.raises(ConfigError, match=r"window_ms is 9000, .* of 6 recordings lasts .* Lower"):
        load_data("events:sensor=34,window_ms=9000", root)
    with pytest.raises(FileFormatError, match="has x from .* expected 0 to 19"):
        load_data("events:sensor=20", root)
    with pytest.raises(ConfigError, match="data set option by is 'size'; expected count or time"):
        load_data("events:by=size", root)


def test_a_part_of_nmnist_is_enough(tmp_path):
    for part, count in (("Train", 2), ("Test", 1)):
        for digit in range(10):
            for i in range(count):
                write(tmp_path / "NMNIST" / part / str(digit) / f"{i:05}.bin", events())
    data = load_data("nmnist:steps=4", tmp_path)
    assert data.train.raw.shape == (20, 4, 2, 34, 34) and len(data.test) == 10
    assert sorted(data.test.labels) == list(range(10)) and len(set(data.train.head(5).labels)) > 2


@pytest.mark.parametrize("name", ["nmnist", "dvs128_gesture", "dvs_cifar10", "ncaltech101", "shd"])
def test_missing_sets_say_how_to_get_them_and_nothing_is_fetched_unasked(
    name, tmp_path, monkeypatch
):
    def refuse(*args, **options):
        raise OSError("no route to host")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    with pytest.raises(
        ConfigError, match=r"no .* in '.*'.*Expected files: .*tonic.*--download|garrick"
    ) as found:
        load_data(name, tmp_path)
    assert "route" not in str(found.value)
    with pytest.raises(ConfigError, match="tonic could not fetch it: .*no route to host"):
        load_data(name, tmp_path, download=True)


@pytest.mark.parametrize("name", ["dvs128_gesture", "ncaltech101"])
def test_sets_of_tonic_become_frames(name, tmp_path, monkeypatch):
    """Files in tonic's layout; its check of sums and counts is not asked."""
    monkeypatch.setattr(tonic.dataset.Dataset, "_is_file_present", lambda self: True)
    monkeypatch.setattr(
        tonic.dataset.Dataset, "_folder_contains_at_least_n_files_of_type", lambda *args: True
    )
    if name == "ncaltech101":
        for kind in ("ant", "bee"):
            for i in range(10):
                write(tmp_path / "NCALTECH101" / "Caltech101" / kind / f"image_{i}.bin", events())
        data = load_data(name, tmp_path)
        assert data.train.raw.shape == (18, 10, 2, 36, 48) and len(data.test) == 2
        assert data.test.labels.tolist() == [0, 1]
        return
    for part in ("Train", "Test"):
        folder = tmp_path / "DVSGesture" / f"ibmGesture{part}" / "user01_led"
        folder.mkdir(parents=True)
        for label in (3, 10):
            made = events(side=128)
            columns = [made[key] for key in ("x", "y", "p")] + [made["t"] // 1000]
            np.save(folder / f"{label}.npy", np.stack(columns, axis=-1))
    data = load_data(f"{name}:side=32", tmp_path)
    assert data.train.raw.shape == (2, 16, 2, 32, 32) and data.n_classes == 11
    assert sorted(data.train.labels) == [3, 10]


# --- EventMix -----------------------------------------------------------------------------------


def test_frames_between_pixels_are_those_of_torch():
    """BrainCog's resize, interpolate(mode="bilinear", align_corners=True), in sixteenths of an event."""
    torch = pytest.importorskip("torch")
    made = events(40_000)  # several at every pixel, also where one is left
    whole = count_frames(made, FrameSettings(34, 34, 2, 5, "time"))
    for side in (12, 34, 1):
        found = count_frames(made, FrameSettings(34, 34, 2, 5, "time", side, resize="bilinear"))
        exact = torch.nn.functional.interpolate(
            torch.from_numpy(whole).double(), (side, side), mode="bilinear", align_corners=True
        )
        assert np.abs(found - 16 * exact.numpy()).max() <= 0.5 + 1e-9 and found.max() > 16
    wide = FrameSettings(240, 180, 2, 1, "time", 48, resize="bilinear")
    assert wide.shape == (1, 2, 48, 48)
    assert (count_frames(made, wide) % 16 != 0).any()


@pytest.mark.parametrize("share", [0.0, 0.25, 0.7, 1.0])
def test_the_mask_has_its_share_of_the_volume(share):
    mask = event_mask((10, 20, 20), share, np.random.default_rng(3))
    assert mask.mean() == pytest.approx(share, abs=1e-3) and mask.shape == (10, 20, 20)
    if 0 < share < 1:
        sizes = [np.diff(mask, axis=axis).mean() for axis in range(3)]
        assert max(sizes) < 0.25, "a region, not single points"


def test_the_label_is_kept_by_counts_of_events():
    first, second = np.ones((2, 4, 2, 6, 6), np.uint8)
    mask = np.zeros((4, 6, 6), bool)
    mask[:1] = True
    assert kept_share(first, second, mask) == 0.75
    second[:1] = 0
    assert kept_share(first, second, mask) == 1.0
    assert kept_share(np.zeros_like(first), np.zeros_like(first), mask) == 1.0
    assert kept_share(first, first, np.ones_like(mask)) == 0.0


def test_mixed_samples_hold_parts_of_two_and_one_of_their_labels():
    raw = np.repeat(np.arange(1, 13, dtype=np.uint8), 5 * 2 * 8 * 8).reshape(12, 5, 2, 8, 8)
    split = Split(raw, np.arange(12), 255, steps=True)

    def epoch(number, **options):
        batches = Batches(split, 5, seed=1, augment=("event_mix:0.5",), **options)
        values, labels = zip(*batches.epoch(number))
        return np.concatenate(values, axis=1), np.concatenate(labels)

    values, labels = epoch(0)
    mixed = [i for i in range(12) if len(np.unique(values[:, i])) == 2]
    assert 2 < len(mixed) < 12
    for i in range(12):
        found = set(np.unique(values[:, i])) - {i + 1}
        assert len(found) <= 1 and labels[i] in {i, *(n - 1 for n in found)}
        np.testing.assert_array_equal(values[:, i, 0], values[:, i, 1])  # both polarities alike
    assert (labels != np.arange(12)).any()
    for other in ({"workers": 1}, {}):
        np.testing.assert_array_equal(epoch(0, **other)[0], values)
    assert (epoch(1)[0] != values).any()
    pictures = Split(raw[:, 0], np.arange(12), 255)
    with pytest.raises(
        ConfigError, match="'event_mix' is for events, and the samples are pictures"
    ):
        Batches(pictures, 4, augment=("event_mix",))


@pytest.mark.data
@pytest.mark.slow
def test_real_recordings_as_another_program_counts_them(tmp_path):
    """The same windows of the same recordings, by the loader that comes with them."""
    root = os.environ.get("BIRIL_DATA", "")
    if not Path(root, "dvs128_objects.tar.xz").is_file():
        pytest.skip(
            "set BIRIL_DATA to a folder with dvs128_objects.tar.xz, nmnist_1100.tar.xz and load.py"
        )
    sys.path.insert(0, root)
    try:
        import load
    finally:
        sys.path.remove(root)
    load.unpack(str(tmp_path / "all"), root, ("nmnist", "dvs128"))
    for part, session in (("train", "session1"), ("test", "session2")):
        for name in ("Caixa", "Caneca"):
            source = (
                tmp_path / "all" / "dvs128_objects" / "dvs128_objects" / session / f"{name}.aedat"
            )
            target = tmp_path / "own" / part / name / "a.aedat"
            target.parent.mkdir(parents=True)
            (
                source
                if source.is_file()
                else next((tmp_path / "all").rglob(f"{session}/{name}.aedat"))
            ).rename(target)
    data = load_data("events:window_ms=200,side=32,steps=10", tmp_path / "own")
    parts = load.windows(load.dvs128(root)["session1", "Caixa"], 200_000)
    for i in (0, 7, len(parts) - 1):
        expected = load.frames(parts[i], 128, 10, 200_000, 4)
        np.testing.assert_array_equal(data.train.raw[i], np.minimum(expected, 255))
    digits = load_data("nmnist", tmp_path / "all")
    assert (len(digits.train), len(digits.test)) == (1000, 100)
