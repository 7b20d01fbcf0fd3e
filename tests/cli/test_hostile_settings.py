"""Settings in files that ask for the impossible: one error of ours, before memory or time is taken."""

from __future__ import annotations

import pytest

from tests.support.command_line import biril, refused
from tests.support.graphs import one_layer

TRAIN = {
    "nan": ("[train]\nlr = nan", "number nan"),
    "epochs": ("[train]\nepochs = 9223372036854775807", "epochs is 9223372036854775807"),
    "schedule": ('[train]\nschedule = "%s"' % ("S" * 90_000), "schedule is 'SSSS"),
    "ratio": ('[train]\nschedule = "9999999:9999999:9999999"', "schedule is '9999999:"),
    "width": ("[net]\nchannels = [1000000000, 1000000000]", "channels is (1000000000"),
    "device": ('parent = "/dev/zero"', "'/dev/zero' is a device"),
    "dataset": ('dataset = "pictures:side=99999999"', "option side is '99999999'"),
    "deep": ("a." * 900 + "a = 1", "nests deeper than 64 levels"),
    "dots": ("a." * 500_000 + "a = 1", "a line of 500000 dots; expected at most 1000"),
    "crop": ("crop_pad = 1000000000", "crop_pad is 1000000000"),
    "augment": ('augment = ["crop:99999999"]', "augment is 'crop:99999999'"),
}
METHOD = 'name = "x"\nmethods = [{name = "a", schedule = "B"}]\n'
STUDY = {
    "seeds": (METHOD + f"seeds = {list(range(20_000))}", "20000 seeds; expected 10000 cells"),
    "name": (
        'name = "x"\nmethods = [{name = "../a", schedule = "B"}]',
        "name of a method is '../a'",
    ),
    "methods": ('name = "x"\nmethods = 5', "methods of the study is 5; expected a list"),
    "bits": (METHOD + "bits = [9223372036854775807]", "bits are (9223372036854775807,)"),
    "shift": (METHOD + 'shifts = ["[/red]"]', "shift '[/red]' is unknown"),
    "date": (METHOD + "run = 1979-05-27", "holds a date"),
    "samples": (METHOD + "n_train = 9223372036854775807", "n_train is 9223372036854775807"),
    "train": (
        'name = "x"\nmethods = [{name = "a", schedule = "B", train = {epochs = 3}}]',
        "epochs in train of method 'a' is 3; expected none, since the study has its epochs",
    ),
}


@pytest.mark.parametrize("name", TRAIN)
def test_settings_of_a_training(name, tmp_path):
    text, message = TRAIN[name]
    (tmp_path / "x.toml").write_text(text)
    refused(biril("train", tmp_path / "x.toml", "--out", tmp_path / "out"), message)
    assert not list(tmp_path.glob("out/*.pt"))


@pytest.mark.parametrize("name", STUDY)
def test_settings_of_a_study(name, tmp_path):
    text, message = STUDY[name]
    (tmp_path / "x.toml").write_text(text)
    refused(biril("study", tmp_path / "x.toml", "--out", tmp_path / "out"), message)
    assert not list(tmp_path.glob("out/cells/*"))


@pytest.mark.parametrize("name", [".", "..", "/"])
def test_folders_without_a_name_of_their_own(name, tmp_path, monkeypatch):
    (tmp_path / "run" / "inner").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "run" / "inner")
    refused(biril("export", name, "--to", "netx"), "is a folder without model.pt")
    for folder in ("run", "run/inner"):
        one_layer(2, 1).save(tmp_path / folder / "model.loihi.npz")
    if name != "/":
        made = tmp_path / ("run.net" if name == ".." else "run/inner.net")
        done = biril("export", name, "--to", "netx")
        assert done.returncode == 0, done.stderr
        assert made.is_file()
