"""Bits of the weights of each connection, as the caller asks for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from biril_nm.errors import ConfigError, bullet_list
from biril_nm.export.lowering.passes.float_net import FloatNet
from biril_nm.loihi import WEIGHT_BITS

__all__ = ["OTHERS", "with_bits"]

OTHERS = "*"  # key for all connections that have none of their own


def with_bits(net: FloatNet, asked: int | Mapping[str, int]) -> FloatNet:
    """``net`` with the bits of each link.

    A number holds for all links but those from graded input, which keep all 8 bits: few weights, through
    which everything passes. A dict names connections, or one of the nodes that became a part of one; ``"*"``
    is all others, which otherwise keep 8.

    Raises:
        ConfigError: a name that no connection has.
    """
    if not isinstance(asked, Mapping):
        graded = {name for name, node in net.input_nodes.items() if node.message_bits}
        links = (
            replace(link, weight_bits=WEIGHT_BITS if link.source in graded else int(asked))
            for link in net.links
        )
        return replace(net, links=tuple(links))
    names = {link.name: {link.name, *link.name.split("+")} for link in net.links}
    unknown = [key for key in asked if key != OTHERS and not any(key in n for n in names.values())]
    if unknown:
        known = ", ".join((*names, repr(OTHERS)))
        findings = [f"'{name}' is not a connection" for name in unknown]
        raise ConfigError(bullet_list(f"weight_bits: expected some of {known}:", findings))
    rest = asked.get(OTHERS, WEIGHT_BITS)
    found = {
        name: asked.get(name, next((asked[key] for key in asked if key in parts), rest))
        for name, parts in names.items()
    }
    links = (replace(link, weight_bits=int(found[link.name])) for link in net.links)
    return replace(net, links=tuple(links))
