"""Starts: the command line, the first simulation after an installation, and from a file to the first sample.

An empty folder for numba's code (NUMBA_CACHE_DIR) stands for a machine that has just installed the package.

    python benchmarks/starting.py [--quick]
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from measuring import HERE, Measured, in_child, peak_kib, say
from profiling import compilations, imports
from section import Row, Section, Size, alone, at_most, table
from workloads import WORKLOADS

COMMANDS = {"biril --help": (["--help"], 0.3), "biril info": (["info"], 1.0)}
DIGITS, RESIDUAL = "digits net", "ResNet-18-sized net"
FIRST = {DIGITS: (8.0, 5.0), RESIDUAL: (10.0, 6.0)}  # seconds, and stretch
DENSITY = 0.1
Facts = dict[str, Any]


# --- in processes of their own --------------------------------------------------------------------


def save(name: str, path: str, quick: bool) -> None:
    """Write the graph of an untrained network."""
    from large_networks import lowered

    if name != DIGITS:
        lowered(name, quick).save(path)
        return
    import biril_nm as bnm
    from biril_nm.export import lower, to_nir

    lower(to_nir(bnm.build_model("convnet", bnm.ModelConfig(), seed=0))).save(path)


def first_simulation(path: str, n_steps: int) -> Facts:
    """Seconds from the file to the first answer, and what was compiled."""
    began = time.perf_counter()
    from biril_nm.hardware_sim import simulate
    from biril_nm.hw_graph import LoihiGraph

    graph = LoihiGraph.load(path)
    (node,) = graph.inputs.values()
    top = 1 << max(1, node.message_bits)
    spikes = np.random.default_rng(0).integers(0, top, (n_steps, 1, *node.shape))
    loaded = time.perf_counter()
    count, compiling, longest = compilations(lambda: simulate(graph, spikes))
    done = time.perf_counter()
    return {
        "seconds": done - began, "loading": loaded - began, "count": count, "compiling": compiling,
        "longest": longest,
    }  # fmt: skip


def file_to_answer(path: str, n_steps: int, n_samples: int) -> Facts:
    """Times from import to the first sample, compiled code at hand, and peaks of memory."""
    began = time.perf_counter()
    from biril_nm.hardware_sim import simulate
    from biril_nm.hw_graph import LoihiGraph

    imported = time.perf_counter()
    graph = LoihiGraph.load(path)
    (node,) = graph.inputs.values()
    shape = (n_steps, n_samples, *node.shape)
    spikes = (np.random.default_rng(0).random(shape) < DENSITY).astype(np.uint8)
    simulate(graph, spikes[:, :1], record=(), n_threads=1)
    first, before = time.perf_counter(), peak_kib()
    simulate(graph, spikes, record=(), n_threads=1)
    return {
        "import": imported - began, "first": first - imported, "one": before / 1024,
        "batch": peak_kib() / 1024, "input": spikes.nbytes / 2**20,
    }  # fmt: skip


# --- the section ----------------------------------------------------------------------------------


def command(arguments: Sequence[str], rounds: int) -> Measured:
    """Wall seconds of ``biril ARGUMENTS``; a first call does not count."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parents[1]), *sys.path])}
    call = [sys.executable, "-m", "biril_nm", *arguments]
    seconds = []
    for _ in range(rounds + 1):
        began = time.perf_counter()
        subprocess.run(call, env=environment, stdout=subprocess.DEVNULL, check=True)
        seconds.append(time.perf_counter() - began)
    return Measured.of(seconds[1:])


def cold(name: str, folder: Path, size: Size) -> Row:
    """The first simulation of a network with an empty cache; a median of processes."""
    path = folder / "graph.loihi.npz"
    path.unlink(missing_ok=True)
    in_child(save, name, str(path), size.quick)
    found = []
    for i in range(size.of(3, 1)):
        cache = folder / f"{name.split(maxsplit=1)[0]}{i}"
        cache.mkdir(mode=0o700)
        found.append(in_child(first_simulation, str(path), 4, NUMBA_CACHE_DIR=str(cache)))
    one = found[0]
    reason = (
        f"{one['count']} functions compiled in this process, {one['compiling']:.1f} s of the first run's "
        f"{one['seconds']:.1f} s ({one['longest']}); loading {one['loading']:.1f} s"
    )
    goal, stretch = FIRST[name]
    seconds = Measured.of([each["seconds"] for each in found])
    what = f"first simulation after installation, {name}"
    return at_most(what, seconds, goal, " s", reason, stretch)


def warm(folder: Path, size: Size) -> str:
    """Fresh processes with compiled code at hand: from file to first sample, and memory."""
    lines = []
    for name, make in WORKLOADS.items():
        work, path = make(), str(folder / f"{name}.loihi.npz")
        work.graph().save(path)
        n_samples = size.of(128, 8)
        runs = [
            in_child(file_to_answer, path, work.n_steps, n_samples) for _ in range(size.of(3, 1))
        ]
        one = {key: median(run[key] for run in runs) for key in runs[0]}
        lines.append(
            (name, f"{one['import']:.2f}", f"{one['first']:.2f}", f"{one['one']:.0f}",
             f"{one['batch']:.0f} ({one['input']:.0f} of it input)")
        )  # fmt: skip
    return table(
        ("net", "import, s", "file to first sample, s", "peak MiB, one sample", "peak MiB, batch"),
        lines,
    )


def section(size: Size) -> Section:
    """All starts."""
    rows = []
    for name, (arguments, goal) in COMMANDS.items():
        say(f"  {name}")
        seconds = command(arguments, size.rounds)
        rows.append(at_most(name, seconds, goal, " s", imports(["-m", "biril_nm", *arguments])))
    with tempfile.TemporaryDirectory() as folder:
        for name in size.of(list(FIRST), [DIGITS]):
            say(f"  first simulation: {name}")
            rows.append(cold(name, Path(folder), size))
        text = "Fresh processes with compiled code at hand:\n\n" + warm(Path(folder), size)
    return Section("Cold start and memory", rows, text)


if __name__ == "__main__":
    alone(section, __doc__)
