"""Bits of weights as text, for command lines and configurations."""

from __future__ import annotations

from biril_nm.arguments import shown
from biril_nm.errors import ConfigError

__all__ = ["parse_weight_bits"]


def parse_weight_bits(text: str) -> int | dict[str, int]:
    """Bits as :func:`biril_nm.export.lower` takes them: ``"3"``, or ``"conv1=8,*=3"``.

    Raises:
        ConfigError: a text of another form.
    """
    pairs = [part.rpartition("=") for part in text.split(",")]
    try:
        if len(pairs) == 1 and not pairs[0][1]:
            return int(text)
        found = {name: int(bits) for name, _, bits in pairs}
    except ValueError:
        found = {}
    if not all(found) or len(found) < len(pairs):
        raise ConfigError(
            f"weight bits are {shown(text)}; expected a number from 1 to 8, or connections with theirs, such "
            f"as conv1=8,*=3"
        )
    return found
