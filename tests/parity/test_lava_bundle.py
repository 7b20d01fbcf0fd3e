"""The exported bundle: runs with lava-nc and numpy alone and gives the spikes of the simulator."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from biril_nm.errors import OutputExistsError, RangeError
from biril_nm.export import get_backend
from biril_nm.export.lava.bundle import run_lava as runner
from biril_nm.hardware_sim import simulate
from biril_nm.recording import Recording
from biril_nm.recording.readout import predict
from tests.support.lava_cases import make

BLOCKED = ("torch", "biril_nm", "nir", "nirtorch", "snntorch", "numba")
BLOCKER = f"""
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {BLOCKED!r}:
            raise ImportError("blocked for the test: " + name)

sys.meta_path.insert(0, Blocked())
"""


@pytest.fixture()
def bundle(tmp_path: Path) -> Path:
    graph, spikes = make("conv_net_batch_16")
    return Path(get_backend("lava").write(graph, tmp_path / "bundle", spikes=spikes))  # type: ignore[call-arg]


def run_bundle(folder: Path, *args: Any) -> subprocess.CompletedProcess[str]:
    """``python run_lava.py`` from elsewhere, where importing torch or biril_nm is an error."""
    hook = folder.parent / "hook"
    hook.mkdir(exist_ok=True)
    (hook / "sitecustomize.py").write_text(BLOCKER)
    return subprocess.run(
        [sys.executable, str(folder / "run_lava.py"), *map(str, args)],
        env={**os.environ, "PYTHONPATH": str(hook)},
        cwd=hook,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.fixture()
def refuse(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Any:
    """``run_lava.py`` of the bundle, whose bytes are those of the package, in this process."""

    def run(*args: Any) -> subprocess.CompletedProcess[str]:
        monkeypatch.setattr(runner, "HERE", bundle)
        monkeypatch.setattr(sys, "argv", ["run_lava.py", *map(str, args)])
        try:
            code = runner.main()
        except SystemExit as stop:
            code = stop.code  # type: ignore[assignment]
        return subprocess.CompletedProcess(args, code, *capsys.readouterr())

    return run


@pytest.mark.lava
def test_bundle_gives_the_traces_and_predictions_of_the_simulator(bundle: Path) -> None:
    graph, spikes = make("conv_net_batch_16")
    out = bundle.parent / "trace.npz"
    done = run_bundle(bundle, "--out", out, "--record", "s,u,v", "--samples", 5)
    assert (done.returncode, done.stderr) == (0, "")
    sim = simulate(graph, spikes[:, :5], record=("s", "u", "v"))
    lava = Recording.load(out)
    for name in graph.neurons:
        for key in ("s", "u", "v"):
            assert_array_equal(getattr(lava[name], key), getattr(sim[name], key))
    assert lava.n_spikes == sim.n_spikes and all(sim.n_spikes.values())
    wanted = []
    for i, best in enumerate(predict(graph, sim)):
        seen = f"{sim['lif3'].s[:, i, best].sum()} spikes, v {sim.v_last['lif3'][i, best]}"
        wanted.append(f"sample {i}: lif3 predicts {best} (count: {seen})")
    wanted += [f"spikes {name}: {count}" for name, count in sim.n_spikes.items()]
    assert done.stdout.splitlines() == wanted


@pytest.mark.lava
def test_the_hook_of_these_tests_does_block(bundle: Path) -> None:
    (bundle / "run_lava.py").write_text("import torch\n")
    done = run_bundle(bundle)
    assert done.returncode == 1 and "blocked for the test: torch" in done.stderr


@pytest.mark.lava
@pytest.mark.parametrize(
    "case", [pytest.param("two_inputs_two_outputs", marks=pytest.mark.slow), "recurrent_loops"]
)
def test_several_inputs_outputs_loops_and_sparse_weights(case: str, tmp_path: Path) -> None:
    graph, spikes = make(case)
    folder = get_backend("lava").write(graph, tmp_path / case, spikes=spikes)  # type: ignore[call-arg]
    out = tmp_path / f"{case}.npz"
    done = run_bundle(folder, "--out", out)
    assert (done.returncode, done.stderr) == (0, "")
    sim = simulate(graph, spikes)
    for name in graph.neurons:
        assert_array_equal(Recording.load(out)[name].s, sim[name].s)
    if case == "recurrent_loops":
        assert done.stdout.startswith("sample 0: lif3 predicts ")


@pytest.mark.lava
@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.zeros((2, 1, 2, 7, 5), int)}, "has no array 'spikes', only x"),
        ({"spikes": np.zeros((2, 1, 7, 5), int)}, "has shape (2, 1, 7, 5); expected (n_steps,"),
        ({"spikes": np.full((2, 1, 2, 7, 5), 2)}, "holds 2 to 2; expected 0 to 1"),
        ({"spikes": np.full((2, 1, 2, 7, 5), -1)}, "holds -1 to -1; expected 0 to 1"),
        ({"spikes": np.zeros((2, 1, 2, 7, 5))}, "has dtype float64; expected integers"),
        (
            {"spikes": np.array([{"a": 1}], dtype=object)},
            "not a readable .npz archive of plain arrays",
        ),
    ],
)
def test_wrong_spikes_are_refused(
    bundle: Path, refuse: Any, arrays: dict[str, Any], message: str
) -> None:
    path = bundle.parent / "wrong.npz"
    np.savez(path, **arrays)
    done = refuse("--spikes", path)
    assert done.returncode == 1 and message in done.stderr and "Traceback" not in done.stderr
    assert str(path) in done.stderr


@pytest.mark.lava
def test_wrong_files_and_options_are_refused(bundle: Path, refuse: Any) -> None:
    junk = bundle.parent / "junk.npz"
    junk.write_bytes(b"PK\x03\x04 no archive")
    out = bundle.parent / "there.npz"
    out.write_bytes(b"precious")
    for args, code, message in (
        (("--spikes", junk), 1, "is not a readable .npz archive"),
        (("--spikes", bundle / "missing.npz"), 1, "does not exist. Pass --spikes X.npz"),
        (("--out", out), 1, "exists already. Pass --force"),
        (("--record", "w"), 1, "expected s, u, v"),
        (("--samples", "0"), 2, "0 is not above 0"),
        (("--nonsense",), 2, "unrecognized arguments"),
    ):
        done = refuse(*args)
        assert (done.returncode, done.stdout) == (code, ""), done
        assert message in done.stderr and "Traceback" not in done.stderr
    assert out.read_bytes() == b"precious"


def test_missing_lava_is_reported_with_the_way_out(bundle: Path) -> None:
    hook = bundle.parent / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(
        BLOCKER.replace(repr(BLOCKED), repr(("lava",))).replace(
            "ImportError", "ModuleNotFoundError"
        )
    )
    done = subprocess.run(
        [sys.executable, str(bundle / "run_lava.py")],
        env={**os.environ, "PYTHONPATH": str(hook)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    way_out = (
        'pip install "lava-nc==0.10.0" "numpy<2"'
        if sys.version_info[:2] == (3, 10)
        else 'pip install --no-deps --ignore-requires-python "lava-nc==0.10.0"'
    )
    assert way_out in done.stderr


def test_contents_of_the_folder(bundle: Path) -> None:
    names = {path.name for path in bundle.iterdir()}
    scripts = {"run_lava.py", "lava_files.py", "lava_network.py", "lava_compat.py", "lava_parts.py"}
    scripts |= {"lava_compartments.py", "lava_learning.py", "lava_hardware.py"}
    assert names == {
        *scripts,
        "clearing.py",
        "decision.py",
        "network.npz",
        "input.npz",
        "README.txt",
    }
    folder = Path(runner.__file__).parent
    for name in scripts:
        assert (bundle / name).read_bytes() == (folder / name).read_bytes()
    with np.load(bundle / "network.npz", allow_pickle=False) as archive:
        text = json.loads(archive["network"].tobytes())
        assert all(archive[key].dtype.kind in "iu" for key in archive.files)
    assert [node["name"] for node in text["neurons"]] == ["lif1", "lif2", "lif3"]
    readme = (bundle / "README.txt").read_text()
    assert "python run_lava.py\n" in readme and "(n_steps, batch, 2, 7, 5), 0 or 1" in readme


def test_nothing_is_overwritten_or_half_written(bundle: Path) -> None:
    graph, _ = make("dense_if_without_bias")
    before = {path.name: path.read_bytes() for path in bundle.iterdir()}
    write = get_backend("lava").write
    with pytest.raises(OutputExistsError, match=r"exists already. Pass --force"):
        write(graph, bundle)
    wrong = graph.with_node("lif1", vth=1 << 17)
    with pytest.raises(RangeError, match=r"'lif1': vth is 131072"):
        write(wrong, bundle, force=True)
    assert {path.name: path.read_bytes() for path in bundle.iterdir()} == before
    write(graph, bundle, force=True)
    assert not (bundle / "input.npz").exists()
    assert "run_lava.py --spikes X.npz" in (bundle / "README.txt").read_text()
    assert {path.name for path in bundle.parent.iterdir()} == {"bundle"}
    photos = bundle.parent / "photos"
    photos.mkdir()
    (photos / "a.jpg").touch()
    with pytest.raises(OutputExistsError, match=r"is not a folder with run_lava.py"):
        write(graph, photos, force=True)
    assert (photos / "a.jpg").exists()


def test_an_archive_with_a_member_that_is_no_array_is_refused(bundle: Path, tmp_path: Path) -> None:
    runner.load_network(bundle / "network.npz")
    path = tmp_path / "network.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("network", b"{}")
    with pytest.raises(runner.InputError, match=r"\['network'\] are not arrays"):
        runner.load_network(path)
