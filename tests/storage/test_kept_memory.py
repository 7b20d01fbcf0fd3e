"""Freed memory stays with the process while it is kept, and goes back to the system behind that."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import snntorch as snn
import torch

import biril_nm.training.loop
from biril_nm.storage import platform
from biril_nm.storage.platform import give_back_growth, keep_freed_memory, resident_bytes
from biril_nm.training import TrainConfig, fit

N_BYTES, SMALLER = 96 << 20, 64 << 10
PR_SET_THP_DISABLE = 41  # Linux, include/uapi/linux/prctl.h
resource = pytest.importorskip("resource")


def faults(n_bytes: int = N_BYTES) -> int:
    """Pages that the system had to give for a large tensor."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.empty(n_bytes, dtype=torch.uint8).fill_(1)
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)


@contextmanager
def small_pages() -> Iterator[None]:
    """No large pages, which come only while the system finds some."""
    set_process = ctypes.CDLL(None).prctl
    set_process(PR_SET_THP_DISABLE, 1, 0, 0, 0)
    try:
        yield
    finally:
        set_process(PR_SET_THP_DISABLE, 0, 0, 0, 0)


@pytest.fixture
def usual() -> Iterator[int]:
    """Faults where nothing is kept."""
    if not resident_bytes():
        pytest.skip("only glibc keeps memory")
    with keep_freed_memory():
        pass  # what earlier tests have left goes back to the system
    with small_pages():
        faults()
        found = faults()
        if found < N_BYTES // (1 << 14):
            pytest.skip("memory comes in large pages here")
        yield found


def least_faults() -> int:
    """Of several tries, each smaller: small blocks may take a piece of the place of the one before."""
    return min(faults(N_BYTES - i * SMALLER) for i in range(8))


def test_pages_are_given_once_while_memory_is_kept(usual: int) -> None:
    with keep_freed_memory():
        with keep_freed_memory():
            assert least_faults() < usual / 20
        assert least_faults() < usual / 20
    assert least_faults() > usual / 2


def test_what_a_process_grows_by_is_given_back(usual: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "GROWTH", 1.0)
    give_back_growth()  # nothing is kept
    with keep_freed_memory():
        give_back_growth()
        small = resident_bytes()
        faults()
        assert resident_bytes() > small + N_BYTES / 2
        give_back_growth()
        assert resident_bytes() < small + N_BYTES / 4
        assert least_faults() < usual / 20


@pytest.mark.parametrize("libc", [None, object()], ids=["another system", "another library"])
def test_other_systems_keep_nothing(libc: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform.sys, "platform", "linux" if libc else "darwin")
    monkeypatch.setattr(platform.ctypes, "CDLL", lambda name: libc)
    with keep_freed_memory():
        give_back_growth()  # each would fail on what stands for the library, if it called that


def test_training_on_the_cpu_keeps_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    inside: list[bool] = []

    @contextmanager
    def noted() -> Iterator[None]:
        inside.append(True)
        yield
        inside.append(False)

    monkeypatch.setattr(biril_nm.training.loop, "keep_freed_memory", noted)
    batch = (torch.rand(4, 6), torch.tensor([0, 1, 0, 1]))
    net = torch.nn.Sequential(torch.nn.Linear(6, 2), snn.Leaky(beta=0.9, init_hidden=True))
    fit(net, ([batch], None), TrainConfig(epochs=1, device="cpu", schedule="B"))
    assert inside == [True, False]
