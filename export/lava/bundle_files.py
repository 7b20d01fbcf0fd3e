"""Writing a Lava bundle: the folder that ``python run_lava.py`` runs with lava-nc and numpy alone."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import biril_nm
from biril_nm import arguments, compartments, decision, loihi
from biril_nm.compartments import CompartmentModel, clearing, source_of
from biril_nm.display import shown
from biril_nm.export.lava import bundle as lava_bundle
from biril_nm.hw_graph import LoihiGraph
from biril_nm.recording.readout import decision_of
from biril_nm.storage import atomic_directory, write_npz

__all__ = ["RUNNER", "write_bundle"]

RUNNER = "run_lava.py"
SCRIPTS = (
    RUNNER,
    "lava_network.py",
    "lava_compat.py",
    "lava_files.py",
    "lava_parts.py",
    "lava_compartments.py",
    "lava_learning.py",
    "lava_hardware.py",
)
FLOORS = (arguments, loihi, compartments)  # packages that the files of compartment models import
MODELS = "biril_neurons"  # package of those files in a bundle
DESCRIPTION = "network"  # name of the JSON text (UTF-8 bytes) in network.npz

README = """\
{title}

A spiking network exported by biril-nm {version} for Lava. It needs lava-nc and numpy (scipy comes
with lava-nc), neither biril-nm nor torch:

    pip install "lava-nc==0.10.0" "numpy<2"        # Python 3.10; later ones: see lava_compat.py
    python run_lava.py{example}

  run_lava.py      streams samples through the network and prints one prediction per sample
  lava_network.py  makes the Lava Processes (class LavaNetwork, for use in programs of your own)
  lava_compat.py   lets Lava run on Python 3.11 and later, and on NumPy 2
  lava_files.py    checked reading of the files
  decision.py      which class wins: here by {decision}
  lava_parts.py    neurons that rest between samples, delays, recording
  lava_compartments.py, clearing.py  neurons of other models than Lava's LIF{models}
  lava_learning.py plastic connections and third factors (run_lava.py --learn)
  lava_hardware.py the same network on Loihi 2 (run_lava.py --hardware, needs Intel's lava-loihi; never
                   run on silicon by biril-nm)
  network.npz      structure (JSON) and integer weights and registers{sample}

Options: --spikes X.npz  --out TRACE.npz  --samples N  --record s,u,v  --learn
Spikes: {spikes}
Nodes:  {nodes}
"""


def write_bundle(
    graph: LoihiGraph,
    description: dict[str, Any],
    arrays: dict[str, NDArray[Any]],
    sample: dict[str, NDArray[Any]] | None,
    path: str | Path,
    force: bool,
) -> Path:
    """Write the folder ``path`` atomically and return it."""
    target = Path(path)
    text = json.dumps(description).encode("utf-8")
    scripts = Path(lava_bundle.__file__).parent
    own = {node.model: node.compartment for node in graph.neurons.values()}
    models = [model for model in own.values() if not model.lava_process]
    with atomic_directory(target, force, folder_with=RUNNER) as folder:
        copied = (Path(str(module.__file__)) for module in (clearing, decision))
        for path_in in (*(scripts / name for name in SCRIPTS), *copied):
            (folder / path_in.name).write_bytes(path_in.read_bytes())
        if models:
            _write_models(folder / MODELS, models)
        header = np.frombuffer(text, dtype=np.uint8)
        write_npz(folder / "network.npz", {DESCRIPTION: header, **arrays})
        if sample is not None:
            write_npz(folder / "input.npz", _input_arrays(graph, sample))
        readme = _readme(graph, target.name, sample is not None, [model.name for model in models])
        (folder / "README.txt").write_text(readme, encoding="utf-8")
    return target


def _input_arrays(graph: LoihiGraph, sample: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """One input is called ``spikes``; several keep their names."""
    narrow = {
        name: array.astype(np.uint8 if graph.inputs[name].message_bits == 0 else np.int32)
        for name, array in sample.items()
    }
    return {"spikes": next(iter(narrow.values()))} if len(narrow) == 1 else narrow


def _write_models(folder: Path, models: list[CompartmentModel]) -> None:
    """The files that define models, and what they import, as a package of another name."""
    folder.mkdir()
    _copy(Path(biril_nm.__file__).with_name("errors.py"), folder / "errors.py")
    text = '"""The parts of biril-nm that define the neurons of this network."""\n'
    (folder / "__init__.py").write_text(text, encoding="utf-8")
    packages = [Path(str(package.__file__)).parent for package in FLOORS]
    for package in packages:
        (folder / package.name).mkdir()
        for file in sorted(package.glob("*.py")):
            _copy(file, folder / package.name / file.name)
    for model in models:
        file = source_of(model.name)
        if file.parent not in packages:
            _copy(file, folder / f"compartment_{model.name}.py")


def _copy(file: Path, target: Path) -> None:
    """Copy a Python file; where it says biril_nm it says :data:`MODELS`."""
    text = re.sub(r"\bbiril_nm\b", MODELS, file.read_text(encoding="utf-8"))
    target.write_text(text, encoding="utf-8")


def _plain(name: str) -> str:
    """A name on one line, without what a terminal would obey."""
    return shown(name, lines=False)


def _readme(graph: LoihiGraph, title: str, has_sample: bool, models: list[str]) -> str:
    single = len(graph.inputs) == 1
    spikes = "; ".join(
        f"array '{'spikes' if single else _plain(name)}' (n_steps, batch, "
        f"{', '.join(map(str, node.shape))}), "
        + (f"integers {node.low}..{node.high}" if node.message_bits else "0 or 1")
        for name, node in graph.inputs.items()
    )
    return README.format(
        title=_plain(title),
        version=biril_nm.__version__,
        decision=decision_of(graph),
        example="" if has_sample else " --spikes X.npz",
        models=f"; {MODELS}/ defines {', '.join(models)}" if models else "",
        sample="\n  input.npz        sample input, used without --spikes" if has_sample else "",
        spikes=spikes,
        nodes=", ".join(f"{_plain(name)} {node.shape}" for name, node in graph.neurons.items()),
    )
