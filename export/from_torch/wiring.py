"""From traced calls to the wiring of one time step.

A forward that computes one step is run several times, one with its own loop over time once. Either way
each layer must be used once per step and receive the same at every step; what comes from the previous
step (recurrence) may be missing at the first one. Everything else is a finding, and all are reported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from biril_nm.arrays import Shape
from biril_nm.errors import UnsupportedNodeError, bullet_list
from biril_nm.export.from_torch.module import objection
from biril_nm.export.from_torch.operations import WAYS_OUT
from biril_nm.export.from_torch.registry import kind_names
from biril_nm.export.from_torch.replayed import Replayed
from biril_nm.export.from_torch.signals import (
    Applied,
    Collected,
    Either,
    Expr,
    InputStep,
    LayerOutput,
    Operation,
    Scaled,
    State,
    Sum,
    leaves,
    of_one_step,
    relative,
    without_past,
)
from biril_nm.export.from_torch.tracer import NOT_AT_REST, Call, Tracer

__all__ = ["Analysis", "ForgetfulStepError", "Readout", "Wiring", "refusal_of"]


@dataclass(frozen=True)
class Readout:
    """One returned signal: what it is at a step, and how the forward puts steps together.

    ``how``: step (the forward computes one step), stack, sum, mean, or last; membrane of a layer whose v is
    read, which ``over`` (sum, mean) puts together.
    """

    source: Expr
    how: str
    over: str = ""


@dataclass(frozen=True)
class Wiring:
    """What each layer receives at a regular step, in order of first use.

    Attributes:
        sources: layer -> relative expression.
        shapes: layer -> (input, output) shape without batch.
        inputs: shapes of the inputs that are used, by their position.
        outputs: what the forward returns.
        constants: constants that scaled signals refer to.
        functions: (name, layer) that applied signals refer to.
        layers: all modules of the copy that was run.
        takes_states: whether each step was given the states that the one before returned.
        loops: whether the forward loops over time itself.
        time_axes: input -> dimension of time, where it does.
        n_steps: of that loop.
    """

    sources: Mapping[str, Expr]
    shapes: Mapping[str, tuple[Shape, Shape]]
    inputs: Mapping[int, Shape]
    outputs: tuple[Readout, ...]
    constants: tuple[torch.Tensor, ...]
    functions: tuple[tuple[str, nn.Module | Replayed], ...]
    layers: Mapping[str, nn.Module] = field(default_factory=dict)
    takes_states: bool = False
    loops: bool = False
    time_axes: Mapping[int, int] = field(default_factory=dict)
    n_steps: int = 1


class ForgetfulStepError(UnsupportedNodeError):
    """Refused because neurons start each step from rest; passing the returned states on may help."""


def refusal_of(
    findings: Sequence[str], kind: type[UnsupportedNodeError] = UnsupportedNodeError
) -> Any:
    """The error that lists all findings, and what is supported."""
    headline = "the network cannot be expressed in NIR:"
    return kind(f"{bullet_list(headline, findings)}\nSupported layers: {', '.join(kind_names())}")


class Analysis:
    """Collects findings while it turns calls into the wiring of one step."""

    def __init__(
        self,
        tracer: Tracer,
        layers: Mapping[str, nn.Module],
        n_steps: int,
        loops: bool,
    ) -> None:
        self.tracer, self.origins, self.layers = tracer, tracer.origins, layers
        self.n_steps, self.loops = n_steps, loops
        self.findings: list[str] = []
        self.forgets = False
        self.static = frozenset(
            path for path, calls in tracer.calls.items() if loops and len(calls) == 1
        )
        self.uneven = {
            path
            for path, calls in tracer.calls.items()
            if len(calls) != n_steps and path not in self.static
        }
        self.behind: dict[
            str, Readout
        ] = {}  # layers that take what was put together over the steps
        for path in tracer.calls:
            if path in self.static:
                self._find_behind(path, tracer.calls[path][0].source)

    def wiring(self, result: Sequence[Expr], samples: Sequence[torch.Tensor]) -> Wiring:
        """The wiring of one step, if there were no findings.

        Raises:
            UnsupportedNodeError: with all findings.
        """
        sources = {path: self._source(path, calls) for path, calls in self.tracer.calls.items()}
        outputs = tuple(self._readout(expr) for expr in result)
        for path, layer in self.layers.items():
            reason = objection(layer) if path in self.tracer.calls else None
            if reason is not None:
                self.findings.append(f"layer '{path}' {reason}")
        for name, where in self._operations(sources, outputs):
            way_out = WAYS_OUT.get("the output" if where == "the output" else name)
            self.findings.append(
                f"operation '{name}' in front of {where} is not a layer; expected additions, constant "
                f"factors, flattening and linear functions with constant weights"
                + (f". {way_out}" if way_out else "")
            )
        if self.origins.sliced and not self.loops:
            self.findings.insert(  # the reason of what else there may be
                0,
                "forward takes the input apart (x[...]) without a loop over time; expected two or more time "
                "steps. Pass a sample_input with two or more steps, or take it apart outside",
            )
        signals = (*sources.values(), *(o.source for o in outputs))
        if not any(isinstance(leaf, InputStep) for signal in signals for leaf in leaves(signal)):
            self.findings.append("no layer receives the input of forward; expected one or more")
        if not outputs:
            self.findings.append(
                "forward returns nothing that a layer has sent; expected spikes or v"
            )
        if self.findings:
            raise refusal_of(
                self.findings, ForgetfulStepError if self.forgets else UnsupportedNodeError
            )
        shapes = {path: calls[-1].shapes for path, calls in self.tracer.calls.items()}
        whole = {i: tuple(s.shape[1:]) for i, s in enumerate(samples)}
        inputs = {
            i: self.origins.sliced[i][1] if i in self.origins.sliced else whole[i] for i in whole
        }
        used = {e.index for s in signals for e in leaves(s) if isinstance(e, InputStep)}
        return Wiring(
            sources, shapes, {i: s for i, s in inputs.items() if i in used}, outputs,
            tuple(self.origins.constants), tuple(self.origins.functions),
        )  # fmt: skip

    # --- layers behind the loop ---------------------------------------------------------------

    def _find_behind(self, path: str, source: Expr | None) -> None:
        """Note a layer of the sum, mean or last one of spikes: it is that of what it makes of each step."""
        signals = list(leaves(Sum(()) if source is None else source))
        paths = [leaf.path for leaf in signals if isinstance(leaf, LayerOutput)]
        late = [name for name in paths if name not in self.static]
        earlier = {self.behind[name].how for name in paths if name in self.behind}
        if source is None or not signals or len(paths) < len(signals):
            return
        if not late and len(earlier) == 1:
            self.behind[path] = Readout(relative(source, 0, self.static), earlier.pop())
        elif len(late) == len(signals):
            known = len(self.findings)
            found = self._readout(source)
            plain = getattr(self.layers[path], "bias", self) is None or self._is_mean(source)
            whole = found.how == "last" or (plain and found.how in ("sum", "mean"))
            if whole and self._offsets(found.source) == {0}:
                self.behind[path] = found
            else:
                del self.findings[known:]

    def _is_mean(self, expr: Expr) -> bool:
        """Whether it is the mean over all steps, and no other multiple of their sum."""
        if isinstance(expr, Collected):
            return expr.how == "mean"
        of = expr.of if isinstance(expr, Scaled) else None
        if not isinstance(expr, Scaled) or not isinstance(of, (Sum, Collected)):
            return False
        factor = self.origins.constants[expr.constant].double()
        whole = bool(torch.allclose(factor * self.n_steps, torch.ones(()).double()))
        return whole and (isinstance(of, Sum) or of.how == "sum")

    # --- sources ------------------------------------------------------------------------------

    def _source(self, path: str, calls: Sequence[Call]) -> Expr:
        """The relative expression that holds at every regular step."""
        zero: Expr = Sum(())
        exprs = [
            relative(self._settled(zero if call.source is None else call.source), step, self.static)
            for step, call in enumerate(calls)
        ]
        self._states(path, calls)
        if path in self.behind:
            return self.behind[path].source
        if path in self.static:
            if any(not self._constant(leaf) for leaf in leaves(exprs[0])):
                self._once(path)
            return exprs[0]
        regular = exprs[1] if len(exprs) > 1 else exprs[0]
        if any(getattr(leaf, "path", None) in self.behind for e in exprs for leaf in leaves(e)):
            self._once(path)
        unsaid = next((expr for expr in exprs if _unsaid(expr)), None)
        if unsaid is not None:
            return unsaid  # a finding about the operation says so
        if path in self.uneven:
            per_step = len(calls) // self.n_steps if len(calls) % self.n_steps == 0 else len(calls)
            self._used(path, per_step)
        elif self.uneven & {getattr(leaf, "path", None) for e in exprs for leaf in leaves(e)}:
            pass  # a finding about the layer before it says so
        elif any(e != regular for e in exprs[1:]) or without_past(exprs[0]) != without_past(
            regular
        ):
            of = {leaf.path for e in exprs for leaf in leaves(e) if isinstance(leaf, LayerOutput)}
            whole = ", ".join(f"'{name}'" for name in sorted(of & self.static))
            way_out = (
                "Take out what differs; sum up or filter over the steps by neurons (snntorch.Leaky)"
            )
            self.findings.append(
                f"layer '{path}' receives something else from step to step; expected the same at every step. "
                + (f"Call {whole} on one step at a time, inside the loop" if whole else way_out)
            )
        elif any(offset not in (0, -1) for offset in self._offsets(regular)):
            self.findings.append(
                f"layer '{path}' receives a signal of another step; expected one of this step or the last "
                f"one. Take the input step by step, in its order"
            )
        return regular

    def _once(self, path: str) -> None:
        self.findings.append(
            f"layer '{path}' is used once and the neurons {self.n_steps} times; expected both at every step. "
            f"Call it at every step or outside of the network, or give each use of the neurons its own layer"
        )

    def _settled(self, expr: Expr) -> Expr:
        return expr if self.loops else of_one_step(expr)

    def _constant(self, leaf: Expr) -> bool:
        return isinstance(leaf, InputStep) or (
            isinstance(leaf, LayerOutput) and leaf.path in self.static
        )

    def _used(self, path: str, uses: int) -> None:
        steps = f" in {self.n_steps} steps" if self.loops else ""
        self.findings.append(
            f"layer '{path}' is used {uses} times{steps}; expected once. Give each use its own module"
        )

    def _states(self, path: str, calls: Sequence[Call]) -> None:
        if any(call.fresh for call in calls[1:]):
            self.forgets = not self.loops
            self.findings.append(
                f"layer '{path}' starts each step from rest; expected its last state. If forward makes the "
                f"states (init_leaky, zeros), put the loop over time into the same forward; else take the "
                f"last states as arguments and return them in the same order"
            )
        foreign = sorted({_described(expr) for call in calls for expr in call.foreign})
        if NOT_AT_REST in foreign:
            self.findings.append(
                f"layer '{path}' starts from {NOT_AT_REST}; expected rest. Put the network to rest before "
                f"the export"
            )
        elif foreign:
            self.findings.append(
                f"layer '{path}' is given {', '.join(foreign)}; expected its own last state. Let it start "
                f"from rest and keep its state to itself"
            )

    @staticmethod
    def _offsets(expr: Expr) -> set[int]:
        found = set()
        for leaf in leaves(expr):
            if isinstance(leaf, InputStep):
                found.add(leaf.step)
            elif isinstance(leaf, (LayerOutput, State)):
                found.add(leaf.call)
        return found

    # --- outputs ------------------------------------------------------------------------------

    def _readout(self, expr: Expr) -> Readout:
        expr = self._settled(expr)
        behind = [self.behind.get(getattr(leaf, "path", "")) for leaf in leaves(expr)]
        if behind and all(readout is not None for readout in behind):
            hows = {readout.how for readout in behind if readout is not None}
            if len(hows) == 1:
                return Readout(relative(expr, 0, self.static), hows.pop())
        how, inner = "step" if not self.loops else "last", expr
        scaled = False
        while isinstance(inner, Scaled) and self._steps_of(inner.of):
            self._positive(inner)
            inner, scaled = inner.of, True
        items = self._steps_of(inner)
        if items:
            how = inner.how if isinstance(inner, Collected) else "sum"
            relatives = [relative(item, step, self.static) for step, item in items]
            regular = relatives[max(range(len(items)), key=lambda i: items[i][0])]
            if any(without_past(r) != without_past(regular) for r in relatives):
                self.findings.append(
                    "forward returns different layers at different steps; expected the same ones"
                )
            else:
                self._all_steps([step for step, _ in items], ordered=how in ("stack", "cat"))
            return Readout(regular, "mean" if scaled else how)
        last = relative(expr, self.n_steps - 1, self.static)
        latest = max(self._offsets(last), default=0)
        if self.loops and latest < 0:
            self._all_steps([self.n_steps - 1 + latest], ordered=True)
        return Readout(last, how)

    def _positive(self, scaled: Scaled) -> None:
        """Find factors of a sum over steps that change which class has most."""
        factor = self.origins.constants[scaled.constant]
        if not bool(torch.all(factor == factor.ravel()[0]) and torch.all(factor > 0)):
            self.findings.append(
                "forward multiplies what it sums up over the steps by negative or several numbers, and "
                "another class wins; expected one positive number. Return the sum and do the rest outside"
            )

    def _all_steps(self, steps: Sequence[int], ordered: bool) -> None:
        """Find a readout of some steps only, or of steps in another order."""
        every = list(range(self.n_steps))
        if (list(steps) if ordered else sorted(steps)) != every:
            shown = ", ".join(map(str, steps[:8])) + (", ..." if len(steps) > 8 else "")
            self.findings.append(
                f"forward returns steps {shown} of {self.n_steps}; expected all steps in their order, or the "
                f"last one. Return all of them, and choose outside of the network"
            )

    def _steps_of(self, expr: Expr) -> list[tuple[int, Expr]]:
        """(step, expression) of something that was collected over the steps of the loop."""
        if not self.loops or not isinstance(expr, (Collected, Sum)):
            return []
        items = expr.items if isinstance(expr, Collected) else expr.terms
        steps = [self._offsets(item) for item in items]
        if any(len(s) != 1 for s in steps) or len({min(s) for s in steps}) != len(items):
            return []
        found = [(min(s), item) for s, item in zip(steps, items)]
        return found if len(found) > 1 else []

    def _operations(
        self, sources: Mapping[str, Expr], outputs: Sequence[Readout]
    ) -> list[tuple[str, str]]:
        found = []
        for where, expr in (
            *((f"layer '{path}'", e) for path, e in sources.items()),
            *(("the output", o.source) for o in outputs),
        ):
            found += [(name, where) for name in _unsaid(expr)]
        return list(dict.fromkeys(found))


def _unsaid(expr: Expr) -> list[str]:
    """Names of the first operations inside an expression that have no NIR form."""
    if isinstance(expr, Operation):
        parts = [p for of in expr.of for p in (of.items if isinstance(of, Collected) else (of,))]
        return [name for part in parts for name in _unsaid(part)] or [expr.name]
    if isinstance(expr, Collected):
        return [expr.how]
    if isinstance(expr, Sum):
        return [name for term in expr.terms for name in _unsaid(term)]
    return _unsaid(expr.of) if isinstance(expr, (Applied, Scaled, Either)) else []


def _described(expr: Expr) -> str:
    if isinstance(expr, State):
        return f"the state '{expr.name}' of '{expr.path}'"
    if isinstance(expr, InputStep):
        return "an input of forward"
    if isinstance(expr, Operation):
        return expr.name if expr.name == NOT_AT_REST else f"'{expr.name}'"
    return "a signal"
