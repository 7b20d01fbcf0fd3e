"""Names of version 0.1 that have changed: they work for one more release, with a warning.

Each old module name is a module of its own that reads from the new one, so that both names give the
same classes.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from importlib.machinery import ModuleSpec
from types import ModuleType

TYPE_CHECKING = False  # typing and importlib.abc would be most of what importing biril_nm takes
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

__all__ = ["MOVED", "install", "renamed"]

MOVED = {
    "biril_nm.adaptation": "biril_nm.studies.adaptation",
    "biril_nm.channels_last": "biril_nm.recording.channels_last",
    "biril_nm.domain_shift": "biril_nm.data.shifts",
    "biril_nm.export.drawings": "biril_nm.export.report.drawings",
    "biril_nm.export.figures": "biril_nm.export.report.figures",
    "biril_nm.export.hdf5_files": "biril_nm.storage.hdf5",
    "biril_nm.export.lava_bundle": "biril_nm.export.lava.bundle",
    "biril_nm.export.lava_bundle.lava_learning": "biril_nm.export.lava.bundle.lava_learning",
    "biril_nm.export.lava_bundle.lava_network": "biril_nm.export.lava.bundle.lava_network",
    "biril_nm.export.lava_bundle.lava_parts": "biril_nm.export.lava.bundle.lava_parts",
    "biril_nm.export.lava_bundle.run_lava": "biril_nm.export.lava.bundle.run_lava",
    "biril_nm.export.lava_description": "biril_nm.export.lava.description",
    "biril_nm.export.lava_files": "biril_nm.export.lava.bundle_files",
    "biril_nm.export.lava_learning_checks": "biril_nm.export.lava.design_rules",
    "biril_nm.export.loihi_to_nir": "biril_nm.export.nir_files.exact_writing",
    "biril_nm.export.netx_reading": "biril_nm.export.netx.reading",
    "biril_nm.export.netx_records": "biril_nm.export.netx.records",
    "biril_nm.export.netx_weights": "biril_nm.export.netx.weights",
    "biril_nm.export.netx_writing": "biril_nm.export.netx.writing",
    "biril_nm.export.passes": "biril_nm.export.lowering.passes",
    "biril_nm.export.passes.assemble": "biril_nm.export.lowering.passes.assemble",
    "biril_nm.export.passes.balance_delays": "biril_nm.export.lowering.passes.balance_delays",
    "biril_nm.export.passes.balanced_rounding": "biril_nm.export.lowering.numbers.balanced_rounding",
    "biril_nm.export.passes.calibrate": "biril_nm.export.lowering.passes.calibrate",
    "biril_nm.export.passes.exact_registers": "biril_nm.export.nir_files.exact_reading",
    "biril_nm.export.passes.fold_batchnorm": "biril_nm.export.nir_nodes.fold_batchnorm",
    "biril_nm.export.passes.linear_maps": "biril_nm.export.nir_nodes.linear_maps",
    "biril_nm.export.passes.links": "biril_nm.export.lowering.passes.float_net",
    "biril_nm.export.passes.neuron_kinds": "biril_nm.export.nir_nodes.neurons",
    "biril_nm.export.passes.node_metadata": "biril_nm.export.nir_nodes.metadata",
    "biril_nm.export.passes.plain_graph": "biril_nm.export.lowering.passes.plain_graph",
    "biril_nm.export.passes.quantize": "biril_nm.export.lowering.passes.quantize",
    "biril_nm.export.passes.settle": "biril_nm.export.lowering.passes.settle",
    "biril_nm.export.passes.state_bounds": "biril_nm.export.lowering.numbers.state_bounds",
    "biril_nm.export.passes.stateless": "biril_nm.export.nir_nodes.stateless",
    "biril_nm.export.passes.typed_convolutions": "biril_nm.export.nir_nodes.typed_convolutions",
    "biril_nm.export.passes.weight_grid": "biril_nm.export.lowering.numbers.weight_grid",
    "biril_nm.export.torch_functions": "biril_nm.export.from_torch.functions",
    "biril_nm.export.torch_graph": "biril_nm.export.from_torch.graph",
    "biril_nm.export.torch_layers": "biril_nm.export.from_torch.layers",
    "biril_nm.export.torch_modules": "biril_nm.export.from_torch.module",
    "biril_nm.export.torch_neurons": "biril_nm.export.from_torch.neurons",
    "biril_nm.export.torch_operations": "biril_nm.export.from_torch.operations",
    "biril_nm.export.torch_runs": "biril_nm.export.from_torch.runs",
    "biril_nm.export.torch_signals": "biril_nm.export.from_torch.signals",
    "biril_nm.export.torch_steps": "biril_nm.export.from_torch.wiring",
    "biril_nm.export.torch_tracer": "biril_nm.export.from_torch.tracer",
    "biril_nm.export.torch_tracked": "biril_nm.export.from_torch.call",
    "biril_nm.fixed_point": "biril_nm.loihi.fixed_point",
    "biril_nm.graph_checks": "biril_nm.hw_graph.wiring",
    "biril_nm.graph_io": "biril_nm.hw_graph.files",
    "biril_nm.graph_metadata": "biril_nm.hw_graph.metadata",
    "biril_nm.graph_report": "biril_nm.hw_graph.table",
    "biril_nm.graph_values": "biril_nm.hw_graph.values",
    "biril_nm.hardware_sim.activity": "biril_nm.hardware_sim.cost.activity",
    "biril_nm.hardware_sim.components": "biril_nm.hardware_sim.engine.components",
    "biril_nm.hardware_sim.conv_tables": "biril_nm.hardware_sim.engine.conv_tables",
    "biril_nm.hardware_sim.energy": "biril_nm.hardware_sim.cost.energy",
    "biril_nm.hardware_sim.fanout": "biril_nm.hardware_sim.cost.fanout",
    "biril_nm.hardware_sim.feeds": "biril_nm.hardware_sim.engine.feeds",
    "biril_nm.hardware_sim.jit": "biril_nm.hardware_sim.kernels.jit",
    "biril_nm.hardware_sim.kernels_finish": "biril_nm.hardware_sim.kernels.finish",
    "biril_nm.hardware_sim.kernels_group": "biril_nm.hardware_sim.kernels.learning.steps",
    "biril_nm.hardware_sim.kernels_lanes": "biril_nm.hardware_sim.kernels.lanes",
    "biril_nm.hardware_sim.kernels_learning": "biril_nm.hardware_sim.kernels.learning.phase",
    "biril_nm.hardware_sim.kernels_neuron": "biril_nm.hardware_sim.kernels.neuron",
    "biril_nm.hardware_sim.kernels_plan": "biril_nm.hardware_sim.kernels.learning.plan",
    "biril_nm.hardware_sim.kernels_products": "biril_nm.hardware_sim.kernels.learning.products",
    "biril_nm.hardware_sim.kernels_rows": "biril_nm.hardware_sim.kernels.learning.short_cuts",
    "biril_nm.hardware_sim.kernels_synapse": "biril_nm.hardware_sim.kernels.synapse",
    "biril_nm.hardware_sim.kernels_traces": "biril_nm.hardware_sim.kernels.learning.traces",
    "biril_nm.hardware_sim.layout": "biril_nm.hardware_sim.engine.layout",
    "biril_nm.hardware_sim.learning_group": "biril_nm.hardware_sim.learning.group",
    "biril_nm.hardware_sim.learning_rules": "biril_nm.hardware_sim.learning.rule_tables",
    "biril_nm.hardware_sim.mapping_search": "biril_nm.hardware_sim.mapping.search",
    "biril_nm.hardware_sim.mapping_splits": "biril_nm.hardware_sim.mapping.splits",
    "biril_nm.hardware_sim.metrics": "biril_nm.hardware_sim.cost.neurobench",
    "biril_nm.hardware_sim.plasticity": "biril_nm.hardware_sim.learning.connections",
    "biril_nm.hardware_sim.probes": "biril_nm.hardware_sim.engine.recorder",
    "biril_nm.hardware_sim.program": "biril_nm.hardware_sim.engine.program",
    "biril_nm.hardware_sim.synapses": "biril_nm.hardware_sim.engine.synapses",
    "biril_nm.learning.exact": "biril_nm.training.local_rule.chip_learner",
    "biril_nm.learning.feature_kernels": "biril_nm.studies.features.kernels",
    "biril_nm.learning.feature_study": "biril_nm.studies.features.study",
    "biril_nm.learning.features": "biril_nm.studies.features.learner",
    "biril_nm.learning.gating": "biril_nm.training.local_rule.gating",
    "biril_nm.learning.latency": "biril_nm.studies.features.latency",
    "biril_nm.learning.plasticity": "biril_nm.training.local_rule.plasticity",
    "biril_nm.learning.readout": "biril_nm.studies.ridge",
    "biril_nm.learning.streams": "biril_nm.learning.random_streams",
    "biril_nm.learning.torch_engine": "biril_nm.training.local_rule.torch_engine",
    "biril_nm.learning_window": "biril_nm.studies.learning_window",
    "biril_nm.loihi_limits": "biril_nm.loihi.cores",
    "biril_nm.neurons.integrate_and_fire": "biril_nm.neurons.integrator",
    "biril_nm.neurons.leaky": "biril_nm.neurons.lif",
    "biril_nm.plastic": "biril_nm.hw_graph.plastic",
    "biril_nm.readout_learning": "biril_nm.studies.readout",
    "biril_nm.sharding": "biril_nm.evaluation.sharding",
    "biril_nm.timing": "biril_nm.hw_graph.timing",
    "biril_nm.torch_trace": "biril_nm.engines.torch_net",
    "biril_nm.trace": "biril_nm.recording",
    "biril_nm.trace_folder": "biril_nm.recording.folder",
    "biril_nm.training.evaluate": "biril_nm.training.accuracy",
    "biril_nm.unroll": "biril_nm.hw_graph.convolutions",
}


class _KeepsItsNames(ModuleType):
    """A package in which an old module never replaces the object that has its name today."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not isinstance(value, ModuleType) or isinstance(
            self.__dict__.get(name, value), ModuleType
        ):
            super().__setattr__(name, value)


class _OldName:
    """Finds the old names, and nothing else; asked after every other finder."""

    def create_module(self, spec: ModuleSpec) -> None:
        """A plain module."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in MOVED:
            return None
        is_package = any(name.startswith(f"{fullname}.") for name in MOVED)
        loader: Any = self
        return ModuleSpec(fullname, loader, is_package=is_package)

    def exec_module(self, module: ModuleType) -> None:
        new = MOVED[module.__name__]
        warnings.warn(
            f"module '{module.__name__}' has moved; import '{new}'",
            DeprecationWarning,
            stacklevel=2,
        )
        home = importlib.import_module(new)

        def read_from_home(name: str) -> Any:
            return getattr(home, name)

        module.__dict__["__getattr__"] = read_from_home
        if hasattr(home, "__all__"):
            module.__dict__["__all__"] = home.__all__
        _keep_the_name(module.__name__)


def _keep_the_name(old: str) -> None:
    """The import system sets a module on its package, where the name may belong to a function."""
    package, _, name = old.rpartition(".")
    parent = sys.modules[package]
    today = getattr(parent, name, None)
    if today is not None and not isinstance(today, ModuleType):
        parent.__dict__[name] = today
        parent.__class__ = _KeepsItsNames


def install() -> None:
    """Let the old names be found."""
    if not any(isinstance(finder, _OldName) for finder in sys.meta_path):
        sys.meta_path.append(_OldName())


def renamed(module: str, names: Mapping[str, Any]) -> Callable[[str], Any]:
    """``__getattr__`` of a module whose names have changed: old name -> object under its new name.

    Text is the module where the name is now, for one that cannot be imported at once.
    """

    def read_new_name(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module '{module}' has no attribute '{name}'")
        new = names[name]
        if isinstance(new, str):
            warnings.warn(f"'{name}' is now in '{new}'", DeprecationWarning, stacklevel=2)
            return getattr(importlib.import_module(new), name)
        warnings.warn(f"'{name}' is now '{new.__name__}'", DeprecationWarning, stacklevel=2)
        return new

    return read_new_name
