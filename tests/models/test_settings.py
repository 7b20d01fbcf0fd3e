"""Settings of networks: each one has an effect, or is refused."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from torch import nn

from biril_nm.errors import ConfigError
from biril_nm.models import MODELS, ModelConfig, build_model, load
from biril_nm.models.files import FORMAT, VERSION, net_parts
from biril_nm.neurons import NEURONS
from biril_nm.storage import write_document

# Every field but coding, which is the input's, with a value that is not the default.
CHANGES: dict[str, object] = {
    "input_shape": (2, 64, 64),
    "n_classes": 7,
    "neuron": "lif_tau",
    "beta": 0.5,
    "threshold": 2.0,
    "batch_norm": False,
    "bias": False,
    "surrogate": "atan",
    "channels": (24, 48, 96),
    "hidden": (7,),
    "kernel": 5,
    "init": "torch",
    "depths": (1, 3),
    "reset": "subtract",
}


def network(name: str, config: ModelConfig, monkeypatch: pytest.MonkeyPatch) -> str:
    """All that a configuration decides: layers, shapes, starts of weights, constants of neurons."""
    starts: list[object] = []
    with monkeypatch.context() as patch, torch.device("meta"):
        patch.setattr(nn.init, "kaiming_normal_", lambda w, **more: starts.append(w.shape))
        net = MODELS[name](config)
    neurons = [layer for layer in net.modules() if hasattr(layer, "spike_grad")]
    constants = [
        (type(n), n.beta, n.threshold, n.reset_mechanism, type(n.spike_grad), n.spike_grad.__doc__)
        for n in neurons
    ]
    return repr((starts, constants, net, [p.shape for p in net.parameters()]))


@pytest.mark.parametrize("name", MODELS)
def test_no_setting_is_ignored(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It changes the network, or is refused by its name."""
    assert {*CHANGES, "coding"} == {field.name for field in fields(ModelConfig)}
    stages = {"channels": (16, 8, 8), "depths": (1, 1)} if name == "resnet" else {}
    plain = ModelConfig(input_shape=(3, 64, 64), neuron="lif", **stages)  # type: ignore[arg-type]
    before, ignored = network(name, plain, monkeypatch), []
    for field, value in CHANGES.items():
        try:
            changed = network(name, replace(plain, **{field: value}), monkeypatch)  # type: ignore[arg-type]
        except ConfigError as error:
            assert field in str(error) and "; expected " in str(error) and "model" in str(error)
            continue
        if changed == before:
            ignored.append(field)
    assert not ignored


@pytest.mark.parametrize("neuron", NEURONS)
@pytest.mark.parametrize("field", ["beta", "threshold"])
def test_neurons_ignore_no_setting(field: str, neuron: str) -> None:
    config = ModelConfig((4,), 3, hidden=(5,), neuron=neuron)
    constants = [getattr(build_model("mlp", config).readout, field)]
    try:
        net = build_model("mlp", replace(config, **{field: 0.25}))
    except ConfigError as error:
        assert str(error) == (
            f"{field} is 0.25, which neurons '{neuron}' do not use; expected {getattr(config, field)}. "
            f"Leave it out, or use other neurons, such as 'lif'"
        )
        assert (field, neuron) == ("beta", "if")
    else:
        assert not torch.equal(getattr(net.readout, field), constants[0])


@pytest.mark.parametrize("name", ["mlp", "recurrent"])
def test_files_that_hold_ignored_settings_still_load(name: str, tmp_path: Path) -> None:
    """Versions before 0.2.0 took them, and they changed nothing."""
    net = build_model(name, ModelConfig((1, 4, 4), 3, hidden=(5,)), seed=0)
    header, arrays = net_parts(net)
    header["config"] |= {"channels": [7], "beta": 0.5}
    header |= {"format": FORMAT, "version": VERSION}
    write_document(tmp_path / "model.pt", header, arrays, compress=False)
    again = load(tmp_path / "model.pt")
    assert again.config == net.config
    for weight, value in net.state_dict().items():
        assert torch.equal(again.state_dict()[weight], value)
