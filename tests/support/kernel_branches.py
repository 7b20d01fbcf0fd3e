"""The branches of the compiled kernels, and what makes the tests take both ways of each.

``BRANCHES[function] = (number of branches, what takes them)``: a field of ``engine.paths.Paths``, a form of
a run, or a property of the graphs and rules of ``path_cases``. A branch that is added without a row here
fails a test (``tests/parity/test_every_path.py``).
"""

from __future__ import annotations

import ast
from pathlib import Path

from biril_nm.hardware_sim import kernels

# Files without a loop over neurons or synapses: how kernels are compiled, and records.
LEFT_OUT = ("__init__.py", "jit.py", "records.py", "plan.py")

BRANCHES = {
    # Sums of connections: graded or binary, many spikes or few, form of the tables.
    "synapse._known": (2, "delay, every row"),
    "synapse._sum_dense": (1, "many spikes"),
    "synapse._sum_graded_dense": (1, "graded"),
    "synapse._sum_sparse": (2, "sparse"),
    "synapse._sum_graded_sparse": (1, "graded, sparse"),
    "synapse._place": (3, "pixel, groups"),
    "synapse._sum_conv": (1, "taps"),
    "synapse._sum_graded_conv": (1, "graded"),
    "synapse.sum_spikes": (1, "every row"),
    "finish.deliver": (1, "types"),
    "finish._deliver_wide": (2, "modulo, receive"),
    "finish._deliver_narrow": (3, "modulo, receive, exponent"),
    "finish._deliver_modulo": (2, "modulo, receive"),
    # Populations.
    "lanes._add": (1, "types"),
    "lanes._step": (4, "registers, model"),
    "lanes.step": (4, "registers, model"),
    "lanes.generate": (4, "registers, model"),
    "lanes.register": (1, "registers"),
    "models.compiled": (1, "model"),
    "models.__getattr__": (1, "model"),
    "models.step_model": (1, "model"),
    "models._plain": (1, "registers, step"),
    "models._with_words": (1, "registers, model"),
    "models.advance": (1, "registers, step"),
    "neuron.wrap_32": (2, "step"),
    "neuron.clip_32": (2, "step"),
    "neuron._fire": (1, "model"),
    "neuron._fire_plain": (1, "step"),
    "neuron._step_memoryless": (2, "registers"),
    "neuron.step": (1, "registers"),
    "neuron._probe": (1, "u not recorded"),
    "neuron._advance": (1, "step"),
    "neuron._advance_cuba_lif": (3, "step, receive"),
    "neuron.is_at_rest": (1, "delay"),
    "neuron.clear_words": (1, "model"),
    "neuron._count": (1, "model"),
    "neuron.advance_row": (1, "delay"),
    # Steps of nodes that learn.
    "populations.advance_kinds": (1, "step"),
    "populations._advance_kind": (1, "samples"),
    "populations._registers": (1, "step"),
    "populations._step": (1, "step"),
    "populations._step_cuba_lif": (1, "model"),
    "steps._receive_links": (3, "loop"),
    "steps._sum_spikes": (5, "graded, sparse, loop, exponent"),
    "steps._pre_spikes": (1, "rule"),
    "steps._post_spikes": (2, "rule"),
    "steps._modulate": (4, "rule"),
    "steps._record": (4, "learns"),
    "steps._learn_step": (2, "rule"),
    # Learning phases.
    "phase._has_trace": (1, "rule"),
    "phase._learn_rows": (5, "learned, first_phase, sparse, rule"),
    "phase._learn_columns": (1, "sparse"),
    "phase._short_cuts": (3, "learned, shifts"),
    "phase._learn": (3, "learned, first_phase, sparse"),
    "phase.learning_phase": (1, "rule"),
    "short_cuts._rounded": (2, "sign mode"),
    "short_cuts.shift_table": (1, "shifts"),
    "short_cuts._row_shift": (2, "shifts"),
    "short_cuts.mask_targets": (1, "learned"),
    "short_cuts.shift_rows": (5, "learned, shifts, many spikes"),
    "short_cuts.pair_row": (6, "learned, rule"),
    "short_cuts.delta_rows": (5, "learned, rule"),
    "short_cuts._pair_y0": (1, "learned"),
    "products._accumulate": (2, "rule"),
    "products._keep_sign": (2, "sign mode"),
    "products._multiply": (1, "rule"),
    "products._exists": (2, "rule"),
    "products._first_value": (2, "rule"),
    "products.update": (3, "sparse, learned"),
    "products._round": (2, "rule, sparse"),
    "products._change": (6, "sparse, rule"),
    "products.fill_row": (4, "rule, first_phase"),
    "products._scale": (1, "learned"),
    "products._scale_by_time": (2, "rule"),
    "products.fill_column": (2, "sparse"),
    "traces.clip": (2, "rule"),
    "traces.histories": (3, "rule"),
    "traces._history": (2, "rule"),
    "traces.factor_value": (3, "rule"),
    "traces.pre_part": (2, "rule"),
    "traces._post_row": (2, "rule"),
    "traces._post_part": (1, "rule"),
    "traces.post_parts": (2, "rule"),
}


def counted(folder: Path = Path(str(kernels.__file__)).parent) -> dict[str, int]:
    """Branches of each function of the kernels that has some."""
    found: dict[str, int] = {}
    for path in sorted(folder.rglob("*.py")):
        if path.name in LEFT_OUT:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                n = sum(isinstance(each, (ast.If, ast.IfExp)) for each in ast.walk(node))
                if n:
                    found[f"{path.stem}.{node.name}"] = n
    return found
