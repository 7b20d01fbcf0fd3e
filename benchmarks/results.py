"""What a run of the benchmark measured: filled by simulator.py, shown by page.py."""

from __future__ import annotations

from dataclasses import dataclass, field

from roofline import Measured


@dataclass
class Results:
    """All that a run measured."""

    rates: dict[tuple[str, float], dict[str, Measured]] = field(default_factory=dict)
    ratios: dict[tuple[str, float], dict[str, Measured]] = field(default_factory=dict)
    events: dict[tuple[str, float], float] = field(default_factory=dict)  # per sample-step
    gains: dict[tuple[str, float], Measured] = field(default_factory=dict)  # all threads over one
    idle: dict[str, Measured] = field(default_factory=dict)  # us per step without any spike
    busy: dict[tuple[str, float], tuple[Measured, Measured, Measured]] = field(default_factory=dict)
    hidden: dict[tuple[str, float], dict[str, float]] = field(default_factory=dict)
    checked: list[str] = field(default_factory=list)
    scaling: dict[str, dict[float, Measured]] = field(default_factory=dict)
    cold: dict[str, dict[str, float]] = field(default_factory=dict)
    neurons: str = ""  # the section of resets.py
    adds: dict[str, Measured] = field(default_factory=dict)
    bytes: dict[str, Measured] = field(default_factory=dict)
    test_set: tuple[float, float, int, int] | None = None  # seconds, accuracy, samples, steps
    seconds: float = 0.0
    quick: bool = False
