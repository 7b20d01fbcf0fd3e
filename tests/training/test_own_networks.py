"""fit on own modules of snnTorch neurons: what their forward may be, phases, files, resume, refusals."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import snntorch as snn
import torch
from torch import Tensor, nn

import biril_nm as bnm
from biril_nm.coding import Coding
from biril_nm.errors import ConfigError, FileFormatError, UnsupportedNodeError
from biril_nm.export import to_nir
from biril_nm.models import OwnNet, build_model, load_weights, save_weights
from biril_nm.training import TrainConfig, evaluate, precision

CODING = Coding("direct", 4)
QUIET = {"tensorboard": False, "curves": False}


class Step(nn.Module):
    """One step: a convolution with a residual sum behind it, spikes and membrane of the readout."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.lif1 = nn.Conv2d(1, 3, 3, padding=1), self.leaky()
        self.conv2, self.lif2 = nn.Conv2d(3, 3, 3, padding=1), self.leaky()
        self.fc, self.out = nn.Linear(3 * 16, 2), snn.Leaky(beta=0.9)

    def leaky(self) -> snn.Leaky:
        return snn.Leaky(beta=0.8, init_hidden=True)

    def step(self, x: Tensor) -> Any:
        y = self.lif1(self.conv1(x))
        y = self.lif2(self.conv2(y) + y)
        return self.out(self.fc(y.flatten(1)))

    def forward(self, x: Tensor) -> Any:
        return self.step(x)


class Steps(Step):
    """All steps in a loop of its own."""

    def forward(self, x: Tensor) -> Any:
        found = [self.step(step) for step in x]
        return tuple(torch.stack(series) for series in zip(*found))


class Image(Step):
    """A picture, shown four times."""

    def forward(self, x: Tensor) -> Any:
        return torch.stack([self.step(x)[0] for _ in range(4)])


class Stateful(Step):
    """Keeps a value of its own, so that one step cannot be traced."""

    held: Any = None

    def forward(self, x: Tensor) -> Any:
        self.held = x if self.held is None else x + 0.5 * self.held
        return self.step(self.held)


class Averaging(Step):
    """Keeps statistics of training in attributes that are no buffers, and draws from NumPy."""

    def __init__(self) -> None:
        super().__init__()
        self.mean, self.n_steps = torch.zeros(48), 0

    def forward(self, x: Tensor) -> Any:
        y = self.lif1(self.conv1(x))
        if self.training:
            self.n_steps += 1
            self.mean = 0.9 * self.mean + 0.1 * y.detach().flatten(1).mean(0)
            y = y * float(np.random.uniform(0.9, 1.1))
        y = self.lif2(self.conv2(y) + y).flatten(1) - self.mean
        return self.out(self.fc(y) * (1 + 0.01 * self.n_steps))


KINDS = {Step: "step", Steps: "steps", Image: "image", Stateful: "step"}


def data() -> list[tuple[np.ndarray, np.ndarray]]:
    """Two classes: bright above or bright below."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, (3, 16))
    values = random.random((3, 16, 1, 4, 4)) * 0.4
    values[labels == 0, :, :2] += 0.6
    values[labels == 1, :, 2:] += 0.6
    return list(zip(values, labels))


def made(kind: type[Step], seed: int = 0) -> Step:
    torch.manual_seed(seed)
    return kind()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_kind_of_forward_learns_the_same(kind: type[Step]) -> None:
    net, batches = made(kind), data()
    settings = TrainConfig(schedule="B", epochs=4, lr=0.02, device="cpu")
    history = bnm.fit(net, (batches, batches), settings, coding=CODING)
    assert history.records[-1]["loss"] < 0.8 * history.records[0]["loss"]
    assert history.test_accuracy is not None
    assert history.test_accuracy > 0.8
    rates = history.records[-1]["firing_rates"]
    assert set(rates) == {"lif1", "lif2", "out"}
    assert all(rate > 0 for rate in rates.values())
    wrapped = OwnNet(net, CODING)
    assert evaluate(wrapped, batches).accuracy == history.test_accuracy
    assert (wrapped.takes, wrapped.n_classes) == (KINDS[kind], 2)
    if kind is not Stateful:
        plain = made(Step)
        bnm.fit(plain, (batches, None), settings, coding=CODING)
        for name, value in plain.state_dict().items():
            torch.testing.assert_close(net.state_dict()[name], value, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_networks_learn_where_gradients_are_off_around_them(mode: Any) -> None:
    nets = [made(Step), made(Step)]
    settings = TrainConfig(schedule="B", epochs=1, device="cpu")
    bnm.fit(nets[0], (data(), None), settings, coding=CODING)
    with mode():
        bnm.fit(nets[1], (data(), None), settings, coding=CODING)
    assert torch.equal(nets[0].fc.weight, nets[1].fc.weight)


def test_local_rules_change_own_layers() -> None:
    net = made(Step)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    bnm.fit(net, (data(), None), TrainConfig(schedule="S", epochs=1, device="cpu"), coding=CODING)
    changed = [n for n, p in net.named_parameters() if not torch.equal(p.detach(), before[n])]
    assert changed == ["conv2.weight"]
    bnm.fit(net, (data(), None), TrainConfig(schedule="H", epochs=1, device="cpu"), coding=CODING)
    assert not torch.equal(net.fc.weight.detach(), before["fc.weight"])


class Interrupted:
    """Batches that end a run in its second epoch, once."""

    def __init__(self) -> None:
        self.calls = 0

    def __len__(self) -> int:
        return len(data())

    def __iter__(self) -> Iterator[Any]:
        self.calls += 1
        if self.calls == 2:
            raise KeyboardInterrupt
        return iter(data())


@pytest.mark.parametrize("kind", [Step, Stateful, Averaging], ids=lambda kind: kind.__name__)
def test_resumed_run_ends_in_the_same_weights(kind: type[Step], tmp_path: Path) -> None:
    settings = TrainConfig(schedule="BH" if kind is Step else "B", epochs=3, device="cpu", **QUIET)  # type: ignore[arg-type]
    whole, broken = made(kind), made(kind)
    bnm.fit(whole, (data(), None), settings, coding=CODING, out_dir=tmp_path / "whole")
    loader = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        bnm.fit(broken, (loader, None), settings, coding=CODING, out_dir=tmp_path / "broken")
    again = made(kind, seed=5)
    folder = tmp_path / "broken"
    bnm.fit(again, (loader, None), settings, coding=CODING, out_dir=folder, resume=True)
    for name, value in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)
    assert sorted(p.name for p in folder.glob("*.pt")) == ["checkpoint.pt", "weights.pt"]
    loaded = made(kind, seed=7)
    load_weights(loaded, folder / "weights.pt")
    assert torch.equal(loaded.fc.weight, whole.fc.weight)


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    settings = TrainConfig(schedule="B", epochs=2, device="cpu", **QUIET)  # type: ignore[arg-type]
    bnm.fit(made(Step), (data(), None), settings, coding=CODING, out_dir=tmp_path / "own")
    with pytest.raises(ConfigError, match="model: .*'Step'.* before, .*'Steps'.* now"):
        bnm.fit(
            made(Steps),
            (data(), None),
            settings,
            coding=CODING,
            out_dir=tmp_path / "own",
            resume=True,
        )
    config = bnm.ModelConfig(input_shape=(1, 4, 4), n_classes=2, hidden=(5,), coding=CODING)
    with pytest.raises(ConfigError, match="before, mlp, ModelConfig"):
        bnm.fit(
            build_model("mlp", config),
            (data(), None),
            settings,
            out_dir=tmp_path / "own",
            resume=True,
        )


def test_weights_of_another_module_are_refused(tmp_path: Path) -> None:
    save_weights(nn.Linear(2, 3), tmp_path / "w.pt")
    with pytest.raises(FileFormatError, match="weights do not belong to its model; missing"):
        load_weights(made(Step), tmp_path / "w.pt")
    with pytest.raises(
        FileFormatError, match=r"weight is torch.float32 \(3, 2\); expected \(2, 2\)"
    ):
        load_weights(nn.Linear(2, 2), tmp_path / "w.pt")


class TimeFirst(nn.Module):
    """Loops over the first axis: neurons would leak from sample to sample if that were the batch."""

    def __init__(self, n_steps: int | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc, self.lif, self.n_steps = nn.Linear(16, 2), snn.Leaky(beta=0.9), n_steps

    def forward(self, x: Tensor) -> Any:
        mem, found = self.lif.init_leaky(), []
        for step in range(self.n_steps or len(x)):
            spikes, mem = self.lif(self.fc(x[step].flatten(1)), mem)
            found.append((spikes, mem))
        return tuple(torch.stack(series) for series in zip(*found))


class Flat(TimeFirst):
    """The same on values without a shape, which takes a batch for steps without complaint."""

    def forward(self, x: Tensor) -> Any:
        mem, found = self.lif.init_leaky(), []
        for step in x:
            spikes, mem = self.lif(self.fc(step), mem)
            found.append((spikes, mem))
        return tuple(torch.stack(series) for series in zip(*found))


class Shown(TimeFirst):
    """A picture, shown as often as it was made for."""

    def forward(self, x: Tensor) -> Any:
        return super().forward(x.expand(self.n_steps, *x.shape))


class Once(TimeFirst):
    """One step, whose state is an argument."""

    def forward(self, x: Tensor, mem: Any) -> Any:
        return self.lif(self.fc(x.flatten(1)), mem)


@pytest.mark.parametrize("batch", [1, 2, 5])
@pytest.mark.parametrize(
    ("made", "shape", "takes"),
    [
        (TimeFirst, (1, 4, 4), "steps"),
        (lambda: TimeFirst(1), (1, 4, 4), "steps"),
        (Flat, (16,), "steps"),
        (lambda: Shown(1), (1, 4, 4), "image"),
        (Once, (1, 4, 4), "step"),
    ],
)
def test_one_step_is_enough_to_see_what_a_forward_takes(
    made: Any, shape: tuple[int, ...], takes: str, batch: int
) -> None:
    x = torch.rand(1, batch, *shape, generator=torch.Generator().manual_seed(0)) * 4
    net = OwnNet(made(), Coding("spikes", 1))
    with torch.no_grad():
        membrane = net(x).membrane
        alone = torch.cat([net(x[:, i : i + 1]).membrane for i in range(batch)])
    assert net.takes == takes
    torch.testing.assert_close(membrane, alone)
    expected = OwnNet(net.module, net.coding, takes)
    torch.testing.assert_close(expected(x).membrane, membrane)


def test_what_a_forward_takes_can_be_said() -> None:
    batches = [(values[:, 0], labels) for values, labels in data()]
    settings, coding = TrainConfig(schedule="B", epochs=1, device="cpu"), Coding("direct", 3)
    with pytest.raises(
        ConfigError, match=r"returns shape .* give OwnNet\(net, coding, takes='steps'"
    ):
        bnm.fit(Shown(5), (batches, None), settings, coding=coding)
    with pytest.raises(ConfigError, match=r"failed on input of shape \(3, 2, .* takes='steps' or"):
        bnm.fit(
            nn.Sequential(nn.Linear(3, 2), snn.Leaky(beta=0.9, init_hidden=True)),
            (batches, None),
            settings,
            coding=coding,
        )
    with pytest.raises(UnsupportedNodeError, match=r"in NIR:\n  - forward takes the input apart"):
        to_nir(TimeFirst(), torch.rand(1, 2, 1, 4, 4))


@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_lazy_layers_are_refused_as_they_are() -> None:
    neuron = {"beta": 0.9, "init_hidden": True}
    net = nn.Sequential(nn.Flatten(), nn.LazyLinear(2), snn.Leaky(**neuron))
    settings = TrainConfig(schedule="B", epochs=1, device="cpu")
    with pytest.raises(
        ConfigError, match=r"'1.weight' has no values yet \(lazy\).* Run the network once"
    ):
        bnm.fit(net, (data(), None), settings, coding=CODING)
    net(torch.zeros(2, 1, 4, 4))
    bnm.fit(net, (data(), None), settings, coding=CODING)
    assert net[1].weight.shape == (2, 16)


def test_refusals() -> None:
    batches = data()
    settings = TrainConfig(schedule="S", epochs=1, device="cpu")
    for kind in (Steps, Stateful):
        with pytest.raises(
            ConfigError, match=f"between the neurons of {kind.__name__} are not known"
        ):
            bnm.fit(made(kind), (batches, None), settings, coding=CODING)
    with pytest.raises(ConfigError, match="Linear holds no neurons of snnTorch"):
        bnm.fit(nn.Linear(2, 2), (batches, None), settings)
    with pytest.raises(ConfigError, match="Leaky has no parameters that learn"):
        bnm.fit(snn.Leaky(beta=0.5), (batches, None), settings)
    with pytest.raises(ConfigError, match="takes is 'all'; expected one of step, steps, samples"):
        OwnNet(made(Step), CODING, takes="all")
    net = build_model("mlp")
    with pytest.raises(ConfigError, match="the network has .* Leave coding out"):
        bnm.fit(net, (batches, None), settings, coding=Coding("rate", 3))
    flat = nn.Sequential(nn.Conv2d(1, 2, 3), snn.Leaky(beta=0.5, init_hidden=True))
    with pytest.raises(
        ConfigError, match=r"Sequential returns shape \(2, 2, 2, 2\) for .*\(batch, n_classes\)"
    ):
        bnm.fit(flat, (batches, None), TrainConfig(schedule="B", device="cpu"), coding=CODING)
    with pytest.raises(ConfigError, match="labels are 6 to 7; expected 0 to 1"):
        wrong = [(values, labels + 6) for values, labels in batches]
        bnm.fit(made(Step), (wrong, None), TrainConfig(schedule="B", device="cpu"), coding=CODING)


def test_engines_train_alike_and_low_precision_learns() -> None:
    batches, found = data(), {}
    for engine, numbers in (
        ("auto", "float32"),
        ("loop", "float32"),
        ("eager", "float32"),
        ("auto", "bfloat16"),
    ):
        net = made(Step)
        settings = TrainConfig(
            schedule="B", epochs=3, lr=0.02, device="cpu", engine=engine, precision=numbers
        )
        history = bnm.fit(net, (batches, None), settings, coding=CODING)
        found[engine, numbers] = net.fc.weight.detach().clone(), history.records[-1]["loss"]
    weight, loss = found["auto", "float32"]
    for engine in ("loop", "eager"):
        torch.testing.assert_close(found[engine, "float32"][0], weight, rtol=1e-3, atol=1e-4)
    low, low_loss = found["auto", "bfloat16"]
    assert low.dtype == torch.float32
    assert not torch.equal(low, weight)
    assert abs(low_loss - loss) < 0.1


def test_auto_precision_is_what_the_device_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpu, info = torch.device("cpu"), tmp_path / "cpuinfo"
    monkeypatch.setattr(precision, "INFO", info)
    assert precision.choose_precision("auto", cpu) == "float32"
    for flags, expected in (("fma avx2", "float32"), ("avx2 avx512_bf16", "bfloat16")):
        info.write_text(f"flags : {flags}\n")
        assert precision.choose_precision("auto", cpu) == expected
        assert precision.choose_precision("float32", cpu) == "float32"
    with pytest.raises(
        ConfigError, match="precision 'half' is unknown; expected one of auto, float32"
    ):
        TrainConfig(precision="half")
    with pytest.raises(ConfigError, match="engine 'fast' is unknown; expected one of auto, numba"):
        TrainConfig(engine="fast")


def test_the_page_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    page = Path(__file__).parents[2] / "docs" / "training_fast.md"
    code = page.read_text("utf-8").split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(code.replace("epochs=2", "epochs=1"), str(page), "exec"), names)
    assert isinstance(names["net"], nn.Module)


def test_an_unknown_population_cannot_be_recorded() -> None:
    layers = [nn.Linear(4, 3), snn.Leaky(beta=0.9, init_hidden=True)]
    net = OwnNet(nn.Sequential(*layers), Coding("direct", 3))
    x = torch.ones(3, 2, 4)
    assert set(net(x, record=True).recorded) == {"input", "1"}
    with pytest.raises(ConfigError, match="some of input, 1. Leave out other names"):
        net(x, record=["zz"])
