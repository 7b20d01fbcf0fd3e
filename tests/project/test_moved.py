"""Names of version 0.1 go on working for one release, with a warning."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import biril_nm
from biril_nm.recording import Recording

GOLDEN = Path(__file__).parents[1] / "golden"
OLD_NAMES = (GOLDEN / "modules_of_0_1_0.txt").read_text(encoding="utf-8").split()
HAS_LAVA = importlib.util.find_spec("lava") is not None
NEEDS_LAVA = ("lava_network", "lava_parts", "lava_learning")


@pytest.mark.parametrize("old", OLD_NAMES)
def test_old_module_names_import_with_a_warning(old):
    if old.rpartition(".")[2] in NEEDS_LAVA and not HAS_LAVA:
        pytest.skip("lava-nc is not installed (make venv)")
    sys.modules.pop(old, None)
    with pytest.warns(DeprecationWarning, match=f"'{old}' has moved; import '") as caught:
        module = importlib.import_module(old)
    new = next(found for each in caught if (found := re.search("import '(.+)'", str(each.message))))
    home = importlib.import_module(new.group(1))
    for name in getattr(home, "__all__", ()):
        assert getattr(module, name) is getattr(home, name)


def names_of_today():
    """Each public name of each package."""
    walked = pkgutil.walk_packages(biril_nm.__path__, "biril_nm.")
    packages = [each.name for each in walked if each.ispkg and ".bundle" not in each.name]
    modules = [importlib.import_module(package) for package in ("biril_nm", *packages)]
    return {
        (m.__name__, name): getattr(m, name) for m in modules for name in getattr(m, "__all__", ())
    }


def test_old_modules_hide_no_name_of_today(recwarn):
    """``biril_nm.training.evaluate`` was a module and is a function."""
    today = names_of_today()
    for old in OLD_NAMES:
        if ".lava_" not in old and not old.endswith("run_lava"):
            sys.modules.pop(old, None)
            importlib.import_module(old)
    for (package, name), found in names_of_today().items():
        assert found is today[package, name], (package, name)
        assert not isinstance(found, ModuleType) or found.__name__ == f"{package}.{name}", name
    assert biril_nm.training.evaluate.__name__ == "evaluate"


@pytest.mark.slow
@pytest.mark.parametrize("order", ["after", "before"])
def test_old_modules_hide_no_name_of_today_in_a_new_process(order):
    """Whatever is imported first."""
    program = """
import importlib, pkgutil, sys, warnings
import biril_nm
warnings.simplefilter("ignore")
packages = ["biril_nm", *sorted(
    each.name for each in pkgutil.walk_packages(biril_nm.__path__, "biril_nm.")
    if each.ispkg and ".bundle" not in each.name
)]
def names():
    modules = [importlib.import_module(package) for package in packages]
    return {(m.__name__, name): id(getattr(m, name)) for m in modules for name in getattr(m, "__all__", ())}
today = names() if sys.argv[1] == "after" else None
from biril_nm._moved import MOVED
for old in MOVED:
    if ".lava_" not in old and not old.endswith("run_lava"):
        importlib.import_module(old)
import types
for (package, name), found in names().items():
    value = getattr(sys.modules[package], name)
    assert today is None or found == today[package, name], (package, name)
    assert not isinstance(value, types.ModuleType) or value.__name__ == f"{package}.{name}", name
assert biril_nm.training.evaluate.__name__ == "evaluate"
"""
    done = subprocess.run(
        [sys.executable, "-c", program, order], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


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
