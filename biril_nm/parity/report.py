"""The outcome of a parity check, for people, for pytest and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from biril_nm.display import html_table
from biril_nm.errors import ParityError
from biril_nm.parity.agreement import FloatAgreement
from biril_nm.parity.comparison import Mismatch

__all__ = ["ParityReport"]


@dataclass(frozen=True)
class ParityReport:
    """Outcome of :func:`biril_nm.parity.check_parity`.

    Attributes:
        engines: engines that took part.
        integer_engines: those of them whose integers were compared; the first is the reference.
        n_steps: steps per sample.
        n_samples: samples.
        n_compared: integers compared per pair of integer engines, summed over pairs.
        n_spikes: node -> spikes, as the reference counts them.
        mismatches: the first difference of each pair that differs.
        agreements: agreement of each float engine with the reference.
        float_problems: what is wrong with those agreements.
        variables: what was compared between integer engines.
        integrators: nodes that never spike on purpose, since their membrane is read.
        versions: engine -> what ran, with its version and, for another process, its Python.
    """

    engines: tuple[str, ...]
    integer_engines: tuple[str, ...]
    n_steps: int
    n_samples: int
    n_compared: int
    n_spikes: Mapping[str, int]
    mismatches: tuple[Mismatch, ...] = ()
    agreements: tuple[FloatAgreement, ...] = ()
    float_problems: tuple[str, ...] = ()
    variables: tuple[str, ...] = ("s", "u", "v")
    integrators: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether everything that was compared agrees."""
        return not self.mismatches and not self.float_problems

    @property
    def floats(self) -> FloatAgreement | None:
        """Agreement of the first float engine (torch), if one took part."""
        return self.agreements[0] if self.agreements else None

    @property
    def float_problem(self) -> str | None:
        """What is wrong with the float engines, or None."""
        return "\n".join(self.float_problems) or None

    @property
    def problem(self) -> str | None:
        """The first thing that disagrees, or None."""
        found = [*map(str, self.mismatches), *self.float_problems]
        return found[0] if found else None

    @property
    def silent(self) -> tuple[str, ...]:
        """Nodes that never spiked although they could: their agreement proves little."""
        return tuple(
            name
            for name, count in self.n_spikes.items()
            if count == 0 and name not in self.integrators
        )

    def summary(self) -> str:
        """One or a few lines for people."""
        lines = []
        if len(self.integer_engines) > 1 and not self.mismatches:
            lines.append(
                f"{' = '.join(self.integer_engines)}: {self.n_steps} steps x {self.n_samples} "
                f"samples, {self.n_compared:,} integers ({', '.join(self.variables)}) equal, "
                f"{sum(self.n_spikes.values()):,} spikes"
            )
        lines += [
            f"{name}: {self.versions[name]}" for name in self.engines if name in self.versions
        ]
        lines += [str(mismatch) for mismatch in self.mismatches]
        lines += self.float_problems or [
            found.summary(self.integer_engines[0]) for found in self.agreements
        ]
        if self.silent:
            lines.append(
                f"silent nodes (nothing proven about their spikes): {', '.join(self.silent)}"
            )
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"ParityReport({'agrees' if self.ok else 'differs'}: {self.summary()})"

    def _repr_html_(self) -> str:
        rows = [(line,) for line in self.summary().splitlines()]
        return html_table(("agrees" if self.ok else "differs",), rows)

    def raise_on_mismatch(self) -> ParityReport:
        """Return self if everything agrees.

        Raises:
            ParityError: with the first difference of each pair.
        """
        if not self.ok:
            raise ParityError(self.summary())
        return self

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return {
            **asdict(self),
            "floats": None if self.floats is None else asdict(self.floats),
            "float_problem": self.float_problem,
            "ok": self.ok,
            "silent": list(self.silent),
        }
