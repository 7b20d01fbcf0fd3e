"""Names of version 0.1 go on working for one release, with a warning."""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from pathlib import Path

import pytest

from biril_nm.recording import Recording

GOLDEN = Path(__file__).parents[1] / "golden"
OLD_NAMES = (GOLDEN / "modules_of_0_1_0.txt").read_text(encoding="utf-8").split()
HAS_LAVA = importlib.util.find_spec("lava") is not None
NEEDS_LAVA = ("lava_network", "lava_parts", "lava_learning")


@pytest.mark.parametrize("old", OLD_NAMES)
def test_old_module_names_import_with_a_warning(old):
    if old.rpartition(".")[2] in NEEDS_LAVA and not HAS_LAVA:
        pytest.skip("lava-nc is not installed (make venv on Python 3.10)")
    sys.modules.pop(old, None)
    with pytest.warns(DeprecationWarning, match=f"'{old}' has moved; import '") as caught:
        module = importlib.import_module(old)
    new = next(found for each in caught if (found := re.search("import '(.+)'", str(each.message))))
    home = importlib.import_module(new.group(1))
    for name in getattr(home, "__all__", ()):
        assert getattr(module, name) is getattr(home, name)


def test_old_class_names_give_the_new_classes():
    with pytest.warns(DeprecationWarning, match="'Trace' is now 'Recording'"):
        from biril_nm.recording import Trace
    assert Trace is Recording
    with pytest.warns(DeprecationWarning):
        from biril_nm.trace import Trace as Older
    assert Older is Recording


def test_unknown_names_stay_errors():
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("biril_nm.never_existed")
    with pytest.raises(ImportError):
        exec("from biril_nm.recording import never_existed")
