"""What fit asks of batches and of the numbers of a network, before or where training would fail."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import snntorch as snn
import torch
from torch import nn

import biril_nm as bnm
from biril_nm.coding import Coding
from biril_nm.data import make_loaders
from biril_nm.errors import ConfigError, WorkerError
from biril_nm.models import OwnNet, build_model
from biril_nm.training import TrainConfig, evaluate
from tests.support.digits import DIGITS, FLAT

CODING = Coding("direct", 4)


def normed() -> nn.Module:
    torch.manual_seed(0)
    neuron = {"beta": 0.9, "init_hidden": True}
    return nn.Sequential(nn.Linear(16, 2), nn.BatchNorm1d(2), snn.Leaky(**neuron))


@pytest.mark.parametrize(("engine", "n_steps"), [("auto", 1), ("loop", 4)])
def test_one_sample_is_too_little_for_batch_norm(engine: str, n_steps: int) -> None:
    x = torch.rand(9, 16)
    batches = [(x[:4], torch.arange(4) % 2), (x[:1], torch.ones(1))]
    settings = TrainConfig(schedule="B", epochs=1, device="cpu", engine=engine)
    with pytest.raises(ConfigError, match=r"batch 2 has 1 sample, .* BatchNorm .*drop_last=True"):
        bnm.fit(normed(), (batches, None), settings, coding=Coding("direct", n_steps))


def test_other_types_of_numbers_are_refused() -> None:
    x = torch.rand(4, 16)
    batches, settings = [(x, torch.arange(4) % 2)], TrainConfig(schedule="B", device="cpu")
    for net, name in ((normed().double(), "float64"), (normed().half(), "float16")):
        with pytest.raises(ConfigError, match=rf"type torch.{name}; expected torch.float32. Call"):
            bnm.fit(net, (batches, None), settings, coding=CODING)
        with pytest.raises(ConfigError, match=f"Sequential has parameters of type torch.{name}"):
            evaluate(OwnNet(net, CODING), batches)


def test_batches_that_can_be_read_once_are_enough_for_one_epoch() -> None:
    data = [(torch.rand(4, 16), torch.arange(4) % 2)]

    def made() -> Iterator[Any]:
        return iter(data)

    settings = TrainConfig(schedule="B", epochs=2, device="cpu")
    once = TrainConfig(schedule="B", epochs=1, device="cpu")
    for loaders, what in (((made(), None), "training"), ((data, made()), "test")):
        with pytest.raises(
            ConfigError, match=f"the {what} loader is a list_iterator, .* Give a list"
        ):
            bnm.fit(normed(), loaders, settings, coding=CODING)
    assert bnm.fit(normed(), (made(), made()), once, coding=CODING).test_accuracy is not None


class Ending:
    """Batches of which one is read before the process that reads them ends, as torch says it."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __iter__(self) -> Iterator[Any]:
        yield torch.rand(4, 16), torch.arange(4) % 2
        raise self.error


def test_the_end_of_a_process_that_reads_samples_is_named() -> None:
    ended = RuntimeError("DataLoader worker (pid 9) is killed by signal: Killed. ")
    other = RuntimeError("Caught RuntimeError in DataLoader worker process 0.")
    settings = TrainConfig(schedule="B", epochs=1, device="cpu")
    with pytest.raises(WorkerError, match=r"ended: .*Killed.*; expected .* fewer workers .*resume"):
        bnm.fit(normed(), (Ending(ended), None), settings, coding=CODING)
    with pytest.raises(RuntimeError, match=r"^Caught RuntimeError"):
        bnm.fit(normed(), (Ending(other), None), settings, coding=CODING)


def test_a_run_goes_on_with_the_samples_that_it_began_with(tmp_path):
    config = bnm.TrainConfig(schedule="B", epochs=1, device="cpu", tensorboard=False, curves=False)
    loaders = [make_loaders(DIGITS.head(n, 16), 16) for n in (32, 33)]
    bnm.fit(build_model("mlp", FLAT), loaders[0], config, out_dir=tmp_path)
    with pytest.raises(
        ConfigError, match="a run on 32 training samples, and there are 33; expected"
    ):
        bnm.fit(build_model("mlp", FLAT), loaders[1], config, out_dir=tmp_path, resume=True)
    bnm.fit(build_model("mlp", FLAT), loaders[0], config, out_dir=tmp_path, resume=True)
    with pytest.raises(
        ConfigError, match="resume is True and out_dir is None; expected the folder"
    ):
        bnm.fit(build_model("mlp", FLAT), loaders[0], config, resume=True)
