"""The scripts for GPUs run, on CPUs; on a GPU too where there is one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import biril_nm as bnm

ROOT = Path(__file__).parents[2]
GPU = pytest.param(
    "cuda",
    marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")],
)


def train(out, *words, dataset="digits"):
    command = [sys.executable, "examples/gpu/train.py", dataset, "--quick", "--out", out, *words]
    return subprocess.run(
        [str(word) for word in command], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
@pytest.mark.parametrize("device", ["cpu", GPU])
def test_one_device_trains_and_resumes(device, tmp_path):
    done = train(tmp_path / "run", "--device", device)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("epoch") == 2 and "saved" in done.stdout
    assert bnm.load(tmp_path / "run" / "model.pt").n_classes == 10
    again = train(tmp_path / "run", "--device", device)
    assert again.returncode == 0 and "epoch" not in again.stdout


def test_an_unknown_data_set_is_named(tmp_path):
    unknown = train(tmp_path / "run", dataset="no_such")
    assert unknown.returncode == 1 and unknown.stderr.startswith("error: data set 'no_such'")
    assert "Traceback" not in unknown.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_two_devices_report_once(tmp_path):
    pytest.importorskip("lightning_fabric")
    done = train(tmp_path / "run", "--device", "cpu", "--devices", "2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("epoch 1") == 1 and done.stdout.count("saved") == 1


def test_the_batch_script_is_a_script():
    text = (ROOT / "examples" / "gpu" / "slurm.sh").read_text()
    done = subprocess.run(["bash", "-n"], input=text, text=True, check=False)
    assert done.returncode == 0 and "#SBATCH --ntasks-per-node" in text
