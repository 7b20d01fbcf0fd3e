"""The compartment models as tables in Markdown, for the docs."""

from __future__ import annotations

from collections.abc import Iterable

from biril_nm.compartments.model import PROGRAM, CompartmentModel
from biril_nm.compartments.registry import COMPARTMENTS
from biril_nm.loihi import CHIPS, LOIHI2

__all__ = ["chips_page", "models_page"]

HEAD = """\
# Compartment models

Written by `python docs/make_tables.py` from `biril_nm.compartments`. `Neurons(shape, model=NAME, ...)` takes
the registers of its model by name. In a step, `a` is the summed input of a neuron and `s` its spike;
`wrap` and `clip` hold u and v in 24 bits, `trunc0` rounds toward zero.
"""
CHIPS_HEAD = """\
# Neurons on chips

Written by `python docs/make_tables.py` from `biril_nm.compartments`. Loihi 1 has one kind of neuron,
CUBA-LIF. The neurons of Loihi 2 are programs: microcode that a core runs for each neuron in each step.

- **native**: Loihi's own neuron, Lava's LIF. Whether Lava's extension for Loihi has a model of `LIFReset`,
  which bundles use, could not be checked: [what would run on silicon](lava.md#on-silicon). biril-nm has
  never run anything on a chip.
- **program**: ours. Lava has no Process for it. The exported bundle brings a Process and a fixed-point
  model, which runs on the CPU and gives the integers of the simulator. Silicon needs microcode that does
  what is written below; neither Lava nor biril-nm has it. Where a Process of Lava is named, the bundle
  runs Lava's own fixed-point model of it; lava-nc 0.10.0 has models of it for the CPU alone.
- **refused**: `lower` and the back ends say so. Lower for another chip, or train with
  `reset_mechanism="zero"`; `reset="force-zero"` accepts the change of meaning.
"""
PROGRAMS_HEAD = """\

## Programs

What the microcode of each program does in a step, in this order. `a` is the summed input, `s` the
spike; v on the right of its own line is that of the step before.
"""
MODEL_COLUMNS = ("model", "what it is", "state", "a spike resets v", "chips", "Lava", "netx")
REGISTER_COLUMNS = ("model", "register", "from", "to", "default", "per neuron", "what it does")


def models_page(models: Iterable[CompartmentModel] | None = None) -> str:
    """One row per model, its step, and one row per register with its limits on Loihi 2."""
    known = tuple(COMPARTMENTS.values() if models is None else models)
    steps = "".join(f"\n`{m.name}`: `{m.equation}`\n" for m in known)
    registers = [row for model in known for row in _register_rows(model)]
    return f"{HEAD}\n{_table(MODEL_COLUMNS, map(_row, known))}{steps}\n{_table(REGISTER_COLUMNS, registers)}"


def chips_page(models: Iterable[CompartmentModel] | None = None) -> str:
    """Which chip runs which model, and in a few lines what the programs do that Lava has not."""
    known = tuple(COMPARTMENTS.values() if models is None else models)
    rows = [
        (
            f"`{model.name}`",
            *(model.chips.get(chip, "refused") for chip in CHIPS),
            f"`{model.lava_process}`" if model.lava_process else "ours",
            str(model.reset),
        )
        for model in known
    ]
    table = _table(("model", *CHIPS, "in Lava", "a spike resets v"), rows)
    programs = "".join(
        f"\n`{model.name}`: {model.doc}\n\n```text\n{model.equation.replace('; ', chr(10))}\n```\n"
        for model in known
        if PROGRAM in model.chips.values()
    )
    return f"{CHIPS_HEAD}\n{table}{PROGRAMS_HEAD}{programs}"


def _row(model: CompartmentModel) -> tuple[str, ...]:
    return (
        f"`{model.name}`",
        model.doc,
        ", ".join(model.state),
        str(model.reset),
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
