"""The network of the gesture protocol: convolutions of each frame, an event-driven GRU, a readout.

Published sizes: frames of 25 ms of a DVS128, both polarities added; convolutions 64@11 with stride 4, 192@5,
384@3, 256@3, 256@3 with pooling behind the first, second and last, 512 features with dropout 0.5, and 1,024
EGRU neurons. Adam at 1e-3, 64 clips of 1.7 s, alpha 0.2 of ES-D-RTRL.

Source: the gesture experiment of BrainTrace (Nature Communications 17:1745, 2026).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn

from biril_nm.arguments import Between, Count, Seed, checked
from biril_nm.coding import Coding
from biril_nm.errors import ConfigError, bullet_list
from biril_nm.training.online.layer import (
    OWN,
    OnlineLayer,
    Projection,
    Wiring,
    dense,
    layer_of,
)
from biril_nm.training.online.net import OnlineNet
from biril_nm.training.online.neurons.egru import EGRU, GATE, INPUT, LOOP, RESET
from biril_nm.training.online.neurons.readout import LEAKY_READOUT
from biril_nm.training.online.rules import rank_of

__all__ = ["GestureConfig", "egru_layer", "gesture_net"]

READOUT_DECAY = 0.9
FRAME_BITS = 8  # events of a pixel in a frame are a byte
Side = Annotated[int, Between(1, 255)]


@checked
@dataclass(frozen=True)
class GestureConfig:
    """Sizes of :func:`gesture_net`; the defaults are the published ones.

    Attributes:
        channels: of the convolutions.
        kernels: their sides, one each.
        stride: of the first convolution.
        pooled: indices of convolutions with 3x3 maxima of stride 2 behind them.
        features: outputs of the convolutional part.
        dropout: share of its last values that training leaves out.
        hidden: EGRU neurons.
        decay: alpha of ES-D-RTRL.

    Raises:
        ConfigError: values out of range, or that do not fit each other.
    """

    channels: tuple[Count, ...] = (64, 192, 384, 256, 256)
    kernels: tuple[Side, ...] = (11, 5, 3, 3, 3)
    stride: Side = 4
    pooled: tuple[int, ...] = (0, 1, 4)
    features: Count = 512
    dropout: float = 0.5
    hidden: Count = 1024
    decay: float = 0.2

    def __post_init__(self) -> None:
        for name in ("channels", "kernels", "pooled"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        n = len(self.channels)
        found = []
        if len(self.kernels) != n:
            found.append(
                f"channels are {self.channels} and kernels {self.kernels}; expected as many kernels as "
                f"channels"
            )
        if not set(self.pooled) <= set(range(n)):
            found.append(
                f"pooled is {self.pooled}; expected indices of convolutions, from 0 to {n - 1}"
            )
        if not 0 <= self.dropout < 1:
            found.append(f"dropout is {self.dropout!r}; expected a share from 0 to below 1")
        if found:
            raise ConfigError(bullet_list("the sizes of the gesture network make no sense:", found))
        rank_of(self.decay)  # refuses what is not between 0 and 1


class _MergedPolarities(nn.Module):
    """Events of both signs added, ``(n, 2, H, W)`` to ``(n, 1, H, W)``."""

    def forward(self, x: Tensor) -> Tensor:
        return x.sum(1, keepdim=True)


@checked
def gesture_net(
    input_shape: Sequence[Count],
    n_classes: Count,
    config: GestureConfig | None = None,
    seed: Seed = 0,
) -> OnlineNet:
    """A network for frames of events, which learns by the phases B, d-rtrl and es-d-rtrl.

    Args:
        input_shape: of a frame, (channels, height, width).
        n_classes: number of classes.
        config: sizes.
        seed: of the first weights.

    Raises:
        ConfigError: frames of another kind, or too small for the convolutions.
    """
    config = config or GestureConfig()
    if len(input_shape) != 3:
        raise ConfigError(
            f"input_shape is {tuple(input_shape)}; expected (channels, height, width). Give the shape "
            f"of a frame"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = [
            egru_layer(config.features, config.hidden),
            layer_of(LEAKY_READOUT, config.hidden, n_classes, constants={"al": READOUT_DECAY}),
        ]
        features = _features(tuple(input_shape), config)
    return OnlineNet(layers, Coding("counts", 1, FRAME_BITS), features=features, decay=config.decay)


def egru_layer(n_in: int, n_out: int, dtype: torch.dtype = torch.float32) -> OnlineLayer:
    """EGRU neurons with weights from below and a loop of orthogonal weights."""
    links = {
        f"W{channel}": Projection(dense(n_in, n_out, dtype), Wiring(channel=channel))
        for channel in (GATE, RESET, INPUT)
    }
    for channel in (GATE, RESET, LOOP):
        loop = nn.init.orthogonal_(torch.empty(n_out, n_out, dtype=dtype))
        links[f"V{channel}"] = Projection(loop, Wiring(OWN, channel=channel))
    return OnlineLayer(EGRU, links)


def _features(shape: tuple[int, ...], config: GestureConfig) -> nn.Sequential:
    parts: list[nn.Module] = [_MergedPolarities()]
    before = 1
    for i, (channels, kernel) in enumerate(zip(config.channels, config.kernels)):
        stride = config.stride if i == 0 else 1
        parts += [nn.Conv2d(before, channels, kernel, stride, kernel // 2), nn.ReLU()]
        if i in config.pooled:
            parts.append(nn.MaxPool2d(3, 2))
        before = channels
    parts += [nn.Flatten(), nn.Dropout(config.dropout)]
    try:
        with torch.no_grad():
            n = nn.Sequential(*parts)(torch.zeros(1, *shape)).shape[1]
    except RuntimeError as error:
        raise ConfigError(
            f"frames of {shape[1]} x {shape[2]} pixels do not pass {config}: {error}; expected larger ones. "
            f"Take larger frames, or less pooling"
        ) from error
    return nn.Sequential(*parts, nn.Linear(n, config.features), nn.ReLU())
