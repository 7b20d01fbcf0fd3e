"""Options that would change nothing are refused with the reason, before anything is written."""

from __future__ import annotations

from pathlib import Path

import nir
import numpy as np
import pytest

from biril_nm.errors import ConfigError
from biril_nm.export import get_backend
from tests.support.command_line import biril, refused

GOLDEN = Path(__file__).parents[1] / "golden" / "v0_1_0"
GRAPH, NIR, NET, MODEL = (
    GOLDEN / n for n in ("chain.loihi.npz", "chain.nir", "chain.net", "model.pt")
)
HEAD = "these options would change nothing. Leave them out:"
INTEGERS = "holds integers, which are not lowered again"
AS_IT_IS = "a float network is written as it is, without lowering"
CASES = {
    "round_bias": (("export", MODEL, "--to", "loihi", "--round-bias"),
                   "--round-bias: target 'loihi' keeps biases as they are"),
    "dataset": (("export", MODEL, "--to", "loihi", "--dataset", "digits"),
                "--dataset: target 'loihi' has no samples beside it"),
    "seed": (("export", MODEL, "--to", "nir", "--seed", 3), "--seed: nothing that target 'nir' writes"),
    "netx decision": (("export", GRAPH, "--to", "netx", "--decision", "score"),
                      "--decision: an x.net has no place for it"),
    "reset": (("export", GRAPH, "--to", "lava", "--reset", "zero"), f"--reset: '{GRAPH}' {INTEGERS}"),
    "several": (("export", NET, "--to", "loihi", "--reset", "zero", "--weight-bits", 4),
                f"--reset, --weight-bits: '{NET}' {INTEGERS}"),
    "readout": (("export", GRAPH, "--to", "lava", "--readout", "accumulate", "--split-mixed"),
                f"--readout, --split-mixed: '{GRAPH}' {INTEGERS}"),
    "dt": (("export", GRAPH, "--to", "loihi", "--dt", "1e-3"), f"--dt: '{GRAPH}' {INTEGERS}"),
    "float bits": (("export", MODEL, "--to", "nir", "--weight-bits", 4), f"--weight-bits: {AS_IT_IS}"),
    "float search": (("export", MODEL, "--to", "nir", "--scale-search", "mse"),
                     f"--scale-search: {AS_IT_IS}"),
    "float dt": (("export", NIR, "--to", "nir", "--dt", "1e-3"), f"--dt: {AS_IT_IS}"),
    "truncate": (("export", MODEL, "--to", "loihi", "--truncate"), "--truncate: '"),
    "unroll": (("export", MODEL, "--to", "loihi", "--unroll"), "name them with --plastic"),
    "torch": (("eval", MODEL, "--weight-bits", 4),
              "--weight-bits: engine 'torch' runs the float network as it is; add --backend sim"),
    "eval": (("eval", GRAPH, "--chip", "loihi1"), f"--chip: '{GRAPH}' {INTEGERS}"),
    "parity": (("parity", GRAPH, "--dt", 1), f"--dt: '{GRAPH}' {INTEGERS}"),
    "rule": (("train", "--schedule", "B", "--rule", "pair"),
             "--rule: schedule 'B' has no phase S or H"),
    "report": (("report", GRAPH, "--if-integration", "per_step"), f"--if-integration: '{GRAPH}' "),
}  # fmt: skip


@pytest.mark.parametrize(("call", "reason"), CASES.values(), ids=CASES)
def test_an_option_without_an_effect_is_refused(call, reason, tmp_path):
    out = ("-o", tmp_path / "out.nir") if "nir" in call else ("-o", tmp_path / "out.loihi.npz")
    if "netx" in call or "lava" in call:
        out = ("-o", tmp_path / ("out.net" if "netx" in call else "out"))
    if call[0] == "report":
        out = ("-o", tmp_path / "report.html")
    refused(biril(*call, *(out if call[0] in ("export", "report") else ())), HEAD, reason)
    assert not list(tmp_path.iterdir())


def test_all_of_them_are_listed_at_once(tmp_path):
    call = ("export", GRAPH, "--to", "loihi", "--reset", "zero", "--readout", "accumulate")
    done = biril(*call, "--round-bias", "--truncate", "-o", tmp_path / "y.loihi.npz")
    refused(done, "--reset", "--readout", "--round-bias", "--truncate")


def test_options_with_an_effect_are_taken(tmp_path):
    calls = [
        ("export", GRAPH, "--to", "nir", "--dt", "1e-3", "-o", tmp_path / "a.nir"),
        ("export", GRAPH, "--to", "loihi", "--chip", "loihi1", "-o", tmp_path / "b.loihi.npz"),
        ("export", MODEL, "--to", "nir", "--dt", "1e-3", "--decision", "count",
         "-o", tmp_path / "c.nir"),
        ("export", MODEL, "--to", "loihi", "--weight-bits", 4, "-o", tmp_path / "d.loihi.npz"),
        ("eval", MODEL, GRAPH, "--help"),
    ]  # fmt: skip
    for call in calls:
        done = biril(*call)
        assert done.returncode == 0, done.stderr


def test_the_target_nir_refuses_a_step_width_that_it_would_not_write(tmp_path):
    float_network = nir.NIRGraph.from_list(nir.Linear(np.ones((2, 3))))
    float_network.metadata = {"dt": 1e-4}
    backend = get_backend("nir")
    backend.write(float_network, tmp_path / "same.nir", dt_s=1e-4)
    with pytest.raises(ConfigError, match=r"dt_s is 0\.001; .* with dt 0\.0001\. Leave it out"):
        backend.write(float_network, tmp_path / "other.nir", dt_s=1e-3)
    assert [path.name for path in tmp_path.iterdir()] == ["same.nir"]
