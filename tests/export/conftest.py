"""Files of other formats, written for one test."""

from __future__ import annotations

import pytest

from tests.support.netx_runs import write_file


@pytest.fixture
def netx(tmp_path):
    return lambda *layers: write_file(tmp_path / "x.net", list(layers))
