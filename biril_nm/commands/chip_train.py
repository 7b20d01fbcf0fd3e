"""``biril chip-train``: a network learns deep on the chip's integers, from nothing, one sample at a time."""

from __future__ import annotations

import math
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

from biril_nm.commands.console import (
    note,
    print_json,
    print_progress,
    print_table,
    progress_bar,
    say,
)
from biril_nm.commands.interrupts import check_stopped, keeping
from biril_nm.commands.options import BUILT_IN, MAX_COUNT, DataRoot, DataSetName, Force, Json, Seed
from biril_nm.commands.samples import LABELS, SPIKES, OwnSamples, read_arrays, read_labels
from biril_nm.errors import ConfigError, FileFormatError

if TYPE_CHECKING:
    from biril_nm.onchip import SpikeSamples

__all__ = ["chip_train_command"]

COLUMNS = ("pass", "samples", "validation", "test", "samples/s")
Number = int | None
Parts = tuple["SpikeSamples", "SpikeSamples | None", "SpikeSamples | None", int]


def chip_train_command(
    dataset: DataSetName = None,
    *,
    own: OwnSamples,
    hidden: Annotated[
        str, typer.Option(help="Neurons of one or two hidden layers, as 300 or 256,128.")
    ] = "300",
    method: Annotated[
        str,
        typer.Option(
            help="What teaches hidden layers: dfa (the error, through fixed random synapses), label (the "
            "label), untrained (nothing)."
        ),
    ] = "dfa",
    rounding: Annotated[
        str,
        typer.Option(
            help="What weights are rounded by: a random number of each connection, as in Lava, or of each "
            "synapse, which no chip does."
        ),
    ] = "connection",
    passes: Annotated[
        int, typer.Option(min=1, max=MAX_COUNT, help="How often each sample is shown.")
    ] = 1,
    steps: Annotated[
        Number, typer.Option(min=1, max=MAX_COUNT, help="Steps per sample, a power of two.")
    ] = None,
    every: Annotated[
        int, typer.Option(min=1, max=MAX_COUNT, help="Samples between points of the curve.")
    ] = 10_000,
    validation: Annotated[
        float,
        typer.Option(
            min=0.0, max=0.9, help="Share of the training samples to measure the curve on."
        ),
    ] = 0.0,
    train_samples: Annotated[
        Number, typer.Option(min=1, max=MAX_COUNT, help="First N training samples; default: all.")
    ] = None,
    test_samples: Annotated[
        Number, typer.Option(min=1, max=MAX_COUNT, help="First N test samples; default: all.")
    ] = None,
    data_root: DataRoot = None,
    out: Annotated[Path | None, typer.Option(help="Output folder.")] = None,
    seed: Seed = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")] = False,
    force: Force = False,
    json: Json = False,
) -> None:
    """Learn a deep network on the chip itself, in integers only.

    Error neurons and fixed random feedback synapses teach the hidden layers while samples stream
    through. Writes learned.loihi.npz (the layers), plastic.loihi.npz (with what teaches them, to learn
    on), metrics.jsonl and state.npz, from which --resume continues.

    Example: biril chip-train --dataset digits --hidden 100 --passes 2 --out out/chip
    """
    from biril_nm.onchip import ChipPlan, DeepConfig, dfa_network, learn_on_chip, open_run_folder
    from biril_nm.onchip.state import FILES
    from biril_nm.storage import keep_inputs

    n_steps = steps or DeepConfig.n_steps
    parts: Parts
    beside = {"--dataset": dataset, "--data-root": data_root, "--steps": steps}
    own.check({**beside, "--test-samples": test_samples})
    if own.spikes is not None:
        parts = _recorded(own.spikes, own.labels, validation, train_samples, seed)
        n_steps = parts[0].n_steps
    else:
        name = dataset or BUILT_IN
        parts = _pictures(name, data_root, seed, n_steps, validation, (train_samples, test_samples))
    train, test, held, n_classes = parts
    config = DeepConfig(method, n_steps, _decimation(n_steps), rounding=rounding)
    plan = ChipPlan(_sizes(hidden), passes, every=every, seed=seed, config=config)
    sizes = (math.prod(train.shape), *plan.hidden, n_classes)
    dfa_network(sizes, config)  # refuses what could not learn before anything is written
    name = "spikes" if own.spikes else (dataset or BUILT_IN).partition(":")[0]
    folder = out or Path("out") / f"chip-{name}"
    if not resume:
        keep_inputs([folder / name for name in FILES], (own.spikes, own.labels))
    bar = _Bar()
    try:
        with keeping(lambda: _kept(folder)), open_run_folder(folder, resume, force) as place:
            result = learn_on_chip(train, test, held, plan, n_classes, place, bar.show)
    finally:
        bar.close()
    _report(result.records, folder, json)


def _decimation(n_steps: int) -> int:
    """Of learning phases that come ``n_steps`` apart, or at the next power of two."""
    from biril_nm.learning.rule import DECIMATION_MAX

    found = (n_steps - 1).bit_length()
    if found > DECIMATION_MAX:
        raise ConfigError(
            f"a sample takes {n_steps} steps; expected at most {1 << DECIMATION_MAX}, as many as there can "
            f"be between two learning phases. Cut the samples, or make one step of several"
        )
    return found


def _kept(folder: Path) -> str:
    """What an interrupted run leaves, and how it goes on."""
    from biril_nm.onchip.state import STATE

    if not (folder / STATE).is_file():
        return "Nothing was written"
    again = f"biril chip-train --resume --out {shlex.quote(str(folder))} and the same options"
    return f"'{folder}' keeps its last state; continue with: {again}"


def _sizes(text: str) -> tuple[int, ...]:
    words = text.split(",")
    if not all(w.isascii() and w.isdigit() and 0 < len(w) < 8 for w in words):
        raise ConfigError(
            f"hidden is '{text:.60}'; expected one or two numbers of neurons, such as 300 or 256,128"
        )
    return tuple(map(int, words))


def _pictures(
    name: str,
    data_root: Path | None,
    seed: int,
    n_steps: int,
    share: float,
    first: tuple[int | None, int | None],
) -> Parts:
    """Training, test and validation samples of a data set, and the number of classes."""
    from biril_nm.data import load_data
    from biril_nm.onchip import pictures

    data = load_data(name, data_root, seed)
    train, test = (part.head(n or len(part)) for part, n in zip((data.train, data.test), first))
    data = type(data)(data.name, train, test, data.n_classes)
    if share:
        data = data.with_validation(share, seed)
    held = None if data.validation is None else pictures(data.validation, n_steps)
    return pictures(data.train, n_steps), pictures(data.test, n_steps), held, data.n_classes


def _recorded(path: Path, labels: Path | None, share: float, first: int | None, seed: int) -> Parts:
    """Samples of a file; without a test part, the validation share is all that is measured."""
    from biril_nm.onchip import recorded

    arrays = read_arrays(path)
    if SPIKES not in arrays:
        raise FileFormatError(
            f"'{path}' holds arrays {sorted(arrays)[:8]}; expected '{SPIKES}' (steps, samples, ...), 0 and 1"
        )
    samples = recorded(arrays[SPIKES], read_labels(labels, arrays.get(LABELS), path))
    n_steps = 1 << _decimation(samples.n_steps)
    if n_steps != samples.n_steps:
        silent = n_steps - samples.n_steps
        note(
            f"a sample takes {samples.n_steps} steps; {silent} silent ones go before it, to make {n_steps}"
        )
        samples = samples.after_silence(n_steps)
    rows = np.random.default_rng([seed, 2]).permutation(len(samples))[: first or len(samples)]
    cut = round(share * len(rows))
    held = samples.take(rows[:cut]) if cut else None
    return samples.take(np.sort(rows[cut:])), None, held, int(samples.labels.max()) + 1


class _Bar:
    """Progress on stderr: a bar on a terminal, one line per point of the curve elsewhere."""

    def __init__(self) -> None:
        columns = (TextColumn("samples"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = progress_bar(*columns)
        self._task = self._bar.add_task("", total=None)

    def close(self) -> None:
        """Remove the bar."""
        self._bar.stop()

    def show(self, record: dict[str, Any]) -> None:
        """A chunk of samples, or a point of the curve."""
        check_stopped()
        self._bar.update(self._task, completed=record["samples"], total=record.get("of"))
        if "pass" in record:
            print_progress("  ".join(map(" ".join, zip(COLUMNS, _cells(record)))))


def _cells(record: dict[str, Any]) -> list[str]:
    """A point of the curve: pass, samples shown, accuracies, speed."""
    values = (record.get(f"{part}_accuracy") for part in ("validation", "test"))
    accuracies = ("-" if value is None else f"{value:.2%}" for value in values)
    speed = f"{record['samples_per_s']:,.0f}"
    return [str(record["pass"]), f"{record['samples']:,}", *accuracies, speed]


def _report(records: tuple[dict[str, Any], ...], folder: Path, json: bool) -> None:
    if json:
        print_json({"out": str(folder), "records": list(records)})
        return
    print_table("", COLUMNS, [_cells(record) for record in records])
    say(f"wrote {folder / 'learned.loihi.npz'}")
