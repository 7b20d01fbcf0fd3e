"""Machine code on disk that is damaged is compiled anew."""

from __future__ import annotations

import importlib
import sys

import numba
import pytest

from biril_nm.hardware_sim.kernels import jit

DAMAGE = {
    "nothing": lambda data: data,
    "empty": lambda data: b"",
    "half": lambda data: data[: len(data) // 2],
    "one bit": lambda data: data[:-10] + bytes([data[-10] ^ 4]) + data[-9:],
    "other": lambda data: b"\x80\x04" + bytes(500),
}


@pytest.fixture
def little(tmp_path, monkeypatch):
    """Runs a kernel as a new process would: returns its result and whether its code was loaded."""
    (tmp_path / "little_kernel.py").write_text("def twice(x):\n    return x * 2\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "cache"))
    module = importlib.import_module("little_kernel")

    def run():
        compiled = jit.kernel(module.twice)
        return compiled(21), sum(compiled.stats.cache_hits.values())

    yield run
    del sys.modules["little_kernel"]


@pytest.mark.parametrize("kind", ["*.nbi", "*.nbc", "*.sha256"])
@pytest.mark.parametrize("damage", list(DAMAGE))
def test_damaged_code_is_compiled_anew(damage, kind, little, tmp_path):
    assert little() == (42, 0)
    files = list((tmp_path / "cache").rglob(kind))
    assert files
    for file in files:
        file.write_bytes(DAMAGE[damage](file.read_bytes()))
    result, loaded = little()
    assert result == 42
    assert loaded == (damage == "nothing") or (kind, damage) == ("*.nbi", "one bit")
    assert little() == (42, 1)


def test_code_without_a_digest_is_compiled_anew(little, tmp_path):
    assert little() == (42, 0)
    for file in (tmp_path / "cache").rglob("*.sha256"):
        file.unlink()
    assert little() == (42, 0)
    assert little() == (42, 1)


def test_a_cache_that_cannot_be_written_is_done_without(little, monkeypatch):
    def full(self, *_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(numba.core.caching.IndexDataCacheFile, "_open_for_write", full)
    assert little() == (42, 0)
    assert little() == (42, 0)
