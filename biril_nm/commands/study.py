"""``biril study``: a grid of training methods and seeds, with controls, in one table."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from biril_nm.commands.console import note, print_json, print_progress, print_table, say
from biril_nm.commands.interrupts import check_stopped, keeping
from biril_nm.commands.options import MAX_COUNT, DataRoot, DataSetName, Force, Json
from biril_nm.errors import ConfigError

if TYPE_CHECKING:
    from biril_nm.studies.grid import Method, StudyPlan, Summary
    from biril_nm.studies.grid.cell import Cell, CellResult
    from biril_nm.studies.grid.verdicts import Difference

__all__ = ["study_command"]

PICTURE = "study.png"
Number = int | None


def study_command(
    study: Annotated[
        str,
        typer.Argument(
            metavar="NAME|FILE.toml",
            help="methods, ratios, neurons, projection, precision, or a file like study.toml.",
        ),
    ],
    dataset: DataSetName = None,
    model: Annotated[str | None, typer.Option(help="Architecture.")] = None,
    seeds: Annotated[
        Number, typer.Option(min=1, max=1000, help="Number of seeds, from 0 on.")
    ] = None,
    epochs: Annotated[
        Number, typer.Option(min=1, max=MAX_COUNT, help="Epochs of each cell.")
    ] = None,
    train_samples: Annotated[
        Number, typer.Option(min=1, max=MAX_COUNT, help="Training samples.")
    ] = None,
    validation_samples: Annotated[
        Number,
        typer.Option(min=1, max=MAX_COUNT, help="Further ones, which choose the epoch."),
    ] = None,
    test_samples: Annotated[
        Number, typer.Option(min=1, max=MAX_COUNT, help="Test samples; default: all.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=MAX_COUNT, help="Cells at a time.")] = 1,
    cluster: Annotated[
        bool, typer.Option("--cluster", help="Run the cells on Ray instead of local processes.")
    ] = False,
    data_root: DataRoot = None,
    out: Annotated[Path | None, typer.Option(help="Output folder.")] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Continue a study; more --seeds are added; failed cells are tried again.",
        ),
    ] = False,
    force: Force = False,
    json: Json = False,
) -> None:
    """Compare training methods over seeds, with controls, and measure their networks on the chip.

    Writes study.toml, study.png and a result.json for each cell. Accuracies are of the epoch that
    validation samples chose; the test samples are used once.

    Example: biril study ratios --dataset digits --seeds 3 --out out/ratios
    """
    from biril_nm.storage import check_output, keep_inputs, lock_folder
    from biril_nm.studies.grid import run_study, summarise
    from biril_nm.studies.grid.runner import CELLS, PLAN, check_folder, discard_study

    options: dict[str, Any] = {
        "dataset": dataset, "model": model, "epochs": epochs, "n_train": train_samples,
        "n_validation": validation_samples, "n_test": test_samples,
        "seeds": None if seeds is None else tuple(range(seeds)),
    }  # fmt: skip
    given = {k: v for k, v in options.items() if v is not None}
    plan, notes = _fitted(study, given, data_root)
    folder = out or Path("out") / f"study-{plan.name}"
    if not resume:
        keep_inputs([folder / PLAN, folder / CELLS], [Path(study)])
    if force and not resume:
        discard_study(folder)
    check_folder(folder, plan, resume)
    if not resume:
        check_output(folder / PICTURE, force)
    with lock_folder(folder):  # a folder that is refused has nothing before its error
        for text in (*notes, *_cut_cycles(plan)):
            note(text)
    seen = _Seen(len(plan.cells()))
    with keeping(
        lambda: f"'{folder}' keeps {seen.done} of {seen.total} cells; continue with --resume"
    ):
        results = run_study(
            plan, folder, data_root, workers, cluster, resume, seen.result, seen.failure
        )
    rows = summarise(results)
    picture = _draw(rows, plan, folder)
    if json:
        cells = {"cells": [asdict(r) for r in results], "failed": seen.failed}
        print_json({"out": str(folder), "study": plan.to_dict(), **cells})
    else:
        _print(plan, rows, results, seen.failed)
        files = f"{folder / 'study.toml'}, {len(results)} cells"
        say(f"wrote {files}" + (f", {picture}" if picture else ""))
    if seen.failed:
        raise ConfigError(
            f"{len(seen.failed)} of {seen.total} cells failed; expected none. Change their settings, or try "
            f"them again with --resume"
        )


class _Seen:
    """Cells as they end, with a line of progress for each."""

    def __init__(self, total: int) -> None:
        self.total, self.done = total, 0
        self.failed: list[dict[str, Any]] = []

    def result(self, result: CellResult) -> None:
        self.done += 1
        self._say(
            f"{result.method}, seed {result.seed}: {result.accuracy:.2%} after epoch {result.epoch}  "
            f"{result.seconds:.0f} s"
        )

    def failure(self, cell: Cell, reason: str) -> None:
        check_stopped()  # which may be what the cell failed by
        self.failed.append({"method": cell.method.name, "seed": cell.seed, "reason": reason})
        self._say(f"{cell.method.name}, seed {cell.seed}: failed")

    def _say(self, text: str) -> None:
        print_progress(f"cell {self.done + len(self.failed)} of {self.total}  {text}")


def _fitted(
    study: str, options: dict[str, Any], data_root: Path | None
) -> tuple[StudyPlan, list[str]]:
    """The plan with the options, at the size of its data set and checked against it, and notes on it."""
    from biril_nm.data import load_data
    from biril_nm.studies.grid.cell import parts_of
    from biril_nm.studies.grid.checks import check_methods, scaled

    plan, stated = _plan(study)
    plan = replace(plan, **options)
    data = load_data(plan.data, data_root, plan.seeds[0])
    given = plan
    plan = scaled(plan, data, {"n_train", "n_validation", "n_test"} - stated - set(options))
    parts_of(plan, data, plan.seeds[0])
    check_methods(plan, data)
    if plan == given:
        return plan, []
    return plan, [
        f"'{plan.data}' has {len(data.train)} training and {len(data.test)} test samples: n_train is "
        f"{plan.n_train}, n_validation {plan.n_validation}, n_test {plan.n_test or 'all'}"
    ]


def _plan(study: str) -> tuple[StudyPlan, set[str]]:
    """A plan, and the fields that its file states."""
    from biril_nm.arguments import unknown_name
    from biril_nm.storage import read_toml
    from biril_nm.studies.grid import STUDIES, StudyPlan

    if study in STUDIES:
        return STUDIES[study], set()
    if not study.endswith(".toml"):
        raise ConfigError(unknown_name("study", study, (*STUDIES, "FILE.toml")))
    return StudyPlan.read(Path(study)), set(read_toml(Path(study)))


def _cut_cycles(plan: StudyPlan) -> list[str]:
    """What says which rows train other ratios than their schedules name."""
    from math import lcm

    from biril_nm.studies.grid.schedules import cut_cycles, same_counts

    cut = cut_cycles(plan)
    if not cut:
        return []
    lengths = ", ".join(f"{name} ({length})" for name, length in cut.items())
    same = "".join(f" {', '.join(names)} run as many of each phase." for names in same_counts(plan))
    return [
        f"epochs is {plan.epochs}; expected a multiple of the cycle of {lengths}: their last cycle is cut. "
        f"The table has the phases that are run.{same} Set --epochs to a multiple of {lcm(*cut.values())}"
    ]


def _draw(rows: list[Summary], plan: StudyPlan, folder: Path) -> Path | None:
    """The picture, where matplotlib is installed."""
    from importlib.util import find_spec

    if find_spec("matplotlib") is None or not rows:
        return None
    from biril_nm.studies.grid.pictures import draw_study

    controls = [method.name for method in plan.methods if method.role == "control"]
    draw_study(rows, controls, folder / PICTURE)
    return folder / PICTURE


def _print(
    plan: StudyPlan,
    rows: list[Summary],
    results: list[CellResult],
    failed: list[dict[str, Any]],
) -> None:
    from biril_nm.hardware_sim.cost.energy import energy_text
    from biril_nm.studies.grid import compare_all
    from biril_nm.studies.grid.quoted import PAPER, others_text
    from biril_nm.studies.grid.schedules import comparisons, counts_text, phases_run

    paper = PAPER.get(plan.data.partition(":")[0], {})
    header = ["method", "S:B:H run", "float, %", *(f"{bits} bits, %" for bits in plan.bits)]
    header += ["spikes", "energy", "recovered", *(["paper, %"] if paper else [])]
    cells, measured = [], {row.method: row for row in rows}
    for method in plan.methods:
        line = [method.name, counts_text(phases_run(plan, method))]
        row = measured.get(method.name)
        n_failed = sum(cell["method"] == method.name for cell in failed)
        if row is None:
            line += ["failed", *["-"] * (len(plan.bits) + 3)]
        else:
            line.append(row.accuracy.text() + (f", {n_failed} failed" if n_failed else ""))
            line += [value.text() for value in row.integers.values()]
            line += [row.spikes.text(1, 0), energy_text(row.energy_j.mean)]
            line.append("-" if row.recovered is None else row.recovered.text(digits=1))
        if paper:
            line.append(f"{paper[method.name]:.2f}" if method.name in paper else "-")
        cells.append(line)
    print_table(
        f"{plan.name}: {plan.data}, {len(plan.seeds)} seeds, mean ± 95 % interval", header, cells
    )
    for cell in failed:
        say(f"{cell['method']}, seed {cell['seed']} failed: {cell['reason']}")
    for text in others_text(plan.data.partition(":")[0]):
        say(text)
    pairs = comparisons(plan)
    for gap in compare_all(results, [(method.name, control.name) for method, control in pairs]):
        say(f"{gap.method} - {gap.control}: {gap.difference.text()} points, {_verdict(gap)}")
    _say_controls(plan, pairs)


def _say_controls(plan: StudyPlan, pairs: list[tuple[Method, Method]]) -> None:
    """Which methods a control without the local rule says something about."""
    every = [method for method in plan.methods if method.role == "method"]
    for control in (method for method in plan.methods if method.role == "control"):
        theirs = [method.name for method, other in pairs if other is control]
        if len(theirs) < len(every):
            names = ", ".join(theirs) or "no method"
            say(f"{control.name} is compared with {names}: the others have other gradient steps")


def _verdict(gap: Difference) -> str:
    from biril_nm.studies.grid.verdicts import MIN_SEEDS

    if gap.difference.n < MIN_SEEDS:
        return f"of {gap.difference.n} seeds, too few to say more"
    p = "p < 0.001" if gap.p < 0.001 else f"p = {gap.p:.3f}"
    several = f", corrected by Holm for {gap.n_compared} comparisons" if gap.n_compared > 1 else ""
    return f"{'beyond' if gap.beyond_error else 'within'} the error ({p}{several})"
