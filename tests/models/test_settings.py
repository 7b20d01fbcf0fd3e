"""Settings of networks: each one has an effect, or is refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from biril_nm.errors import ConfigError
from biril_nm.models import MODELS, ModelConfig


@pytest.mark.parametrize("change", [{"kernel": 5}, {"init": "torch"}, {"depths": (1, 3)}])
@pytest.mark.parametrize("name", MODELS)
def test_no_setting_is_ignored(
    name: str, change: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It changes the shapes or the starts of the weights, or is refused."""
    starts: list[object] = []
    monkeypatch.setattr(nn.init, "kaiming_normal_", lambda w, **more: starts.append(w.shape))
    stages = {"channels": (16, 8, 8), "depths": (1, 1)} if name == "resnet" else {}
    plain = ModelConfig(input_shape=(3, 64, 64), **stages)  # type: ignore[arg-type]
    with torch.device("meta"):
        shapes = [p.shape for p in MODELS[name](plain).parameters()]
        before, starts[:] = list(starts), []
        try:
            net = MODELS[name](ModelConfig.from_dict(plain.to_dict() | change))
        except ConfigError as error:
            (field,) = change
            assert field in str(error) and "; expected " in str(error) and "model" in str(error)
            return
    found = [p.shape for p in net.parameters()]
    assert (found, starts) != (shapes, before) or plain.depths == change.get("depths")
