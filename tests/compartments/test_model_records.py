"""Every compartment model is complete, and its step is the same for Python ints, NumPy and numba."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numba
import numpy as np
import pytest

from biril_nm.compartments import (
    COMPARTMENTS,
    CUBA_LIF,
    compartment,
    register,
    source_of,
    unregister,
)
from biril_nm.compartments.clearing import clearing
from biril_nm.compartments.table import chips_page, models_page
from biril_nm.errors import ConfigError
from biril_nm.hardware_sim.kernels.models import compiled
from biril_nm.loihi import CHIPS, ResetMode
from tests.support import toy_compartment

OWN = [name for name in COMPARTMENTS if source_of(name).parent.name == "compartments"]
EDGES = (0, 1, -1, 63, -64, 2**22, 2**23 - 1, -(2**23), 2**23, 2**25, -(2**31), 2**31 - 1)


@pytest.mark.parametrize("name", OWN)
def test_a_model_is_complete(name):
    model = compartment(name)
    assert model.doc and model.equation and model.chips
    assert isinstance(model.reset.mode, ResetMode)
    assert set(model.chips) <= set(CHIPS) and set(model.chips.values()) <= {"native", "program"}
    for chip in CHIPS.values():
        for each in model.registers:
            low, high = each.limits(chip)
            assert low < high and each.doc and each.way_out.endswith(".")
            assert each.default is None or low <= each.default <= high
    registers = {r.name: np.array(_usual(r)) for r in model.registers}
    constants = tuple(int(c) for c in model.prepare(registers))
    state, spike = model.step(0, (0,) * len(model.state), constants)
    assert len(state) == len(model.state) and spike in (0, 1)
    assert int(model.threshold(registers)) > 0


@pytest.mark.parametrize("name", OWN)
def test_a_step_is_the_same_for_python_numpy_and_numba(name):
    model = compartment(name)
    rng = np.random.default_rng(3)
    n, n_constants = 200, len(model.prepare(_registers(model, rng)))
    words = len(model.state)
    step = compiled(model.step)

    @numba.njit
    def jitted(a, state, constants):
        return step(a, state, constants)

    for _ in range(4):
        constants = [int(c) for c in model.prepare(_registers(model, rng))]
        a = np.concatenate([rng.integers(-(2**20), 2**20, n - len(EDGES)), EDGES])
        state = [rng.integers(-(2**23) + 1, 2**23, n) for _ in range(words)]
        wide = model.step(a, tuple(state), tuple(np.full(n, c) for c in constants))
        for i in range(n):
            now = tuple(int(word[i]) for word in state)
            plain = model.step(int(a[i]), now, tuple(constants))
            assert (tuple(int(w[i]) for w in wide[0]), int(wide[1][i])) == plain
            assert jitted(int(a[i]), now, tuple(constants)) == plain
    assert n_constants == len(constants)


def _usual(register):
    return (
        min(1, register.limits(CHIPS["loihi2"])[1])
        if register.default is None
        else register.default
    )


def _registers(model, rng):
    limits = {r.name: r.limits(CHIPS["loihi2"]) for r in model.registers}
    return {name: np.array(rng.integers(low, high + 1)) for name, (low, high) in limits.items()}


def test_the_docs_pages_are_up_to_date():
    docs = Path(__file__).parents[2] / "docs"
    own = [compartment(name) for name in OWN]
    for name, text in (("compartments", models_page(own)), ("chips", chips_page(own))):
        assert (docs / f"{name}.md").read_text(encoding="utf-8") == text, "run docs/make_tables.py"
    assert "| `cuba_lif` | native | native | `LIF` | zero |" in chips_page(own)


def test_the_registry_refuses_what_it_cannot_run():
    other = replace(CUBA_LIF, doc="another")
    with pytest.raises(ConfigError, match="'cuba_lif' exists already; expected a new name"):
        register(other, __name__)
    graded = replace(CUBA_LIF, name="graded", spikes=(0, 7))
    with pytest.raises(
        ConfigError, match="'graded' sends payloads 0 to 7; expected spikes of 0 and 1"
    ):
        register(graded, __name__)
    with pytest.raises(ConfigError, match="'gone' is unknown; expected one of cuba_lif"):
        compartment("gone")
    for wrong, message in (
        ({"name": "two words"}, "name is 'two words'; expected an identifier"),
        ({"registers": ()}, r"has registers \[\]; expected identifiers"),
        ({"registers": CUBA_LIF.registers[:1] * 2}, "expected identifiers, each once"),
        ({"state": ("v", "u")}, "expected u and v first"),
    ):
        with pytest.raises(ConfigError, match=message):
            replace(CUBA_LIF, **wrong)


def test_a_model_without_a_file_cannot_go_into_a_bundle():
    register(replace(toy_compartment.TOY, name="typed_in"), "__main__")
    with pytest.raises(
        ConfigError, match="was registered by '__main__'; expected a module with a file"
    ):
        source_of("typed_in")
    unregister("typed_in")


@pytest.mark.parametrize(("period", "active"), [(0, 0), (5, 0), (7, 5)])
def test_clearing_and_rest(period, active):
    for elapsed in range(-8, 30):
        cleared, rests = clearing(elapsed, period, active)
        in_sample = elapsed >= 0 and (elapsed % period < active if period else False)
        assert rests == bool(active and not in_sample)
        assert cleared == bool(period and (elapsed % period == 0 or rests))
