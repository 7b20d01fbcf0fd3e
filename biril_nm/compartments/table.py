"""The compartment models as tables in Markdown, for the docs."""

from __future__ import annotations

from collections.abc import Iterable

from biril_nm.compartments.model import CompartmentModel
from biril_nm.compartments.registry import COMPARTMENTS
from biril_nm.loihi import LOIHI2

__all__ = ["models_page"]

HEAD = """\
# Compartment models

Written by `python docs/make_tables.py` from `biril_nm.compartments`. `Neurons(shape, model=NAME, ...)` takes
the registers of its model by name. In a step, `a` is the summed input of a neuron and `s` its spike;
`wrap` and `clip` hold u and v in 24 bits, `trunc0` rounds toward zero.
"""
MODELS = ("model", "what it is", "state", "resets of NIR", "chips", "Lava", "netx")
REGISTERS = ("model", "register", "from", "to", "default", "per neuron", "what it does")


def models_page(models: Iterable[CompartmentModel] | None = None) -> str:
    """One row per model, its step, and one row per register with its limits on Loihi 2."""
    known = tuple(COMPARTMENTS.values() if models is None else models)
    steps = "".join(f"\n`{m.name}`: `{m.equation}`\n" for m in known)
    registers = [row for model in known for row in _register_rows(model)]
    return f"{HEAD}\n{_table(MODELS, map(_row, known))}{steps}\n{_table(REGISTERS, registers)}"


def _row(model: CompartmentModel) -> tuple[str, ...]:
    return (
        f"`{model.name}`",
        model.doc,
        ", ".join(model.state),
        ", ".join(reset.value for reset in model.resets),
        ", ".join(f"{chip} ({how})" for chip, how in model.chips.items()),
        f"its own `{model.lava_process}`" if model.lava_process else "generic Process",
        f"refused: {model.netx_refusal}" if model.netx_refusal else "yes",
    )


def _register_rows(model: CompartmentModel) -> Iterable[tuple[str, ...]]:
    for register in model.registers:
        low, high = register.limits(LOIHI2)
        yield (
            f"`{model.name}`",
            f"`{register.name}`",
            str(low),
            str(high),
            "none" if register.default is None else str(register.default),
            "no" if register.shared else "yes",
            register.doc,
        )


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = (header, ("---",) * len(header), *rows)
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
