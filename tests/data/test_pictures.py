"""Pictures from folders and torchvision: what is read, cached, refused, and what is missing."""

from __future__ import annotations

import os
import resource
import shutil
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from biril_nm.data import Batches, load_data
from biril_nm.data import cache as cache_module
from biril_nm.data.pictures import read_picture
from biril_nm.errors import ConfigError, FileFormatError, MissingDependencyError

torchvision = pytest.importorskip("torchvision")
CLASSES = ("cat", "dog", "owl")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch, request):
    monkeypatch.setenv("BIRIL_CACHE", str(tmp_path / "cache"))
    if request.node.get_closest_marker("data") is None:
        monkeypatch.delenv("BIRIL_DATA", raising=False)


@pytest.fixture
def root(tmp_path) -> Path:
    random = np.random.default_rng(0)
    for part, count in (("train", 4), ("test", 2)):
        for label, name in enumerate(CLASSES):
            folder = tmp_path / "data" / part / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = random.integers(0, 256, (6, 9, 3), dtype=np.uint8)
                pixels[0, 0] = label
                Image.fromarray(pixels).save(folder / f"{i}.png")
    return tmp_path / "data"


def folders():
    return sorted(path.name for path in cache_module.cache_folder().iterdir())


def test_a_folder_is_read_as_torchvision_reads_it(root):
    data = load_data("pictures", root)
    assert (data.input_shape, data.n_classes, len(data.train), len(data.test)) == (
        (3, 6, 9),
        3,
        12,
        6,
    )
    for part, split in (("train", data.train), ("test", data.test)):
        folder = torchvision.datasets.ImageFolder(root / part)
        assert list(folder.class_to_idx) == list(CLASSES)
        for i, (image, label) in enumerate(folder):
            np.testing.assert_array_equal(split.raw[i], np.asarray(image).transpose(2, 0, 1))
            assert split.labels[split.rows.tolist().index(i)] == label
        assert np.any(np.diff(split.labels) < 0), "the first samples are of one class"
    assert data.train.values([0, 3]).max() <= 1


def test_samples_are_mapped_from_a_cache_that_follows_files_and_settings(root, monkeypatch):
    first = load_data("pictures", root)
    assert isinstance(first.train.raw.base, np.memmap) and not first.train.raw.flags.writeable
    assert len(folders()) == 2
    monkeypatch.setattr("biril_nm.data.pictures.read_picture", None)  # nothing is decoded again
    np.testing.assert_array_equal(load_data("pictures", root).train.raw, first.train.raw)
    monkeypatch.undo()
    monkeypatch.setenv("BIRIL_CACHE", str(root.parent / "cache"))
    assert load_data("pictures:side=4,colour=grey", root).input_shape == (1, 4, 4)
    assert len(folders()) == 4
    Image.new("RGB", (9, 6), (7, 8, 9)).save(root / "test" / "owl" / "1.png")
    assert load_data("pictures", root).test.raw[-1, :, 2, 2].tolist() == [7, 8, 9]
    assert len(folders()) == 5
    assert not [name for name in folders() if name.startswith(".")]


@pytest.mark.parametrize(
    "damage", ["values.npy", "labels.npy", "about.json", "link", "pickle", "dtype"]
)
def test_a_cache_that_was_changed_is_refused(root, damage):
    load_data("pictures", root)
    (folder,) = cache_module.cache_folder().glob("pictures-train-*")
    values = folder / "values.npy"
    if damage == "link":
        values.rename(folder / "moved")
        values.symlink_to(folder / "moved")
    elif damage == "pickle":
        np.save(values, np.array([{}], dtype=object), allow_pickle=True)
    elif damage == "dtype":
        np.save(values, np.load(values).astype(np.float32))
    else:
        (folder / damage).write_bytes((folder / damage).read_bytes()[:-3])
    with pytest.raises(
        FileFormatError, match=r"the cache '.*' cannot be used: .*Remove that folder"
    ):
        load_data("pictures", root)
    shutil.rmtree(folder)
    assert len(load_data("pictures", root).train) == 12


def test_a_cache_that_fails_leaves_nothing_behind(root):
    (root / "train" / "owl" / "3.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    with pytest.raises(FileFormatError, match=r"3\.png' cannot be read: [^<>]*; expected JPEG, "):
        load_data("pictures", root)
    assert folders() == []


def test_pictures_that_are_none_are_refused(root, tmp_path, monkeypatch):
    place = root / "train" / "cat" / "9.jpg"
    os.mkfifo(place)
    with pytest.raises(FileFormatError, match=r"9\.jpg' is a named pipe; expected a regular file"):
        load_data("pictures", root)
    monkeypatch.setattr("biril_nm.data.pictures.MAX_PIXELS", 50)
    with pytest.raises(
        FileFormatError, match="has 9 x 6 pixels; expected at most 50. Make it smaller"
    ):
        read_picture(root / "train" / "cat" / "0.png")


def _picture(mode: str, alpha: int = 255) -> Image.Image:
    image = Image.new("RGBA", (5, 4), (9, 8, 7, 255))
    image.putpixel((2, 1), (9, 8, 7, alpha))
    return image if mode == "RGBA" else image.convert(mode)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA"])
def test_modes_of_colours_are_read(mode, tmp_path):
    _picture(mode).save(tmp_path / "a.png")
    expected = np.asarray(_picture(mode).convert("RGB")).transpose(2, 0, 1)
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png"), expected)
    assert read_picture(tmp_path / "a.png", "grey").shape == (1, 4, 5)


def test_what_a_colour_would_lose_is_refused(tmp_path):
    deep = np.full((4, 5), 1000, np.uint16)
    pictures = {
        "a.tif": (_picture("CMYK"), "has mode CMYK; expected 1, L, P, RGB, or RGBA"),
        "b.png": (Image.fromarray(deep), "has mode I"),
        "c.tif": (Image.fromarray(deep.astype(np.float32)), "has mode F; .*Convert it to 8 bits"),
        "d.png": (_picture("LA"), "has mode LA"),
        "e.png": (_picture("RGBA", 254), "has transparent pixels; expected none. Put it on a"),
    }
    for name, (image, message) in pictures.items():
        image.save(tmp_path / name)
        with pytest.raises(FileFormatError, match=f"picture '.*{name}' {message}"):
            read_picture(tmp_path / name)
    for mode in ("L", "P", "RGB"):
        clear = (9, 8, 7) if mode == "RGB" else _picture(mode).getpixel((0, 0))
        _picture(mode).save(tmp_path / "f.png", transparency=clear)
        with pytest.raises(FileFormatError, match="has transparent pixels"):
            read_picture(tmp_path / "f.png")


@pytest.mark.parametrize("size", [(9, 6), (6, 9), (40, 31), (17, 50), (16, 16), (100, 101)])
@pytest.mark.parametrize("side", [5, 16, 33])
def test_the_middle_square_is_that_of_torchvision(size, side, tmp_path):
    functional = pytest.importorskip("torchvision.transforms.v2.functional")
    pixels = np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    image.save(tmp_path / "a.png")
    expected = functional.center_crop(functional.resize(image, [side]), [side, side])
    found = read_picture(tmp_path / "a.png", side=side)
    apart = found.astype(int) - np.asarray(expected).transpose(2, 0, 1)
    assert np.abs(apart).max() <= 1 and (apart != 0).mean() < 0.5  # Pillow 13 rounds more of them
    shifted = np.roll(found, 1, axis=2).astype(int) - np.asarray(expected).transpose(2, 0, 1)
    assert np.abs(shifted).max() > 1


def test_only_the_square_of_a_long_picture_is_computed(tmp_path):
    pixels = np.zeros((3_000_000, 1), np.uint8)
    pixels[1_500_000] = 200  # the middle square is this pixel
    Image.fromarray(pixels).save(tmp_path / "a.png")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = read_picture(tmp_path / "a.png", "grey", side=32)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert found.shape == (1, 32, 32) and found.max() > 100
    assert grown < 500_000, "KiB; the whole picture at this size has 3 GB"


def test_pictures_without_pillow_say_what_to_install(root, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingDependencyError, match=r"package 'PIL' is needed to read picture"):
        read_picture(root / "train" / "cat" / "0.png")


def test_samples_and_caches_of_other_shapes_are_refused(root):
    samples = [(np.zeros((3, 2, 2), np.uint8), 0), (np.zeros((3, 4, 1), np.uint8), 1)]
    with pytest.raises(
        FileFormatError, match=r"sample 1 of 'own' is uint8 in shape \(3, 4, 1\); expected"
    ):
        cache_module.packed("own", {}, samples, (3, 0, 0))
    with pytest.raises(FileFormatError, match=r"sample 0 of 'own' is .*in shape \(1, 0, 0\)"):
        cache_module.packed("own", {}, samples, (1, 0, 0))
    assert not folders()
    load_data("pictures:side=4", root)
    (folder,) = cache_module.cache_folder().glob("pictures-train-*")
    for shape in ((12, 3, 2, 8), (12, 48), (12, 1, 4, 4)):
        np.save(folder / "values.npy", np.zeros(shape, np.uint8))
        with pytest.raises(
            FileFormatError,
            match=rf"it holds uint8 in shape \({shape[0]}, .*\(n, 3, 4, 4\).*Remove",
        ):
            load_data("pictures:side=4", root)
    for shape in ((), (11, 3, 4, 4), (0,)):
        np.save(folder / "values.npy", np.zeros(shape, np.uint8))
        with pytest.raises(FileFormatError, match="is not the cache of .*Remove that folder"):
            load_data("pictures:side=4", root)


def test_a_cache_that_another_process_fills_meanwhile_is_not_replaced(monkeypatch):
    own = [(np.ones(2, np.uint8), 0), (np.zeros(2, np.uint8), 1)]
    directory, inodes = cache_module.atomic_directory, []

    def late(folder, **settings):
        monkeypatch.setattr(cache_module, "atomic_directory", directory)
        cache_module.packed("own", {}, own, (2,))
        inodes.append(folder.stat().st_ino)
        return directory(folder, **settings)

    monkeypatch.setattr(cache_module, "atomic_directory", late)
    values, labels = cache_module.packed("own", {}, own[::-1], (2,))
    assert values.tolist() == [[1, 1], [0, 0]] and labels.tolist() == [0, 1]
    (folder,) = cache_module.cache_folder().iterdir()
    assert inodes == [folder.stat().st_ino]


def test_pictures_of_several_sizes_need_a_side(root):
    Image.new("RGB", (12, 8)).save(root / "train" / "dog" / "0.png")
    with pytest.raises(
        ConfigError, match=r"is 12 x 8 pixels, and the first one 9 x 6; .*pictures:side=32"
    ):
        load_data("pictures", root)
    assert load_data("pictures:side=5", root).input_shape == (3, 5, 5)


def test_hidden_files_and_folders_are_no_samples_and_no_classes(root):
    before = load_data("pictures", root)
    for part in ("train", "test"):
        for hidden in (".ipynb_checkpoints", "cat/.thumbs"):
            shutil.copytree(root / part / "cat", root / part / hidden)
        (root / part / "dog" / "._0.png").write_bytes(b"of another system")
    after = load_data("pictures", root)
    assert after.n_classes == 3
    assert np.array_equal(after.train.raw, before.train.raw)
    assert np.array_equal(after.test.labels, before.test.labels)


def test_missing_folders_say_what_to_put_where(root, tmp_path):
    message = r"no folder of pictures in '.*' \(there is no folder 'train'\)\. Expected files: .*/train/CLASS"
    with pytest.raises(ConfigError, match=message):
        load_data("pictures", tmp_path)
    with pytest.raises(ConfigError, match="data set 'pictures' needs a folder: pass data_root"):
        load_data("pictures")
    shutil.rmtree(root / "test" / "owl")
    with pytest.raises(
        ConfigError, match="other classes in 'test' than in 'train': owl; expected the same"
    ):
        load_data("pictures", root)
    shutil.rmtree(root / "train" / "owl")
    shutil.rmtree(root / "train" / "dog")
    (root / "train" / "dog").mkdir()
    with pytest.raises(ConfigError, match="class folder '.*dog' holds no such file"):
        load_data("pictures", root)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("pictures:side", r"data set is 'pictures:side'; expected NAME or NAME:option=value"),
        ("pictures:side=x", "data set option side is 'x'; expected a whole number from 0"),
        ("pictures:side=32,side=16", "with an option twice; expected each option once"),
        ("pictures:colour=red", "data set option colour is 'red'; expected rgb or grey"),
        (
            "pictures:size=3",
            "option of data set 'pictures' 'size' is unknown; expected one of side",
        ),
        ("digits:side=3", "data set 'digits' is given options side; expected none"),
    ],
)
def test_options_that_make_no_sense_are_refused(name, message):
    with pytest.raises(ConfigError, match=message):
        load_data(name)


def test_a_built_in_set_takes_no_folder(tmp_path):
    with pytest.raises(
        ConfigError, match="data set 'digits' is built in; expected none. Leave data_root"
    ):
        load_data("digits", tmp_path)
    with pytest.raises(ConfigError, match="nothing fetches data set 'digits'"):
        load_data("digits", download=True)


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "mnist"])
def test_a_missing_set_says_how_to_get_it_and_a_failed_download_why(name, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match=r"no .* in '.*'.*Expected files: .*Get .*--download"):
        load_data(name, tmp_path)

    def refuse(*args, **options):
        raise OSError("no route to host")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    with pytest.raises(ConfigError, match="torchvision could not fetch it: .*") as found:
        load_data(name, tmp_path, download=True)
    assert "no route to host" in str(found.value) or "Error downloading" in str(found.value)


def test_cifar_is_what_torchvision_reads(tmp_path, monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)

    class Cifar:
        def __init__(self, root, train, download):
            assert not download and root == tmp_path
            self.data, self.targets = pixels[: 3 if train else 1], [9, 0, 4][: 3 if train else 1]

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", Cifar)
    data = load_data("cifar10", tmp_path)
    np.testing.assert_array_equal(data.train.raw, pixels[:3].transpose(0, 3, 1, 2))
    assert data.train.labels.tolist() == [9, 0, 4] and len(data.test) == 1


def test_a_validation_part_is_taken_from_each_class_of_the_training_part(root):
    data = load_data("pictures", root).with_validation(0.25, seed=3)
    assert data.validation is not None and len(data.test) == 6
    assert sorted(data.validation.labels) == [0, 1, 2] and len(data.train) == 9
    whole = load_data("pictures", root).train.stored().reshape(12, -1).tolist()
    parts = [
        part.stored().reshape(len(part), -1).tolist() for part in (data.train, data.validation)
    ]
    assert sorted(parts[0] + parts[1]) == sorted(whole)
    for values, labels in Batches(data.train, 4, shuffle=True).epoch(0):
        np.testing.assert_array_equal((values[:, 0, 0, 0] * 255).round(), labels)
    same = load_data("pictures", root).with_validation(0.25, seed=3)
    np.testing.assert_array_equal(same.validation.rows, data.validation.rows)
    with pytest.raises(
        ConfigError, match=r"validation is 0\.01, which is 0 of 12 training samples"
    ):
        load_data("pictures", root).with_validation(0.01)


@pytest.mark.data
@pytest.mark.slow
def test_cifar10_as_jpeg(tmp_path):
    archive = Path(os.environ.get("BIRIL_DATA", "")) / "cifar10_jpeg.tar.gz"
    if not archive.is_file():
        pytest.skip("set BIRIL_DATA to a folder with cifar10_jpeg.tar.gz")
    with tarfile.open(archive) as packed:
        few = [m for m in packed if m.isfile() and m.name.endswith("7.jpg") and "00" in m.name]
        packed.extractall(tmp_path / "few", few)
    data = load_data("pictures", tmp_path / "few")
    assert (data.input_shape, data.n_classes) == ((3, 32, 32), 10)
    assert len(data.train) + len(data.test) == len(few) > 100


@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_a_picture_of_another_format_starts_no_program(ending, tmp_path, monkeypatch):
    """Pillow opens any format under any name, and hands EPS to Ghostscript."""
    started = []
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *args: started.append(args))
    path = tmp_path / f"a{ending}"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n%%EndComments\nshowpage\n")
    assert Image.open(path).format == "EPS"
    with pytest.raises(FileFormatError, match=r"picture '.*' cannot be read: cannot identify"):
        read_picture(path)
    assert not started


def test_a_side_that_no_memory_holds_is_refused(root):
    with pytest.raises(ConfigError, match="side is 1048576; expected at most 8192, or 0"):
        load_data("pictures:side=1048576", root)
