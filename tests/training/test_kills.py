"""kill -9 at any moment: what is left loads or is refused, and a resumed run ends in the same weights.

Half of the kills come at a random time, half before a random file operation. The seed is printed, and
``BIRIL_KILL_SEED`` sets another one.
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from biril_nm.errors import FileFormatError
from biril_nm.hw_graph import Dense, Input, LoihiGraph, Neurons, Output
from biril_nm.models import load
from biril_nm.recording import Recording
from biril_nm.storage import read_json, read_json_lines
from biril_nm.training.run_config import RunConfig
from tests.support.killable import Commands, Ending

SEED = int(os.environ.get("BIRIL_KILL_SEED", "0"))
FEW_KILLS = int(os.environ.get("BIRIL_KILLS", "20"))  # of what takes longer
KILLS = [2, pytest.param(50, marks=pytest.mark.slow)]
NET = ["train", "--model", "mlp", "--schedule", "B", "--steps", "2"]
TRAIN = [*NET, "--epochs", "3", "--batch-size", "300", "--out"]
pytestmark = pytest.mark.timeout(7200)  # many short commands, on a machine that may be busy

OURS = {"model.pt", "checkpoint.pt", "config.toml", "metrics.jsonl", "curves.png", "tensorboard"}


@pytest.fixture(scope="module")
def commands(tmp_path_factory) -> Commands:
    return Commands(tmp_path_factory.mktemp("kills"))


@pytest.fixture(scope="module")
def trained(commands) -> Ending:
    """An uninterrupted run in the folder 'whole'."""
    ending = commands.run([*TRAIN, "whole"])
    assert ending.code == 0 and ending.events > 20, ending.errors
    return ending


def kill(
    commands: Commands, words: list[str], whole: Ending, draw: random.Random, i: int
) -> Ending:
    """Kill an odd command at a random time, an even one before a random file operation.

    A command may end before its time has come, since the machine is not equally busy all the time.
    """
    if i % 2:
        return commands.run(words, kill_after_s=draw.uniform(0, whole.seconds))
    return commands.run(words, kill_at=draw.randint(1, whole.events))


def randoms(what: str, n: int) -> list[random.Random]:
    print(f"{what}: seed {SEED}, {n} kills")
    return [random.Random(f"{what} {SEED} {i}") for i in range(n)]


def clean(folder: Path) -> set[str]:
    """Names in a folder, none of which is a part or lock of a killed process."""
    names = {p.name for p in folder.iterdir()} - {".stderr", ".events"}
    assert not {name for name in names if ".biril-" in name}, names
    return names


def readable(folder: Path) -> int:
    """Epochs of the run that is left; each file that is there can be read."""
    if (folder / "config.toml").exists():
        assert RunConfig.read(folder / "config.toml").train.epochs == 3
    if (folder / "model.pt").exists():
        load(folder / "model.pt")
    if (folder / "metrics.jsonl").exists():
        return len(read_json_lines(folder / "metrics.jsonl"))
    return 0


@pytest.mark.parametrize("n_kills", KILLS)
def test_a_killed_training_resumes_to_the_same_weights(n_kills, commands, trained):
    wanted = load(commands.folder / "whole" / "model.pt").state_dict()
    reports = read_json_lines(commands.folder / "whole" / "metrics.jsonl")
    killed, early, late = 0, 0, 0
    for i, draw in enumerate(randoms("train", n_kills)):
        run = commands.folder / f"run{n_kills}.{i}"
        for _ in range(draw.randint(1, 3)):  # also while it resumes
            words = [*TRAIN, run.name, *(["--resume"] if (run / "config.toml").exists() else [])]
            killed += kill(commands, words, trained, draw, i).code == -signal.SIGKILL
            epochs = readable(run)
            early += epochs == 0
            late += epochs > 0
        if not (run / "config.toml").exists():
            refused = commands.run(["train", "--resume", "--out", run.name])
            assert refused.code == 1 and "config.toml is missing" in refused.errors
            assert not (run / "model.pt").exists()
            ending = commands.run([*TRAIN, run.name])
        else:
            ending = commands.run(["train", "--resume", "--out", run.name])
        assert ending.code == 0, (i, ending.errors)
        found = load(run / "model.pt").state_dict()
        assert found.keys() == wanted.keys()
        for name, value in wanted.items():
            assert torch.equal(found[name], value), (i, name)
        without_time = [
            [{k: v for k, v in r.items() if k != "seconds"} for r in records]
            for records in (reports, read_json_lines(run / "metrics.jsonl"))
        ]
        assert without_time[0] == without_time[1]
        assert clean(run) <= OURS
    print(f"{killed} killed, {early} before and {late} after the first epoch")
    assert killed >= n_kills * 0.5
    assert n_kills < 50 or (early > 5 and late > 5)


@pytest.mark.slow
def test_a_killed_training_on_integers_resumes_to_the_same_graph(commands, trained):
    words = ["train", "--from", "whole/model.pt", "--integers", "4", "--epochs", "3"]
    words += ["--batch-size", "300", "--out"]
    whole = commands.run([*words, "integers"])
    assert whole.code == 0 and whole.events > 20, whole.errors
    wanted = LoihiGraph.load(commands.folder / "integers" / "model.loihi.npz")
    killed = 0
    for i, draw in enumerate(randoms("integers", FEW_KILLS)):
        run = commands.folder / f"integers.{i}"
        for _ in range(draw.randint(1, 3)):
            again = (run / "config.toml").exists()
            resumed = ["train", "--resume", "--out", run.name]
            ending = kill(commands, resumed if again else [*words, run.name], whole, draw, i)
            killed += ending.code == -signal.SIGKILL
        last = resumed if (run / "config.toml").exists() else [*words, run.name]
        ending = commands.run(last)
        assert ending.code == 0, (i, ending.errors)
        assert LoihiGraph.load(run / "model.loihi.npz") == wanted, i
        assert not {name for name in clean(run) if name.endswith(".part")}
    assert killed >= FEW_KILLS * 0.5


def curve(run: Path) -> list[dict[str, object]]:
    """Points of a run of chip-train, but for what a clock says."""
    records = read_json_lines(run / "metrics.jsonl")
    return [{key: value for key, value in r.items() if key != "samples_per_s"} for r in records]


@pytest.mark.slow
def test_a_killed_learning_on_the_chip_resumes_to_the_same_graph_and_curve(commands):
    words = [
        "chip-train",
        "--hidden",
        "8",
        "--passes",
        "2",
        "--every",
        "20",
        "--train-samples",
        "60",
    ]
    words += ["--test-samples", "20", "--out"]
    assert commands.run([*words, "compiled"]).code == 0
    whole = commands.run([*words, "chip"])
    assert whole.code == 0 and whole.events > 10, whole.errors
    files = ("plastic.loihi.npz", "learned.loihi.npz")
    wanted = [LoihiGraph.load(commands.folder / "chip" / name) for name in files]
    points, killed = curve(commands.folder / "chip"), 0
    for i, draw in enumerate(randoms("chip", FEW_KILLS)):
        run = commands.folder / f"chip.{i}"
        for _ in range(draw.randint(1, 3)):
            more = ["--resume"] if (run / "state.npz").exists() else []
            killed += kill(commands, [*words, run.name, *more], whole, draw, i).code < 0
        more = ["--resume"] if (run / "state.npz").exists() else []
        ending = commands.run([*words, run.name, *more])
        assert ending.code == 0, (i, ending.errors)
        assert [LoihiGraph.load(run / name) for name in files] == wanted, i
        assert curve(run) == points, i
        assert clean(run) == {"state.npz", "metrics.jsonl", *files}
    assert killed >= FEW_KILLS * 0.5


STUDY = """
name = "small"
dataset = "digits"
model = "mlp"
seeds = [0]
epochs = 2
n_train = 96
n_validation = 40
n_test = 60
bits = [8]
per_class = 1
methods = [{name = "two", schedule = "BS", train = {plastic = "last"}}, {name = "plain", schedule = "B"}]
run = {net = {hidden = [16, 12]}, batch_size = 32}
"""


def results(study: Path) -> dict[str, object]:
    """All that the cells have measured, but for what a clock says."""
    files = sorted(study.glob("cells/*/result.json"))
    return {file.parent.name: {**read_json(file), "seconds": 0} for file in files}


@pytest.mark.slow
def test_a_killed_study_resumes_to_the_same_results(commands):
    (commands.folder / "small.toml").write_text(STUDY)
    words = ["study", "small.toml", "--out"]
    whole = commands.run([*words, "study"])
    assert whole.code == 0 and whole.events > 20, whole.errors
    wanted = results(commands.folder / "study")
    assert set(wanted) == {"two-0", "plain-0"}
    killed = 0
    for i, draw in enumerate(randoms("study", FEW_KILLS)):
        study = commands.folder / f"study.{i}"
        for _ in range(draw.randint(1, 3)):
            more = ["--resume"] if (study / "study.toml").exists() else []
            killed += kill(commands, [*words, study.name, *more], whole, draw, i).code < 0
            assert results(study).items() <= wanted.items()
        more = ["--resume"] if (study / "study.toml").exists() else []
        ending = commands.run([*words, study.name, *more])
        assert ending.code == 0, (i, ending.errors)
        assert results(study) == wanted, i
        assert not list(study.glob("cells/*/run"))
    assert killed >= FEW_KILLS * 0.5


@pytest.mark.parametrize("n_kills", KILLS)
def test_a_training_replaced_by_force_never_goes_on_from_the_old_one(n_kills, commands, trained):
    words = [*NET, "--epochs", "1", "--batch-size", "200"]
    assert commands.run([*words, "--out", f"other{n_kills}"]).code == 0
    wanted = load(commands.folder / f"other{n_kills}" / "model.pt").state_dict()
    first = load(commands.folder / "whole" / "model.pt").state_dict()
    assert any(not torch.equal(first[name], wanted[name]) for name in wanted)
    for i, draw in enumerate(randoms("force", n_kills)):
        name = f"force{n_kills}.{i}"
        run = commands.folder / name
        assert commands.run([*TRAIN, name], kill_at=trained.events * 2 // 3).code < 0
        kill(commands, [*words, "--out", name, "--force"], trained, draw, i)
        resumed = commands.run([*words, "--out", name, "--resume"])
        if resumed.code == 0:
            found = load(run / "model.pt").state_dict()
            assert all(torch.equal(found[key], wanted[key]) for key in wanted), i
        else:
            message = "belongs to another run" if (run / "config.toml").exists() else "is missing"
            assert message in resumed.errors, resumed.errors


def same_files(one: Path, two: Path) -> bool:
    files = sorted(p.relative_to(one) for p in one.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(two) for p in two.rglob("*") if p.is_file())
    return all(
        (one / name).read_bytes() == (two / name).read_bytes()
        for name in files
        if name.name != "README.txt"  # says the folder's name
    )


@pytest.mark.parametrize("n_kills", KILLS)
def test_a_killed_export_leaves_nothing_or_the_whole(n_kills, commands, trained):
    folder = commands.folder / f"export{n_kills}"
    folder.mkdir()
    export = ["export", "whole/model.pt", "--to"]

    def words(kind: str, name: str) -> list[str]:
        suffix = {"lava": "", "loihi": ".loihi.npz", "nir": ".nir"}[kind]
        return [*export, kind, "-o", f"{folder.name}/{name}{suffix}"]

    checks: dict[str, Callable[[Path], object]] = {
        "lava": lambda path: same_files(path, folder / "whole"),
        "loihi": lambda path: LoihiGraph.load(path) == LoihiGraph.load(folder / "whole.loihi.npz"),
        "nir": lambda path: path.read_bytes() == (folder / "whole.nir").read_bytes(),
    }
    endings = {kind: commands.run(words(kind, "whole")) for kind in checks}
    assert all(ending.code == 0 for ending in endings.values()), endings
    killed = 0
    for i, draw in enumerate(randoms("export", n_kills)):
        kind = draw.choice(sorted(checks))
        again = words(kind, f"out{i}")
        path = commands.folder / again[-1]
        if draw.random() < 0.5:  # replaces an earlier one
            assert commands.run(again).code == 0
            again.append("--force")
        killed += kill(commands, again, endings[kind], draw, i).code == -signal.SIGKILL
        if path.exists():
            assert checks[kind](path), (i, kind)
        ending = commands.run([*again[:6], "--force"])
        assert ending.code == 0, (i, kind, ending.errors)
        assert checks[kind](path), (i, kind)
        clean(folder)
    assert killed >= n_kills * 0.5


@pytest.mark.parametrize("n_kills", KILLS)
def test_a_killed_recording_leaves_nothing_or_the_whole(n_kills, commands):
    folder = commands.folder / f"record{n_kills}"
    folder.mkdir()
    r = np.random.default_rng(SEED)
    nodes = {
        "in": Input((40,)),
        "fc": Dense(2 * r.integers(-20, 30, (300, 40))),
        "lif": Neurons((300,), vth=200, dv=400),
        "out": Output(),
    }
    graph = LoihiGraph(nodes, (("in", "fc"), ("fc", "lif"), ("lif", "out")))
    graph.save(folder / "net.loihi.npz")
    np.savez(folder / "x.npz", spikes=r.integers(0, 2, (500, 30, 40), dtype=np.uint8))
    sim = ["sim", f"{folder.name}/net.loihi.npz", "--spikes", f"{folder.name}/x.npz",
           "--record", "s,u,v", "--force", "--record-to"]  # fmt: skip
    whole = commands.run([*sim, f"{folder.name}/whole"])
    assert whole.code == 0, whole.errors
    whole = commands.run([*sim, f"{folder.name}/whole"])  # with compiled code
    killed = 0
    for i, draw in enumerate(randoms("record", n_kills)):
        words = [*sim, f"{folder.name}/out"]
        killed += kill(commands, words, whole, draw, i).code == -signal.SIGKILL
        try:
            Recording.load(folder / "out")
        except FileFormatError:
            assert not (folder / "out").exists(), i
        else:
            assert same_files(folder / "whole", folder / "out"), i
    assert commands.run(words).code == 0
    assert clean(folder) == {"net.loihi.npz", "x.npz", "whole", "out"}
    assert killed >= n_kills * 0.5
