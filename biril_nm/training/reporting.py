"""What a run leaves in its folder besides weights: metrics.jsonl, TensorBoard events, curves.png."""

from __future__ import annotations

import importlib.util
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from biril_nm.errors import MissingDependencyError
from biril_nm.storage import atomic_file, reports_full_disk
from biril_nm.storage.signals import UNINTERRUPTED
from biril_nm.training.best import TEST, VALIDATION
from biril_nm.training.events import EventFile

__all__ = ["CURVES", "EVENTS", "METRICS", "Reporter", "check_reports", "draw_curves", "scalars"]

METRICS = "metrics.jsonl"
CURVES = "curves.png"
EVENTS = "tensorboard"

log = logging.getLogger(__name__)

Records = list[dict[str, Any]]


class Reporter:
    """Writes the reports of one run.

    Args:
        folder: output folder.
        records: lines of the epochs done before a resume; later lines on disk are dropped.
        tensorboard: True: required; None: if installed; False: never.
        curves: the same for curves.png.

    Raises:
        MissingDependencyError: a required package is not installed.
    """

    def __init__(
        self, folder: Path, records: Records, tensorboard: bool | None, curves: bool | None
    ) -> None:
        self.folder = folder
        self.curves = _available("matplotlib", curves, "draw curves.png")
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_file(folder / METRICS) as part:
            part.write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")
        self._events: EventFile | None = None
        if _available("tensorboard", tensorboard, "write TensorBoard events"):
            self._events = EventFile(folder / EVENTS, purge_step=len(records) + 1)

    def add(self, records: Records) -> None:
        """Report the last one of ``records``.

        Raises:
            StorageError: the disk is full.
        """
        record = records[-1]
        with reports_full_disk(self.folder / METRICS):
            with (self.folder / METRICS).open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(record) + "\n")
            if self._events is not None:
                self._events.add(scalars(record), record["epoch"])
        if self.curves:
            with UNINTERRUPTED:  # matplotlib crashes, or loses the exception
                draw_curves(records, self.folder / CURVES)

    def close(self) -> None:
        """Release the event file."""
        if self._events is not None:
            self._events.close()


def check_reports(tensorboard: bool | None, curves: bool | None) -> None:
    """Refuse reports whose packages are missing, before anything is written.

    Raises:
        MissingDependencyError: a required package is not installed.
    """
    _available("tensorboard", tensorboard, "write TensorBoard events")
    _available("matplotlib", curves, "draw curves.png")


def _available(package: str, wanted: bool | None, purpose: str) -> bool:
    if wanted is False:
        return False
    if importlib.util.find_spec(package) is not None:
        return True
    if wanted:
        raise MissingDependencyError(package, "report", purpose)
    log.info("%s is not installed; skipping: %s", package, purpose)
    return False


def scalars(record: dict[str, Any]) -> dict[str, float]:
    """The numbers of a record by name, without its epoch."""
    flat = {k: v for k, v in record.items() if isinstance(v, (int, float)) and k != "epoch"}
    flat.update({f"firing_rate/{k}": v for k, v in record.get("firing_rates", {}).items()})
    return flat


def draw_curves(records: Records, path: Path) -> None:
    """Loss and accuracy over epochs, the phase of each epoch shaded and named.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError("matplotlib", "report", "draw curves.png") from error
    colours = {"B": "#dfe8f5", "S": "#f7dcd4", "H": "#e2f0dc"}
    epochs = [r["epoch"] for r in records]
    figure = Figure(figsize=(7.5, 5.5))
    canvas = FigureCanvasAgg(figure)
    # Places given, not computed from the sizes of all texts, which takes longer than the drawing.
    edges = {"left": 0.11, "right": 0.98, "bottom": 0.1, "top": 0.95, "hspace": 0.1}
    loss, accuracy = figure.subplots(2, 1, sharex=True, gridspec_kw=edges)
    for axis in (loss, accuracy):
        for epoch, record in zip(epochs, records):
            colour = colours.get(record["phase"], "#eeeeee")
            axis.axvspan(epoch - 0.5, epoch + 0.5, color=colour, linewidth=0)
    for epoch, text in zip(epochs, _phase_texts([r["phase"] for r in records])):
        axes = ("data", "axes fraction")
        loss.annotate(text, (epoch, 1.02), xycoords=axes, ha="center", fontsize=9)
    loss.plot(epochs, [r["loss"] for r in records], "o-", color="#33557f", label="training loss")
    for key, style in (("train_accuracy", "o--"), (TEST, "s-"), (VALIDATION, "s-")):
        points = [(r["epoch"], 100 * r[key]) for r in records if r.get(key) is not None]
        if points:
            accuracy.plot(*zip(*points), style, label=key.replace("_", " "))
    loss.set_ylabel("loss")
    accuracy.set_ylabel("accuracy in %")
    accuracy.xaxis.get_major_locator().set_params(integer=True)
    accuracy.set_xlabel("epoch (B: STBP, S: STDP, H: STDP-STBP)")
    for axis in (loss, accuracy):
        axis.legend(loc="best", fontsize=8)
    with atomic_file(path) as part:
        canvas.print_figure(str(part), format="png", dpi=110)


def _phase_texts(phases: Sequence[str]) -> list[str]:
    """Letters of all epochs; a name where it begins, for lack of room."""
    before = ["", *phases]
    return [
        phase[:1] if phase[:1].isupper() else phase if phase != last else ""
        for last, phase in zip(before, phases)
    ]
