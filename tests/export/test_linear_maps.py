"""Composition of linear maps against torch, with odd sizes, padding, stride, groups, dilation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from biril_nm.export.nir_nodes.linear_maps import (
    Convolution,
    Matrix,
    Reshape,
    as_matrix,
    compose,
    identity,
    scale_rows,
)


def torch_conv(conv: Convolution, x: torch.Tensor) -> torch.Tensor:
    w = torch.from_numpy(conv.weight)
    return F.conv2d(x, w, None, conv.stride, conv.padding, conv.dilation, conv.groups)


@st.composite
def convolutions(draw, channels: int, size: tuple[int, int], depthwise: bool):
    pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))
    kernel, stride = draw(pairs), draw(pairs)
    padding = draw(st.tuples(st.integers(0, 2), st.integers(0, 2)))
    dilation = (1, 1) if depthwise else draw(st.sampled_from([(1, 1), (2, 1), (1, 2)]))
    groups = channels if depthwise else draw(st.sampled_from([1, 2]))
    c_out = channels if depthwise else 2 * draw(st.integers(1, 3))
    seed = draw(st.integers(0, 99))
    weight = np.random.default_rng(seed).normal(size=(c_out, channels // groups, *kernel))
    return Convolution(weight, (channels, *size), stride, padding, dilation, groups)


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_two_convolutions_compose_exactly(data):
    size = data.draw(st.tuples(st.integers(7, 11), st.integers(7, 11)))
    order = data.draw(st.sampled_from([(True, False), (False, True), (False, False), (True, True)]))
    first = data.draw(convolutions(4, size, order[0]))
    if min(first.out_shape[1:]) < 3:
        return
    second = data.draw(convolutions(first.out_shape[0], first.out_shape[1:], order[1]))
    if min(second.out_shape[1:]) < 1:
        return
    x = torch.randn(2, 4, *size, dtype=torch.float64)
    expected = torch_conv(second, torch_conv(first, x))
    both = compose(first, second)
    assert both.out_shape == tuple(expected.shape[1:])
    if isinstance(both, Convolution):
        np.testing.assert_allclose(torch_conv(both, x), expected, atol=1e-12)
    got = as_matrix(both).weight @ x.reshape(2, -1).numpy().T
    np.testing.assert_allclose(got.T, expected.reshape(2, -1), atol=1e-12)


@pytest.mark.parametrize(
    ("size", "kernel", "padding", "folds"),
    [
        (14, 2, 1, True),
        (14, 2, 0, True),
        (15, 2, 0, True),
        (15, 2, 1, False),
        (7, 3, 1, False),
        (9, 3, 1, True),
    ],
)
def test_pooling_folds_into_a_convolution_only_where_exact(size, kernel, padding, folds):
    pool = Convolution(
        np.full((3, 1, kernel, kernel), 1 / kernel**2), (3, size, size), (kernel, kernel), groups=3
    )
    conv = Convolution(
        np.random.default_rng(0).normal(size=(5, 3, 3, 3)), pool.out_shape, padding=(padding,) * 2
    )
    assert isinstance(compose(pool, conv), Convolution) is folds


def test_pooling_then_linear_is_dense_and_flatten_is_free():
    pool = Convolution(np.full((2, 1, 2, 2), 0.25), (2, 6, 6), (2, 2), groups=2)
    flat = Reshape((2, 3, 3), (18,))
    linear = Matrix(np.random.default_rng(1).normal(size=(4, 18)), (18,), (4,))
    whole = compose(compose(compose(identity((2, 6, 6)), pool), flat), linear)
    x = torch.randn(1, 2, 6, 6, dtype=torch.float64)
    expected = F.avg_pool2d(x, 2).flatten(1) @ torch.from_numpy(linear.weight).T
    assert isinstance(whole.weight, np.ndarray)
    np.testing.assert_allclose(whole.weight @ x.numpy().ravel(), expected.numpy()[0])


@pytest.mark.parametrize(("kernel", "bits"), [(2, 32), (3, 64)])
def test_products_have_32_bits_only_where_these_hold_every_number(kernel, bits):
    size = 6 // kernel
    pool = Convolution(
        np.full((2, 1, kernel, kernel), 1 / kernel**2), (2, 6, 6), (kernel, kernel), groups=2
    )
    weight = np.random.default_rng(1).normal(size=(4, 2 * size * size)).astype(np.float32)
    flat = Reshape(pool.out_shape, weight.shape[1:])
    whole = compose(compose(pool, flat), Matrix(weight, weight.shape[1:], (4,))).weight
    assert whole.dtype == np.dtype(f"f{bits // 8}")
    expected = weight.astype(np.float64) @ as_matrix(pool).weight.toarray()
    np.testing.assert_array_equal(whole, expected)


def test_rows_scale_per_channel_as_convolution_and_per_neuron_as_matrix():
    conv = Convolution(np.ones((2, 1, 1, 1)), (1, 2, 2))
    per_channel = np.array([2.0, 3.0]).reshape(2, 1, 1) * np.ones((2, 2, 2))
    assert isinstance(scale_rows(conv, per_channel), Convolution)
    per_neuron = np.arange(8.0).reshape(2, 2, 2)
    scaled = scale_rows(conv, per_neuron)
    assert isinstance(scaled, Matrix)
    np.testing.assert_array_equal(scaled.weight @ np.ones(4), per_neuron.ravel())
