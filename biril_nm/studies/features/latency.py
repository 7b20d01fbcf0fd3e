"""Images as first-spike times of ON and OFF contrast cells: the input of feature learning.

A difference-of-Gaussians filter (7x7, sigma 1 and 2, as S. R. Kheradpisheh and others use it, Neural
Networks 99, 2018) in integer arithmetic gives the contrast d of each pixel. ON cells see d, OFF cells -d;
the strongest contrasts of an image spike in the first step, each cell at most once.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from biril_nm.errors import ConfigError
from biril_nm.studies.features.kernels import loop

__all__ = ["dog_kernel", "latency_code"]

DOG_BITS = 10  # fraction bits of the integer filter
STEPS_MAX = 255  # spike times are unsigned bytes

Bytes = NDArray[np.uint8]


def dog_kernel(size: int = 7, centre: float = 1.0, surround: float = 2.0) -> NDArray[np.int32]:
    """Difference of two Gaussians as integers that sum to 0, in units of ``2**-10``.

    Rounded to nearest; what the rounding leaves is taken from the middle.
    """
    axis = np.arange(size) - (size - 1) / 2
    square = axis[:, None] ** 2 + axis[None, :] ** 2
    gaussians = [np.exp(-square / (2 * sigma**2)) for sigma in (centre, surround)]
    difference = gaussians[0] / gaussians[0].sum() - gaussians[1] / gaussians[1].sum()
    kernel = np.rint(difference * (1 << DOG_BITS)).astype(np.int32)
    kernel[size // 2, size // 2] -= kernel.sum()
    return np.asarray(kernel)


def latency_code(images: Bytes, n_steps: int = 8, min_contrast: int = 10) -> Bytes:
    """First-spike step of each contrast cell.

    The cells of an image with contrast above ``min_contrast`` (in grey values) are sorted; the
    strongest of them spike in step 1, the next in step 2, as many in each step.

    Args:
        images: grey values 0..255.
        n_steps: steps of a sample.
        min_contrast: weaker cells stay silent.

    Shape:
        ``(n, H, W)`` to ``(n, 2, H, W)``, ON first; steps 1..n_steps, 0 for silent cells.

    Raises:
        ConfigError: images of another kind, or a number of steps that does not fit a byte.
    """
    pixels = np.ascontiguousarray(images)
    if pixels.dtype != np.uint8 or pixels.ndim != 3:
        raise ConfigError(
            f"images are {pixels.dtype} of shape {pixels.shape}; expected bytes (n, H, W)"
        )
    if not 1 <= n_steps <= STEPS_MAX:
        raise ConfigError(f"n_steps is {n_steps}; expected 1 to {STEPS_MAX}")
    out = np.zeros((len(pixels), 2, *pixels.shape[1:]), dtype=np.uint8)
    _latency_code(pixels, dog_kernel(), n_steps, min_contrast << DOG_BITS, out)
    return out


@loop
def _latency_code(images, kernel, n_steps, floor, out):  # type: ignore[no-untyped-def]
    n, height, width = images.shape
    size = kernel.shape[0]
    pad = size // 2
    contrast = np.zeros((2, height, width), dtype=np.int32)
    flat = contrast.reshape(2 * height * width)
    for index in range(n):
        for y in range(height):
            for x in range(width):
                d = 0
                for i in range(max(0, pad - y), min(size, height + pad - y)):
                    for j in range(max(0, pad - x), min(size, width + pad - x)):
                        d += kernel[i, j] * images[index, y + i - pad, x + j - pad]
                contrast[0, y, x] = d
                contrast[1, y, x] = -d
        cells = np.flatnonzero(flat > floor)
        order = np.argsort(-flat[cells], kind="mergesort")
        steps = out[index].reshape(2 * height * width)
        for rank in range(order.size):
            steps[cells[order[rank]]] = 1 + rank * n_steps // order.size
