"""Two processes train as one does."""

from __future__ import annotations

import json

import pytest
import torch

from biril_nm.errors import ConfigError, MissingDependencyError, WorkerError
from biril_nm.models.files import read_parts
from biril_nm.training import TrainConfig, world
from biril_nm.training.checkpoint import CHECKPOINT
from tests.support import two_processes

pytest.importorskip("lightning_fabric")

ONE_BATCH = {"samples": 33, "batch": 33, "epochs": 1}


def differences(one, other):
    """Largest difference of each parameter and running statistic."""
    pairs = {k: (v, other.state_dict()[k]) for k, v in one.state_dict().items() if v.numel()}
    return {k: float((a - b).abs().max()) for k, (a, b) in pairs.items() if a.is_floating_point()}


def gradients(folder):
    """First moments of Adam, which after one batch are a tenth of the gradients."""
    tensors = read_parts(folder / CHECKPOINT, "biril-nm checkpoint", 2)[1]
    return {name: value for name, value in tensors.items() if name.endswith("exp_avg")}


DROPPING = "braincog_mnist"  # with BatchNorm and Dropout


@pytest.mark.parametrize(("schedule", "batch_norm", "model"), [
    pytest.param("B", False, "convnet", marks=pytest.mark.slow),
    pytest.param("S", False, "convnet", marks=pytest.mark.slow),
    pytest.param("H", False, "convnet", marks=pytest.mark.slow),
    pytest.param("H", True, "convnet", marks=pytest.mark.slow),
    ("H", True, DROPPING),
])  # fmt: skip
def test_a_batch_changes_the_network_as_in_one_process(schedule, batch_norm, model, tmp_path):
    settings = {**ONE_BATCH, "schedule": schedule, "batch_norm": batch_norm, "model": model}
    two_processes.train(str(tmp_path / "one"), **settings)
    one = two_processes.bnm.load(tmp_path / "one" / "model.pt")
    two = two_processes.run(tmp_path / "two", devices=2, **settings)
    found = differences(one, two)
    # Adam moves weights whose gradient is 0 up to rounding by +-lr; those behind silent neurons.
    compared = [k for k in found if not batch_norm or "running" in k or "bn" in k]
    assert max(found[k] for k in compared) < 1e-6
    if schedule == "S":
        assert max(found.values()) == 0
    theirs = gradients(tmp_path / "two")
    for name, gradient in gradients(tmp_path / "one").items():
        torch.testing.assert_close(theirs[name], gradient, rtol=1e-4, atol=1e-6)
    records = [
        json.loads((tmp_path / name / "metrics.jsonl").read_text().splitlines()[0])
        for name in ("one", "two")
    ]
    for key in ("loss", "train_accuracy", "test_accuracy"):
        assert records[0][key] == pytest.approx(records[1][key], abs=1e-5)  # sums in another order


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["auto", "eager"])
def test_a_batch_of_fewer_samples_than_processes(engine, tmp_path):
    settings = {**ONE_BATCH, "samples": 1, "schedule": "B", "batch_norm": True, "engine": engine}
    two_processes.train(str(tmp_path / "one"), **settings)
    one = two_processes.bnm.load(tmp_path / "one" / "model.pt")
    found = differences(one, two_processes.run(tmp_path / "two", devices=2, **settings))
    assert max(value for name, value in found.items() if "running" in name) < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("schedule", ["d-rtrl", "brp"])
def test_online_rules_and_projections_learn_as_in_one_process(schedule, tmp_path):
    settings = {**ONE_BATCH, "schedule": schedule, "batch_norm": False, "model": "recurrent"}
    two_processes.train(str(tmp_path / "one"), **settings)
    two_processes.train(str(tmp_path / "other"), **{**settings, "samples": 32})
    one, other = (two_processes.bnm.load(tmp_path / x / "model.pt") for x in ("one", "other"))
    two = two_processes.run(tmp_path / "two", devices=2, **settings)
    assert max(differences(one, two).values()) < 1e-5
    assert max(differences(one, other).values()) > 1e-4


@pytest.mark.slow
def test_a_run_goes_on_in_another_number_of_processes(tmp_path):
    settings = {"samples": 60, "batch": 30, "schedule": "B", "batch_norm": False}
    two_processes.train(str(tmp_path / "whole"), epochs=3, **settings)
    whole = two_processes.bnm.load(tmp_path / "whole" / "model.pt")
    run = tmp_path / "run"

    class Stop(Exception):
        pass

    def stop(record):
        if record["epoch"] == 2:
            raise Stop

    callback = two_processes.bnm.training.Callback()
    callback.on_epoch_end = stop
    data = two_processes.load_data("digits").head(60, 40)
    sizes = {"channels": (4, 8), "hidden": (16,), "batch_norm": False}
    config = two_processes.bnm.ModelConfig(input_shape=data.input_shape, **sizes)
    net = two_processes.bnm.build_model("convnet", config, seed=0)
    how = TrainConfig(schedule="B", epochs=3, device="cpu", tensorboard=False, curves=False)
    with pytest.raises(Stop):
        two_processes.bnm.fit(net, two_processes.make_loaders(data, 30), how, [callback], run)
    found = two_processes.run(run, epochs=3, devices=2, resume=True, **settings)
    assert max(differences(whole, found).values()) < 1e-4


@pytest.mark.slow
def test_processes_of_torchrun_are_taken(tmp_path):
    settings = {**ONE_BATCH, "schedule": "B", "batch_norm": False}
    launcher = ("-m", "torch.distributed.run", "--nproc-per-node", "2")
    found = two_processes.run(tmp_path / "two", launcher, **settings)
    two_processes.train(str(tmp_path / "one"), **settings)
    one = two_processes.bnm.load(tmp_path / "one" / "model.pt")
    assert max(differences(one, found).values()) < 1e-6


def test_more_processes_than_were_started_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(
        ConfigError, match="devices and nodes are 3 and 1, and 4 processes were started"
    ):
        world.make_world("cpu", 3, 1)


@pytest.mark.parametrize(("field", "value"), [("devices", 0), ("nodes", 1 << 20)])
def test_wrong_numbers_of_processes(field, value):
    with pytest.raises(ConfigError, match=f"{field} is {value}; expected an integer from 1"):
        TrainConfig(**{field: value})


def test_without_fabric_the_package_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "lightning_fabric", None)
    with pytest.raises(MissingDependencyError, match=r"biril-nm\[scale\]"):
        world.make_fabric("cpu", 2)


def test_one_process_changes_nothing():
    alone, x = world.ALONE, torch.rand(3, 4, 5)
    assert alone.share((x, x)) == (x, x) and alone.whole(x) is x
    assert alone.total([1.0, 2.0]) == [1.0, 2.0] and alone.agree("x") == "x" and alone.leads


class Wire:
    """A broadcast: the first process fills it, the others read it."""

    def __init__(self, global_rank, sent):
        self.global_rank, self.world_size, self.sent = global_rank, 2, sent

    def broadcast(self, value):
        if self.global_rank:
            return self.sent.pop(0)
        self.sent.append(value)
        return value


def test_all_processes_see_the_batches_that_one_reads():
    sent = []
    first, second = (world.Together(Wire(rank, sent)) for rank in (0, 1))
    assert list(first.batches([1, 2])) == [1, 2]
    assert list(second.batches([8, 9, 10])) == [1, 2]

    def breaks():
        yield 1
        raise ValueError("no more")

    for process in (first, second):
        with pytest.raises(ValueError, match="no more"):
            list(process.batches(breaks()))


class Halves(Wire):
    """A sum of what both processes send: the first waits for nothing, and is asked again."""

    def all_reduce(self, part, reduce_op):
        self.sent.append(part)
        return sum(self.sent)


def test_a_layer_that_one_process_leaves_out_has_a_gradient_of_zero_there():
    sent = []
    nets, processes = (
        [torch.nn.Linear(2, 1) for _ in range(2)],
        [world.Together(Halves(rank, sent)) for rank in (0, 1)],
    )
    nets[0].weight.grad = torch.ones(1, 2)
    for net, process in zip(nets, processes):
        process.share((torch.zeros(3, 4, 2), torch.zeros(4)))
        process.average_gradients(net)
    assert torch.equal(nets[1].weight.grad, torch.full((1, 2), 0.5))
    assert nets[0].bias.grad is nets[1].bias.grad is None


class Scaled(torch.nn.BatchNorm1d):
    def forward(self, x):
        return 0.5 * super().forward(x)


class Holding(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = torch.nn.BatchNorm1d(2)

    def forward(self, x):
        return 0.5 * self.norm(x)


def test_a_norm_with_a_forward_of_its_own_is_refused():
    process, changed = world.Together(Wire(0, [])), torch.nn.BatchNorm1d(2)
    changed.forward = lambda x: x
    for norm in (Scaled(2), changed):
        name, net = type(norm).__name__, torch.nn.Sequential(torch.nn.Linear(2, 2), norm)
        message = f"'1' is a {name}, .* forward of its own, .*; expected one of torch.nn. Hold one"
        with pytest.raises(ConfigError, match=message), process.shared_statistics(net):
            pass
    with process.shared_statistics(Holding()):
        pass


class Cut(Wire):
    """A broadcast whose other end is gone, or that fails for another reason."""

    def broadcast(self, value):
        raise RuntimeError(value)


def test_a_process_that_is_gone_is_named_and_other_errors_stay():
    process = world.Together(Cut(0, []))
    with pytest.raises(WorkerError, match="process 0 lost those .*; expected 2 processes"):
        process.agree("[pair.cc:534] Connection closed by peer [127.0.0.1]:4508")
    with pytest.raises(RuntimeError, match="^odd shapes$"):
        process.agree("odd shapes")


def test_tasks_of_slurm_that_train_alone_are_named(monkeypatch, caplog):
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    assert world.make_world("cpu") is world.ALONE
    assert "srun has started 2 tasks, and each of them trains alone" in caplog.text


@pytest.mark.slow
def test_tasks_of_slurm_train_together(tmp_path):
    settings = {**ONE_BATCH, "schedule": "B", "batch_norm": False}
    two_processes.train(str(tmp_path / "one"), **settings)
    place = {"SLURM_JOB_NAME": "biril", "SLURM_JOB_ID": "14242", "SLURM_NODELIST": "localhost"}
    place |= {"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2", "SLURM_STEP_NUM_TASKS": "2"}
    place |= {"SLURM_NNODES": "1", "SLURM_NODEID": "0", "MASTER_ADDR": "127.0.0.1"}
    tasks = [
        two_processes.start(
            tmp_path / "two",
            {**place, "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)},
            devices=2,
            **settings,
        )
        for rank in (0, 1)
    ]
    said = [task.communicate() for task in tasks]
    assert [task.returncode for task in tasks] == [0, 0], said
    assert [out.count("leads") for out, _ in said] == [1, 0]
    one, two = (two_processes.bnm.load(tmp_path / name / "model.pt") for name in ("one", "two"))
    assert max(differences(one, two).values()) < 1e-6
