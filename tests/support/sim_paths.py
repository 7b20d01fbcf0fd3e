"""Every way through the simulator, forced in turn: the same integers must come out.

A way is a path of the engine (all values of all fields of ``engine.paths.Paths``), or a form of the run:
what its arguments decide.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, get_args, get_type_hints

import numpy as np
from numpy.testing import assert_array_equal

from biril_nm.errors import ConfigError
from biril_nm.hardware_sim import Simulator, simulate
from biril_nm.hardware_sim.engine.paths import Paths
from biril_nm.hardware_sim.engine.program import Program, compile_graph
from biril_nm.hardware_sim.kernels.records import SparseWeights
from biril_nm.hardware_sim.learning.stream import learning_program, make_groups
from biril_nm.hw_graph import Conv, LoihiGraph, Sparse
from biril_nm.recording import LEARNING_VARIABLES, Recording

Integers = dict[str, np.ndarray]
BEST = Paths()


def _values(field: str) -> tuple[str, ...]:
    return get_args(get_args(get_type_hints(Paths)[field])[0])


# All values of all fields: a new one is forced without a word here.
ALL_PATHS = tuple(Paths(**{f.name: v}) for f in fields(Paths) for v in _values(f.name))
# One of each kind that compiles little: for tests whose graphs come from elsewhere.
QUICK_PATHS = tuple(
    Paths(**{field: value})
    for field, value in {
        "step": "32 bits", "registers": "each", "receive": "buffered", "order": "by step",
        "block": "one", "power": "kept", "taps": "alone", "pixel": "division", "modulo": "passed",
    }.items()
)  # fmt: skip
OF_SPARSE = {"sparse", "targets"}
OF_CONV = {"taps", "pixel", "modulo"}
OF_LEARNING = {"learned", "shifts", "first_phase"}
# All that concern graphs that do not learn.
STATIC_PATHS = tuple(
    each for each in ALL_PATHS if not any(getattr(each, field) for field in OF_LEARNING)
)


def name_of(paths: Paths) -> str:
    """The fields that are set."""
    found = [f"{f.name}={getattr(paths, f.name)}" for f in fields(paths) if getattr(paths, f.name)]
    return ", ".join(found) or "best"


def again(graph: LoihiGraph) -> LoihiGraph:
    """An equal graph that is compiled anew."""
    return replace(graph)


def on_path(graph: LoihiGraph, paths: Paths, learns: bool = False) -> LoihiGraph | None:
    """An equal graph that runs, or learns, on these paths; None where a part of it refuses them."""
    copy = again(graph)
    try:
        compile_graph(copy, paths)
        if learns:
            program = learning_program(copy)
            make_groups(copy, program)
            assert program.meeting_points
    except ConfigError as error:
        assert "cannot take the path" in str(error)
        return None
    return copy


def integers(found: Recording, chip: bool = True) -> Integers:
    """Everything that a run gave, by name."""
    arrays = {f"count {name}": np.array(n) for name, n in found.n_spikes.items()}
    arrays |= {f"last {name}": np.asarray(v) for name, v in found.v_last.items()}
    times: dict[str, Mapping[str, Any]] = {"node": found}
    if chip:
        times["chip"] = found.chip_time()
    for time, nodes in times.items():
        for name, node in nodes.items():
            arrays |= {f"{time} {name}.{v}": np.asarray(a) for v, a in node.variables().items()}
    for name, connection in found.connections.items():
        arrays |= {f"{name}.{v}": np.asarray(a) for v, a in connection.variables().items()}
    return arrays


def _named(graph: LoihiGraph, spikes: Any) -> dict[str, np.ndarray]:
    return spikes if isinstance(spikes, dict) else {next(iter(graph.inputs)): spikes}


def _whole(graph: LoihiGraph, spikes: Any) -> Integers:
    return integers(simulate(graph, spikes, record="s,u,v", n_threads=1))


def _without_u(graph: LoihiGraph, spikes: Any) -> Integers:
    return integers(simulate(graph, spikes, record="s,v", n_threads=1))


def _nothing(graph: LoihiGraph, spikes: Any) -> Integers:
    return integers(simulate(graph, spikes, record=(), n_threads=1), chip=False)


def _threads(graph: LoihiGraph, spikes: Any) -> Integers:
    return integers(simulate(graph, spikes, record="s,u,v", n_threads=2))


def _spare_threads(graph: LoihiGraph, spikes: Any) -> Integers:
    """More threads than samples."""
    batch = next(iter(_named(graph, spikes).values())).shape[1]
    return integers(simulate(graph, spikes, record="s,u,v", n_threads=2 * batch))


def _every_row(graph: LoihiGraph, spikes: Any) -> Integers:
    """Repeated images as rows of their own."""
    return _whole(graph, {name: np.array(x) for name, x in _named(graph, spikes).items()})


def _narrow_input(graph: LoihiGraph, spikes: Any) -> Integers:
    """Inputs in a byte."""
    return _whole(graph, {name: x.astype(np.int8) for name, x in _named(graph, spikes).items()})


def _session(graph: LoihiGraph, spikes: Any) -> Integers:
    """Two runs of a session."""
    arrays = _named(graph, spikes)
    n_steps, batch = next(iter(arrays.values())).shape[:2]
    session = Simulator(graph, batch)
    cuts = [slice(0, n_steps // 2), slice(n_steps // 2, n_steps)]
    parts = [
        integers(session.run({k: x[cut] for k, x in arrays.items()}, "s,u,v"), chip=False)
        for cut in cuts
        if cut.start < cut.stop
    ]
    keys = [key for key in parts[0] if key.startswith("node")]
    return {key: np.concatenate([part[key] for part in parts]) for key in keys}


def _steps(graph: LoihiGraph, spikes: Any) -> Integers:
    """Single steps of a session."""
    arrays = _named(graph, spikes)
    n_steps, batch = next(iter(arrays.values())).shape[:2]
    session = Simulator(graph, batch)
    found = [
        session.step({k: x[t].astype(np.uint8) for k, x in arrays.items()}) for t in range(n_steps)
    ]
    named = [each if isinstance(each, dict) else None for each in found]
    if named[0] is not None:
        return {f"node {k}.s": np.stack([each[k] for each in named if each]) for k in named[0]}
    (output,) = (a for a, b in graph.edges if b in graph.outputs)
    return {f"node {output}.s": np.stack(found)}


def _learns(graph: LoihiGraph, spikes: Any) -> Integers:
    """A run that learns."""
    record = ("s", "u", "v", *LEARNING_VARIABLES)
    found = simulate(graph, spikes, record=record, learn=True)
    arrays = integers(found)
    for name, node in found.graph.plastic.items():
        arrays[f"learned {name}"] = getattr(node.weight, "data", node.weight)
    return {k: np.asarray(a) for k, a in arrays.items()}


Form = Callable[[LoihiGraph, Any], Integers]
WHOLE, LEARNS = "whole", "learns"
FORMS: dict[str, Form] = {
    WHOLE: _whole,
    "u not recorded": _without_u,
    "nothing recorded": _nothing,
    "two threads": _threads,
    "spare threads": _spare_threads,
    "every row": _every_row,
    "input in bytes": _narrow_input,
    "session": _session,
    "single steps": _steps,
}
LEARNING_FORMS: dict[str, Form] = {LEARNS: _learns}


@dataclass(frozen=True)
class Case:
    """A graph and its input; ``learns``: run so that it learns."""

    name: str
    graph: LoihiGraph
    spikes: Any
    learns: bool = False

    @property
    def forms(self) -> dict[str, Form]:
        """Forms of a run, the first of which gives all integers."""
        if self.learns:
            return LEARNING_FORMS
        values = _named(self.graph, self.spikes).values()
        unsigned = all(x.min(initial=0) >= 0 for x in values)
        left_out = () if unsigned else ("single steps",)
        return {name: form for name, form in FORMS.items() if name not in left_out}

    @property
    def batch(self) -> int:
        """Number of samples."""
        return next(iter(_named(self.graph, self.spikes).values())).shape[1]

    def wanted(self) -> Integers:
        """All integers, by the best paths."""
        first = next(iter(self.forms.values()))
        return first(again(self.graph), self.spikes)

    def matters(self, paths: Paths) -> bool:
        """Whether the fields that are set concern this graph."""
        given = {f.name for f in fields(paths) if getattr(paths, f.name)}
        kinds = {type(each) for each in self.graph.connections.values()}
        needed = (
            (OF_CONV, Conv in kinds),
            (OF_SPARSE, Sparse in kinds),
            (OF_LEARNING, self.learns),
        )
        return not any(given & names and not has for names, has in needed)


def assert_same(found: Integers, wanted: Integers, where: str) -> None:
    """What a form of a run gives equals what all integers say of it."""
    assert found, where
    for key, array in found.items():
        assert_array_equal(array, wanted[key], f"{where}: {key}")


def spoil(program: Program) -> None:
    """Make all weights of a program wrong by one."""
    for links in program.incoming.values():
        for link in links:
            link.weights.values[...] += 1
            if isinstance(link.weights, SparseWeights):
                link.weights.total[...] += 1


def assert_every_path_gives(
    graph: LoihiGraph, spikes: Any, wanted: Recording, paths: Iterable[Paths] = QUICK_PATHS
) -> None:
    """Each path, with u recorded and without (a shorter step), equals what another engine recorded."""
    expected = integers(wanted, chip=False)
    expected = {key: array for key, array in expected.items() if key.startswith("node")}
    for each in (BEST, *paths):
        copy = on_path(graph, each)
        for record in ("s,u,v", "s,v") if copy is not None else ():
            found = integers(simulate(copy, spikes, record=record, n_threads=1), chip=False)
            named = {key: array for key, array in found.items() if key in expected}
            assert_same(named, expected, f"{name_of(each)}, recorded {record}")
