"""What the schedules of a study run in its epochs, and which methods may be compared with which controls."""

from __future__ import annotations

from collections import Counter

from biril_nm.arguments import checked
from biril_nm.studies.grid.plan import Method, StudyPlan
from biril_nm.training.schedule import parse_schedule

__all__ = ["comparisons", "counts_text", "cut_cycles", "is_matched", "phases_run", "same_counts"]

RATIO = "SBH"  # phases of a ratio, in its order
NOTHING = "IF"  # phases that stand for S where a control trains nothing
LOCAL = frozenset({"plastic", "plasticity"})  # settings of the local rule alone


@checked
def phases_run(plan: StudyPlan, method: Method) -> tuple[str, ...]:
    """Phases of all epochs of a cell; of all its batches where the phase changes with each batch."""
    run = plan.run_config(method, plan.seeds[0])
    n_phases, cycle = run.train.epochs, run.train.phases
    if run.train.period == "batch":
        n_phases *= -(-plan.n_train // run.batch_size)
    return tuple(cycle[index % len(cycle)] for index in range(n_phases))


@checked
def counts_text(phases: tuple[str, ...]) -> str:
    """Numbers of phases: ``"2:6:1"`` for S:B:H, ``"8 B 1 I"`` where there are others."""
    counts = Counter(phases)
    if set(counts) <= set(RATIO):
        return ":".join(str(counts[phase]) for phase in RATIO)
    return " ".join(f"{n} {phase}" for phase, n in counts.items())


@checked
def cut_cycles(plan: StudyPlan) -> dict[str, int]:
    """Methods whose cycle does not fit into the epochs a whole number of times, with its length."""
    found = {}
    for method in plan.methods:
        n_phases = len(phases_run(plan, method))
        cycle = plan.run_config(method, plan.seeds[0]).train.phases
        if len(set(cycle)) > 1 and n_phases % len(cycle):
            found[method.name] = len(cycle)
    return found


@checked
def same_counts(plan: StudyPlan) -> list[tuple[str, ...]]:
    """Names of methods with different schedules, but the same numbers of phases in these epochs."""
    groups: dict[frozenset[tuple[str, int]], list[Method]] = {}
    for method in plan.methods:
        counts = Counter(phases_run(plan, method))
        groups.setdefault(frozenset(counts.items()), []).append(method)
    return [
        tuple(method.name for method in group)
        for group in groups.values()
        if len({parse_schedule(method.schedule) for method in group}) > 1
    ]


@checked
def is_matched(plan: StudyPlan, method: Method, control: Method) -> bool:
    """Whether what a method gains over a control is due to what the control leaves out.

    A control without phases I and F is a method of its own, with which all are compared. One with them is
    matched by methods whose phases are its own once I or F stands for S, and B for H, and whose settings
    are its own but for those of the local rule: the same gradient steps, at the same rates.
    """
    theirs = phases_run(plan, control)
    if not set(theirs) & set(NOTHING):
        return True
    settings = [
        ({key: value for key, value in m.train.items() if key not in LOCAL}, m.net)
        for m in (method, control)
    ]
    return settings[0] == settings[1] and _gradients(phases_run(plan, method)) == _gradients(theirs)


def _gradients(phases: tuple[str, ...]) -> list[str]:
    """The phases without their local rule."""
    instead = {**dict.fromkeys(("S", *NOTHING), "I"), "H": "B"}
    return [instead.get(phase, phase) for phase in phases]


@checked
def comparisons(plan: StudyPlan) -> list[tuple[Method, Method]]:
    """Pairs of a method and a control that may be compared, controls in their order."""
    controls = [m for m in plan.methods if m.role == "control"]
    methods = [m for m in plan.methods if m.role == "method"]
    return [(m, c) for c in controls for m in methods if is_matched(plan, m, c)]
