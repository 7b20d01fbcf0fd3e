"""A run on Lava in another interpreter: through a bundle, which needs neither torch nor biril-nm there."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biril_nm.errors import BirilError
from biril_nm.export.lava.bundle.run_lava import SYNAPTIC, RunFailedError
from biril_nm.export.lava.bundle_files import RUNNER, write_bundle
from biril_nm.export.lava.description import describe
from biril_nm.export.lava.interpreters import Interpreter, clean_environment
from biril_nm.hw_graph import LoihiGraph
from biril_nm.storage import read_npz
from biril_nm.storage.platform import end_group, in_own_group

__all__ = ["stream_elsewhere"]

Rows = dict[str, dict[str, Any]]
MAX_LINES = 5  # of what the other Python says about its failure


def stream_elsewhere(
    interpreter: Interpreter,
    graph: LoihiGraph,
    spikes: Mapping[str, NDArray[Any]],
    record: tuple[str, ...],
    stall_s: float,
    learn: bool,
) -> tuple[Rows, Rows]:
    """What :func:`biril_nm.export.lava.bundle.run_lava.stream` returns, and the last w, t, d by connection.

    Raises:
        RunFailedError: the run ended with an error.
    """
    with tempfile.TemporaryDirectory(prefix="biril-lava-") as name:
        folder = Path(name)
        write_bundle(graph, *describe(graph), dict(spikes), folder / "bundle", force=False)
        command = [interpreter.path, str(folder / "bundle" / RUNNER), "--chip-time", "--quiet"]
        command += ["--record", ",".join(record), "--out", str(folder / "rows.npz")]
        command += ["--stall", f"{stall_s:g}", *(["--learn"] if learn else [])]
        _run(command, folder)
        return _rows(folder / "rows.npz")


def _run(command: list[str], folder: Path) -> None:
    """Run to the end; whatever happens, no process of it is left."""
    errors = folder / "errors.txt"
    with errors.open("wb") as stream:  # a pipe would stay open in what Lava forks
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stream,
            cwd=folder,
            env=clean_environment(),
            **in_own_group(),
        )
        try:
            code = process.wait()
        finally:
            end_group(process)
    if code:
        said = errors.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        raise RunFailedError("\n".join(said[-MAX_LINES:]) or f"exit code {code}")


def _rows(path: Path) -> tuple[Rows, Rows]:
    try:
        arrays = read_npz(path)
    except BirilError as error:
        raise RunFailedError(str(error)) from error
    rows: Rows = {}
    finals: Rows = {}
    for key, array in arrays.items():
        name, _, variable = key.rpartition(".")
        if not name:
            continue
        if variable.removesuffix("_last") in SYNAPTIC and variable.endswith("_last"):
            finals.setdefault(name, {})[variable.removesuffix("_last")] = np.asarray(array)
        else:
            rows.setdefault(name, {})[variable] = np.asarray(array)
    return rows, finals
