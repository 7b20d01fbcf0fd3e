"""Torch archives of 0.1.0: plain tensors are read, and nothing else is handed to torch."""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from biril_nm.errors import FileFormatError
from biril_nm.models import build_model, load
from biril_nm.training.checkpoint import read_checkpoint
from biril_nm.training.config import TrainConfig

SMALL = {"hidden": (12,)}


def old_record(net: Any) -> dict[str, Any]:
    """What 0.1.0 gave to ``torch.save``."""
    return {
        "format": "biril-nm model",
        "version": 1,
        "model": net.name,
        "config": net.config.to_dict(),
        "state_dict": {k: v.detach() for k, v in net.state_dict().items()},
    }


@pytest.fixture
def net() -> Any:
    from biril_nm.models import ModelConfig

    return build_model("mlp", ModelConfig(**SMALL), seed=3).eval()  # type: ignore[arg-type]


@pytest.fixture
def old(net: Any, tmp_path: Path) -> Path:
    torch.save(old_record(net), tmp_path / "model.pt")
    return tmp_path / "model.pt"


def rewrite(
    path: Path,
    change: Callable[[str, bytes], tuple[str, bytes] | None] = lambda n, d: (n, d),
    add: dict[str, bytes] | None = None,
    method: int = zipfile.ZIP_STORED,
) -> None:
    with zipfile.ZipFile(path) as source:
        members = [change(name, source.read(name)) for name in source.namelist()]
        folder = source.namelist()[0].partition("/")[0]
    with zipfile.ZipFile(path, "w", method) as target:
        for name, data in [m for m in members if m] + list((add or {}).items()):
            target.writestr(name.replace("FOLDER", folder), data)


def test_a_model_of_the_last_version_loads(net: Any, old: Path) -> None:
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), load(old).parameters()))


def test_what_newer_torch_adds_is_accepted(net: Any, old: Path) -> None:
    new = {".format_version": b"1", ".storage_alignment": b"64"}
    rewrite(
        old,
        lambda n, d: None if n.endswith(tuple(new)) else (n, d),
        {f"FOLDER/{name}": data for name, data in new.items()},
    )
    assert torch.equal(load(old).layers.fc1.weight, net.layers.fc1.weight)


def test_a_checkpoint_of_the_last_version_loads(net: Any, tmp_path: Path) -> None:
    config = TrainConfig(schedule="B", epochs=1)
    optimizer = torch.optim.Adam(net.parameters(), lr=config.lr)
    net(net.encode(torch.rand(4, 1, 8, 8).numpy())).scores.sum().backward()
    optimizer.step()
    line = {"epoch": 1, "phase": "B", "loss": 0.5, "firing_rates": {"if1": 0.1}}
    record = {
        **old_record(net),
        "format": "biril-nm checkpoint",
        "optimizer": optimizer.state_dict(),
        "train_config": json.dumps(config.to_dict()),
        "records": json.dumps([line]),
    }
    torch.save(record, tmp_path / "checkpoint.pt")
    other = build_model("mlp", net.config, seed=4)
    again = torch.optim.Adam(other.parameters(), lr=config.lr)
    assert read_checkpoint(tmp_path / "checkpoint.pt", other, again, config) == [line]
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), other.parameters()))
    first, second = (o.state_dict()["state"] for o in (optimizer, again))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[i][k], second[i][k]) for i in first for k in first[i])


class Program(nn.Module):
    """Writes a file when it is loaded."""

    def __init__(self) -> None:
        super().__init__()
        self.mark = torch.zeros(1, dtype=torch.uint8)
        self.flag = True

    @torch.jit.export
    def __getstate__(self) -> tuple[torch.Tensor, bool]:
        return self.mark, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[torch.Tensor, bool]) -> None:
        self.training = state[1]
        self.flag = True
        self.mark = torch.from_file("mark", shared=True, size=4, dtype=torch.uint8)
        self.mark.fill_(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")
def test_programs_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.jit.save(torch.jit.script(Program()), "model.pt")
    with pytest.raises(FileFormatError, match="TorchScript archives hold programs"):
        load("model.pt")
    assert not Path("mark").exists()
    torch.jit.load("model.pt")  # the attack is one
    assert Path("mark").exists()


@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")
def test_a_program_beside_the_weights_never_runs(
    old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One archive with both: a second folder, or one that only another zip reader would find."""
    monkeypatch.chdir(tmp_path)
    program = io.BytesIO()
    torch.jit.save(torch.jit.script(Program()), program)
    with zipfile.ZipFile(program) as source:
        members = {name: source.read(name) for name in source.namelist()}
    whole = old.read_bytes()
    rewrite(old, add=members)
    with pytest.raises(FileFormatError, match="never loaded: TorchScript"):
        load(old)
    for data in (whole + program.getvalue(), program.getvalue() + whole):
        old.write_bytes(data)
        with contextlib.suppress(FileFormatError):
            load(old)
        assert not Path("mark").exists()


@pytest.mark.parametrize(
    "name", ["constants.pkl", "code/a.py", "data/x", "extra/a", "data/0/0", ""]
)
def test_other_members_are_refused(name: str, old: Path) -> None:
    rewrite(old, add={f"FOLDER/{name}": b"x"})
    with pytest.raises(FileFormatError, match=r"besides tensors, which is never loaded"):
        load(old)


def test_compressed_members_are_refused(old: Path) -> None:
    rewrite(old, method=zipfile.ZIP_DEFLATED)
    with pytest.raises(FileFormatError, match="is compressed, which torch never does"):
        load(old)


def test_large_notes_are_refused(old: Path) -> None:
    rewrite(old, lambda n, d: (n, bytes(2000) if n.endswith("byteorder") else d))
    with pytest.raises(FileFormatError, match="'byteorder' is larger than 1024 bytes"):
        load(old)


class Bomb:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.target,))


@pytest.mark.parametrize("protocol", [2, 4])
def test_pickled_objects_are_refused(protocol: int, tmp_path: Path) -> None:
    fuse, path = tmp_path / "fuse", tmp_path / "model.pt"
    torch.save({"a": Bomb(fuse)}, path, pickle_protocol=protocol)
    with pytest.raises(FileFormatError, match=r"model.pt' holds .*never loaded"):
        load(path)
    assert not fuse.exists()


def test_plain_pickles_and_tar_archives_are_refused(tmp_path: Path) -> None:
    fuse, path = tmp_path / "fuse", tmp_path / "model.pt"
    path.write_bytes(pickle.dumps(Bomb(fuse)))
    with pytest.raises(FileFormatError, match="not a readable model file"):
        load(path)
    with tarfile.open(path, "w") as archive:
        pipe = tarfile.TarInfo("storages")
        pipe.type = tarfile.FIFOTYPE
        archive.addfile(pipe)
    with pytest.raises(FileFormatError, match="not a readable model file"):
        load(path)
    assert not fuse.exists()


def shared_lists() -> list[Any]:
    value: list[Any] = []
    for _ in range(60):
        value = [value, value]
    return value


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.update(format="other"), r"\('other', 1\); expected a 'biril-nm model'"),
        (lambda r: r.update(version=shared_lists()), "more than [0-9]+ values"),
        (lambda r: r.update(state_dict=[1]), "is not a complete file"),
        (lambda r: r["state_dict"].update(x=1), r"\['weights/x'\] are not tensors"),
        (
            lambda r: r["state_dict"].update(x=torch.zeros(2).to_sparse()),
            "which is not a plain tensor",
        ),
        (lambda r: r["state_dict"].update(x=torch.zeros(1).expand(9**5, 9**5)), "claims 139"),
    ],
)
def test_inconsistent_records(
    net: Any, tmp_path: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    record = old_record(net)
    change(record)
    torch.save(record, tmp_path / "model.pt")
    with pytest.raises(FileFormatError, match=message):
        load(tmp_path / "model.pt")


def test_any_damage_is_a_file_format_error(old: Path) -> None:
    good = old.read_bytes()
    for keep in (0, 30, 900, len(good) - 5):
        old.write_bytes(good[:keep])
        with pytest.raises(FileFormatError, match="model.pt"):
            load(old)
