"""Kernels that no folder holds yet are compiled here and by another process at once."""

from __future__ import annotations

import importlib
import subprocess
import sys
import time
from contextlib import nullcontext

import numba
import numpy as np
import pytest

from biril_nm.hardware_sim import Simulator, simulate
from biril_nm.hardware_sim.engine import ahead, blocks, first_run
from biril_nm.learning.rules import PAIR
from biril_nm.storage.machine_code import is_kept
from tests.support.path_cases import learning_case, random_case

KERNELS = """
from biril_nm.hardware_sim.kernels.jit import kernel

@kernel
def one(x):
    return x + 1

@kernel
def two(x):
    return x + 2
"""
TYPES = (numba.int64,)


@pytest.fixture
def kernels(tmp_path, monkeypatch, kernel_folder):
    """A module of two kernels whose code is kept in a folder of its own."""
    (tmp_path / "two_kernels.py").write_text(KERNELS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(ahead, "usable_cpus", lambda: 2)
    yield importlib.import_module("two_kernels")
    del sys.modules["two_kernels"]


@pytest.fixture
def nobody(monkeypatch):
    """No other process may start."""

    def refuse(*_, **__):
        raise AssertionError("another process was started")

    monkeypatch.setattr(subprocess, "Popen", refuse)


def needed(module):
    return [(module.one, TYPES), (module.two, TYPES)]


def hits(kernel):
    return sum(kernel.stats.cache_hits.values())


def test_another_process_compiles_what_this_one_has_not(kernels, monkeypatch):
    monkeypatch.setattr(ahead, "compile_untaken", lambda *_: None)  # here, not in the other process
    assert is_kept(kernels.two, TYPES) is False
    with ahead.compiled_ahead(needed(kernels)):
        end = time.monotonic() + 120
        while not is_kept(kernels.one, TYPES) and time.monotonic() < end:
            time.sleep(0.05)
        assert is_kept(kernels.two, TYPES) is True  # the other one begins at the end
        assert (kernels.one(1), kernels.two(1)) == (2, 3)
    assert (hits(kernels.one), hits(kernels.two)) == (1, 1)


def test_a_process_that_fails_is_done_without(kernels, tmp_path, monkeypatch):
    broken = tmp_path / "python-broken"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(broken))
    with ahead.compiled_ahead(needed(kernels)):
        assert (kernels.one(1), kernels.two(1)) == (2, 3)
    assert (hits(kernels.one), hits(kernels.two)) == (0, 0)


@pytest.mark.parametrize("why", ["one CPU", "one kernel", "frozen", "embedded", "all kept"])
def test_no_process_is_started_where_none_helps(why, kernels, nobody, monkeypatch):
    given = needed(kernels)
    if why == "one CPU":
        monkeypatch.setattr(ahead, "usable_cpus", lambda: 1)
    elif why == "one kernel":
        given = given[:1]
    elif why == "frozen":
        monkeypatch.setattr(sys, "frozen", True, raising=False)
    elif why == "embedded":
        monkeypatch.setattr(sys, "executable", "/usr/bin/a-program")
    else:
        assert (kernels.one(1), kernels.two(1)) == (2, 3)
    with ahead.compiled_ahead(given):
        assert (kernels.one(1), kernels.two(1)) == (2, 3)


def test_a_new_process_is_started_where_one_helps(kernels, nobody):
    started = pytest.raises(AssertionError, match="another process was started")
    with started, ahead.compiled_ahead(needed(kernels)):
        pass


@pytest.mark.parametrize("how", ["simulate", "step"])
def test_first_runs_compile_ahead(how, monkeypatch):
    given = []

    def noted(needed):
        given.extend(needed)
        return nullcontext()

    monkeypatch.setattr(blocks, "compiled_ahead", noted)
    monkeypatch.setattr(blocks, "is_loaded", lambda kernel: False)
    graph = random_case(0, "plain").graph
    spikes = {name: np.zeros((3, 1, *node.shape), int) for name, node in graph.inputs.items()}
    if how == "simulate":
        simulate(graph, spikes)
    else:
        Simulator(graph).step({name: x[0].astype(np.uint8) for name, x in spikes.items()})
    assert given
    for kernel, types in given:
        assert types in kernel.overloads


class AtOnce:
    """A timer that does not wait."""

    def __init__(self, seconds, function):
        self.start, self.seconds = function, seconds

    def cancel(self):
        """Too late."""


@pytest.mark.parametrize("loaded", [False, True])
@pytest.mark.parametrize("how", ["simulate", "learn", "run", "step", "run that learns"])
def test_whatever_compiles_first_says_so(how, loaded, monkeypatch, caplog):
    monkeypatch.setattr(first_run, "Timer", AtOnce)
    monkeypatch.setattr(first_run, "is_loaded", lambda kernel: loaded)
    learns = "learn" in how
    graph = (learning_case(1, "dense", PAIR) if learns else random_case(0, "plain")).graph
    spikes = {name: np.zeros((3, 1, *node.shape), int) for name, node in graph.inputs.items()}
    if how in ("simulate", "learn"):
        simulate(graph, spikes, learn=learns)
    elif how == "step":
        Simulator(graph).step({name: x[0] for name, x in spikes.items()})
    else:
        Simulator(graph, learn=learns).run(spikes)
    assert ("compiling the kernels, once on this machine" in caplog.text) != loaded
