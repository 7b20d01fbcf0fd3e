"""Weights of both signs as two connections, which have all bits each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import scipy.sparse

from biril_nm.export.lowering.passes.float_net import FloatLink, FloatNet, free_name
from biril_nm.export.nir_nodes.linear_maps import Weighted, stored

__all__ = ["split_signs"]

PLUS, MINUS = "plus", "minus"


def split_signs(net: FloatNet, chosen: Callable[[FloatLink], bool]) -> FloatNet:
    """Each chosen link of both signs as two of one sign each, ``NAME.plus`` and ``NAME.minus``."""
    links: list[FloatLink] = []
    taken = {*net.inputs, *net.neurons, *net.outputs, *(link.name for link in net.links)}
    for link in net.links:
        signed = _signed(link.linear) if chosen(link) else None
        if signed is None:
            links.append(link)
            continue
        for sign, linear in zip((PLUS, MINUS), signed):
            name = free_name(f"{link.name}.{sign}", taken)
            taken.add(name)
            links.append(replace(link, name=name, linear=linear))
    return replace(net, links=tuple(links))


def _signed(linear: Weighted) -> tuple[Weighted, Weighted] | None:
    """``W = max(W, 0) + min(W, 0)``, which is exact; None if one of the two is empty."""
    weight: Any = linear.weight
    if stored(weight).min(initial=0.0) >= 0 or stored(weight).max(initial=0.0) <= 0:
        return None
    if not scipy.sparse.issparse(weight):
        halves = [np.maximum(weight, 0.0), np.minimum(weight, 0.0)]
    else:
        # maximum() shares its index arrays with weight, and eliminate_zeros() changes them in place.
        halves = [weight.maximum(0).copy(), weight.minimum(0).copy()]
        for half in halves:
            half.eliminate_zeros()
    return replace(linear, weight=halves[0]), replace(linear, weight=halves[1])
