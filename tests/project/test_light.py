"""The light installation: all but training and export from torch, where torch is not installed."""

from __future__ import annotations

import ast
import copy
import json
import pickle
import subprocess
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace

import pytest

from biril_nm import optional
from biril_nm.commands.info import supported_rows
from biril_nm.data.downloads import library
from biril_nm.engines import get_engine, registry
from biril_nm.errors import MissingDependencyError
from biril_nm.export.supported import policy_rows, torch_problem
from tests.support.command_line import biril
from tests.support.sources import MODULES, ROOT, tree_of
from tests.support.without_torch import BLOCKED, Absent

NIR_FILE = ROOT / "tests" / "golden" / "norse_mlp.nir"
# What is made of torch. Each of these packages has one error for its absence.
OF_TORCH = (
    "models", "neurons", "training", "export.from_torch", "export.to_torch", "engines.torch_integers",
)  # fmt: skip
ALONE = ("engines.torch_net",)  # which imports two of them
FIRST = "biril_nm._torch"


def imported_at_once(tree: ast.Module) -> set[str]:
    """Top names of what a module imports when it is imported; not in functions, nor for type checkers."""
    found: set[str] = set()
    rest: list[ast.AST] = list(tree.body)
    while rest:
        node = rest.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
        elif isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            rest += node.orelse
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            rest += ast.iter_child_nodes(node)
    return found


def of_torch(module: str) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in OF_TORCH)


def test_torch_is_imported_where_it_is_needed():
    heavy = {m for m, path in MODULES.items() if imported_at_once(tree_of(path)) & set(BLOCKED)}
    assert {m for m in heavy if not of_torch(m)} == set(ALONE)


@pytest.mark.parametrize("package", OF_TORCH)
def test_packages_of_torch_say_first_what_is_missing(package):
    imports = [
        n for n in tree_of(MODULES[package]).body if isinstance(n, (ast.Import, ast.ImportFrom))
    ]
    first = imports[1]  # after annotations
    assert isinstance(first, ast.Import) and first.names[0].name == FIRST


def test_the_imports_of_a_module_are_found():
    tree = ast.parse(
        "import a.b\nfrom c import d\nif TYPE_CHECKING:\n import e\nelse:\n import f\n"
        "def g():\n import h\nclass I:\n import j\ntry:\n import k\nexcept ImportError:\n import l"
    )
    assert imported_at_once(tree) == {"a", "c", "f", "j", "k", "l"}


@pytest.mark.slow
def test_all_but_training_works_without_torch(tmp_path):
    """Each command in one process where importing torch fails."""
    command = [sys.executable, "-m", "tests.support.without_torch", tmp_path, NIR_FILE]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    refusals = {
        "torch parity": "package 'torch' is needed to train, load and export networks of torch",
        "train": 'is not installed. Install it with: pip install "biril-nm[torch]"',
        "model": 'is not installed. Install it with: pip install "biril-nm[torch]"',
        "digits": "package 'sklearn' is needed to load data set 'digits'",
    }
    for name, (code, _, errors) in found.items():
        assert code == (name in refusals), (name, errors)
        assert refusals.get(name, "") in errors
        assert "Traceback" not in errors
    assert "LIF" in found["info"][1] and "layers of torch are not listed" in found["info"][2]
    assert '"sim"' in found["parity"][1] and '"ok": true' in found["parity"][1]
    assert (tmp_path / "bundle" / "run_lava.py").is_file()
    assert (tmp_path / "chip" / "learned.loihi.npz").is_file()


@pytest.fixture
def absent(monkeypatch):
    monkeypatch.setattr(sys, "meta_path", [Absent(), *sys.meta_path])
    for name in BLOCKED:
        monkeypatch.delitem(sys.modules, name, raising=False)


def test_an_absent_package_is_one_error(absent):
    with pytest.raises(
        MissingDependencyError,
        match=r"^package 'torch' is needed to fly and is not installed. Install it with: "
        r'pip install "biril-nm\[torch\]"$',
    ):
        optional.library("torch", "torch", "fly")
    assert issubclass(MissingDependencyError, ImportError)
    assert not optional.installed("torch") and optional.installed("numpy")
    problem = get_engine("torch").why_not()
    assert 'pip install "biril-nm[torch]"' in str(problem)


@pytest.mark.parametrize(("torch", "command"), [
    ("2.3.1", "pip install --no-deps torchvision==0.18.1 pillow"),
    ("2.14.0", "pip install --no-deps torchvision==0.29.0 pillow"),
    ("2.13.0+cpu", r"pip install --no-deps torchvision==0.28.0 pillow \(from the index .* came from\)"),
    ("3.0.0", "pip install torchvision"),
    (None, "pip install torch torchvision"),
])  # fmt: skip
def test_a_missing_torchvision_leaves_torch_alone(torch, command, absent, monkeypatch):
    def version(name):
        if torch is None:
            raise optional.PackageNotFoundError(name)
        return torch

    monkeypatch.setattr(optional, "version", version)
    with pytest.raises(
        MissingDependencyError, match=f"is not installed. Install it with: {command}$"
    ):
        library("torchvision", "read CIFAR-10")


@pytest.mark.parametrize("error", [
    RuntimeError("operator torchvision::nms\ndoes not exist"),
    OSError("libcudart.so.12: cannot open shared object file"),
    ImportError("cannot import name 'x'"),
    ModuleNotFoundError("No module named 'torch._inner'", name="torch._inner"),
])  # fmt: skip
def test_a_broken_torchvision_is_one_line(error, monkeypatch):
    class Broken:
        def find_spec(self, name, path=None, target=None):
            return ModuleSpec(name, self) if name == "torchvision" else None

        def create_module(self, spec):
            return None

        def exec_module(self, module):
            raise error

    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    with pytest.raises(MissingDependencyError) as found:
        library("torchvision", "read CIFAR-10")
    text = str(found.value)
    assert "\n" not in text and " ".join(str(error).split()) in text
    assert "needed to read CIFAR-10 and cannot be imported (" in text
    assert "Install it again with: pip install --no-deps torchvision==" in text


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_what_says_nothing_about_a_package_passes_through(error, monkeypatch):
    def stop(name):
        raise error

    monkeypatch.setattr(optional, "importlib", SimpleNamespace(import_module=stop))
    with pytest.raises(error):
        optional.library("torch", "torch", "fly")


def test_a_module_without_a_spec_is_installed(monkeypatch):
    bare = ModuleType("bare")
    assert bare.__spec__ is None
    monkeypatch.setitem(sys.modules, "bare", bare)
    assert optional.installed("bare") and not optional.installed("barer")


@pytest.mark.parametrize("reason", ["", "OSError: no libtorch.so"])
def test_a_missing_package_is_handed_from_process_to_process(reason):
    error = MissingDependencyError("torch", "torch", "fly", "pip install x", reason)
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(again) is MissingDependencyError
        assert str(again) == str(error)
        assert (again.package, again.extra) == ("torch", "torch")


def test_the_table_says_why_torch_does_not_load(monkeypatch):
    broken = "biril_nm.export.from_torch.layers"

    class Broken:
        def find_spec(self, name, path=None, target=None):
            if name == broken:
                reason = "OSError: no libtorch.so"
                raise MissingDependencyError("torch", "torch", "fly", "", reason)

    assert torch_problem() is None
    monkeypatch.delitem(sys.modules, broken)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    text = torch_problem()
    assert text.startswith("package 'torch' is needed to fly")
    assert "cannot be imported (OSError: no libtorch.so)" in text
    assert {side for side, *_ in policy_rows()} == {"NIR"}


def test_info_says_that_torch_is_missing(monkeypatch):
    monkeypatch.setattr(registry, "installed", lambda package: package != "torch")
    done = biril("info")
    assert done.returncode == 0
    text = " ".join(done.stderr.split())
    assert "layers of torch are not listed: package 'torch' is needed" in text
    assert "LIF" in done.stdout
    assert {side for side, *_ in supported_rows()} == {"NIR"}


def test_info_imports_no_network():
    code = (
        "import sys; from biril_nm import cli; sys.argv[1:] = ['info']\n"
        "try: cli.main()\n"
        "except SystemExit: pass\n"
        "print([x for x in ('torch', 'snntorch', 'nir', 'numba', 'scipy', 'lava') if x in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "Leaky" in done.stdout
