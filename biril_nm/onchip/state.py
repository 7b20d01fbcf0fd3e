"""The folder of a run on the chip: its state, its accuracy curve, and what was learned."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from biril_nm.arguments import checked
from biril_nm.arrays import Array
from biril_nm.errors import ConfigError, FileFormatError, OutputExistsError, bullet_list
from biril_nm.hw_graph import LoihiGraph
from biril_nm.storage import atomic_file, lock_folder, read_document, write_document

__all__ = ["FILES", "LEARNED", "METRICS", "PLASTIC", "STATE", "RunFolder", "open_run_folder"]

STATE = "state.npz"  # the session after some samples
METRICS = "metrics.jsonl"  # points of the accuracy curve
PLASTIC = "plastic.loihi.npz"  # the network with all that teaches it
LEARNED = "learned.loihi.npz"  # its layers alone
FILES = (STATE, METRICS, LEARNED, PLASTIC)
FORMAT, VERSION = "biril-nm chip training", 1
NEEDED = ("pass", "samples", "samples_per_s")  # of a point of the curve
OPTIONAL = ("validation_accuracy", "test_accuracy")
MORE = "passes"  # the only setting that a run which goes on may change


class RunFolder:
    """Where one run keeps what it needs to go on; made by :func:`open_run_folder`.

    Args:
        path: the folder, which this process holds.
        resume: whether the run that is there goes on.
    """

    def __init__(self, path: Path, resume: bool) -> None:
        self.path, self._resume = path, resume
        self._header: dict[str, Any] = {}

    def begin(
        self,
        plan: Mapping[str, Any],
        samples: Mapping[str, Any],
        load_state: Callable[[Mapping[str, Array]], None],
    ) -> list[dict[str, Any]]:
        """Take note of a run; one that goes on gets its state and its records.

        Raises:
            ConfigError: the run that is there has other settings or samples.
            FileFormatError: a damaged state.
        """
        header = {"format": FORMAT, "version": VERSION, "plan": plan, "samples": samples}
        self._header = json.loads(json.dumps(header))
        if not self._resume:
            return []
        path = self.path / STATE
        before, arrays = read_document(path, FORMAT, (VERSION,))
        records = before.get("records")
        if not isinstance(records, list) or not all(map(_is_record, records)):
            raise FileFormatError(
                f"'{path}' has no points of a curve; expected the state of a run. Start it again"
            )
        findings = [
            f"{part}: {name} {was!r:.60} before, {now!r:.60} now"
            for part in ("plan", "samples")
            for name, was, now in _differences(before.get(part), self._header[part])
        ]
        if findings:
            raise ConfigError(
                bullet_list(
                    f"'{self.path}' belongs to another run. Resume with the same settings or choose another "
                    f"folder:",
                    findings,
                )
            )
        load_state(arrays)
        self._write_curve(records)  # a kill after the state was written leaves an older one
        return records

    def save(self, state: Mapping[str, Array], records: list[dict[str, Any]]) -> None:
        """Write the state and the curve so far, each of them whole or not at all."""
        header = {**self._header, "records": records}
        write_document(self.path / STATE, header, dict(state), compress=False)
        self._write_curve(records)

    def _write_curve(self, records: list[dict[str, Any]]) -> None:
        with atomic_file(self.path / METRICS) as part:
            part.write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")

    def finish(self, graph: LoihiGraph, layers: LoihiGraph) -> None:
        """Write what was learned."""
        graph.save(self.path / PLASTIC, force=True)
        layers.save(self.path / LEARNED, force=True)


def _is_record(record: Any) -> bool:
    """Whether it is a point of a curve: two whole numbers, and others that may be missing."""
    if not isinstance(record, dict) or not {*NEEDED} <= set(record) <= {*NEEDED, *OPTIONAL}:
        return False
    whole = all(type(record[name]) is int for name in NEEDED[:2])
    return whole and all(type(value) in (int, float) for value in record.values())


def _differences(before: Any, now: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    old = before if isinstance(before, dict) else {}
    keys = sorted({*map(str, old), *now} - {MORE})
    return [(k, old.get(k), now.get(k)) for k in keys if old.get(k) != now.get(k)]


@contextmanager
@checked
def open_run_folder(path: Path, resume: bool = False, force: bool = False) -> Iterator[RunFolder]:
    """Hold a folder for one run; with ``force`` what an earlier run left is removed.

    Raises:
        OutputExistsError: the folder holds a run, and neither resume nor force is set.
        OutputInUseError: another process learns into the folder.
        ConfigError: the folder holds no run to continue.
    """
    if resume and not (path / STATE).is_file():
        raise ConfigError(
            f"'{path}' does not hold a run that can go on: {STATE} is missing; expected a folder of biril "
            f"chip-train. Check the folder, or leave --resume (resume=True) out"
        )
    found = [name for name in FILES if (path / name).exists()]
    if found and not (resume or force):
        raise OutputExistsError(
            f"'{path}' holds a run already ({found[0]}). Continue it with --resume (resume=True), replace "
            f"it with --force (force=True), or choose another folder"
        )
    with lock_folder(path):
        if force and not resume:
            for name in FILES:
                (path / name).unlink(missing_ok=True)
        yield RunFolder(path, resume)
