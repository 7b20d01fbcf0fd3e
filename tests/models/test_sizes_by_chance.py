"""Operations over samples where a number of features is that of samples, or of steps times samples."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.steps import BATCH, IN, N_STEPS, OneStep, compare


def centred(net: Any, x: Tensor) -> Any:
    return net.rest(net.f(x - x.mean(0)))


def first_sample(net: Any, x: Tensor) -> Any:
    return net.rest(net.f(x - 0.5 * x[0]))


def products(net: Any, x: Tensor) -> Any:
    return net.rest(net.f(0.1 * (x @ x.t()) @ x))


def split(net: Any, x: Tensor) -> Any:
    return net.rest(net.f(x - 0.5 * x.split(1, 0)[0]))


@pytest.mark.parametrize("step", [centred, first_sample, products, split], ids=lambda f: f.__name__)
@pytest.mark.parametrize(("batch", "constant"), [(BATCH, False), (IN, True), (BATCH, True)])
def test_rows_are_those_of_samples(step: Any, batch: int, constant: bool) -> None:
    assert N_STEPS * BATCH == IN
    generator = torch.Generator().manual_seed(3)
    x = (torch.rand(N_STEPS, batch, IN, generator=generator) < 0.5).float()
    compare(OneStep(step), x[:1].clone().expand(x.shape) if constant else x)
