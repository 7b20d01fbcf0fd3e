"""A package of somebody else, installed for one test: code and entry points in a folder."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from biril_nm.engines.registry import ENGINES
from biril_nm.export.backends import BACKENDS

MODULE = "their_package"

CODE = '''
from pathlib import Path

from biril_nm.engines import Engine, Requirement, get_engine
from biril_nm.export.backends import Target


def _run(network, spikes, options):
    return get_engine("sim").run(network, spikes, options)


def _run_wrong(network, spikes, options):
    name = next(iter(network.graph.neurons))
    return _run(type(network)(network.graph.with_node(name, vth=1)), spikes, options)


TWIN = Engine("any name", _run, learns=True)
WRONG = Engine("wrong", _run_wrong)
LACKING = Engine("lacking", _run, requires=(Requirement("a_package_that_is_not_there"),))


class TextBackend:
    """Names of the nodes, one a line."""

    target = Target(suffix=".txt", options=("spikes",), hint="read it: less {path}")

    def build(self, graph, n_steps):
        return "\\n".join(graph.nodes)

    def write(self, graph, path, force=False, spikes=None):
        Path(path).write_text(f"{self.build(graph, 1)}\\n{sorted(spikes)}")


class Plain:
    """A back end that knows nothing of Target."""

    def build(self, graph, n_steps):
        return n_steps

    def write(self, graph, path, force=False):
        Path(path).mkdir()
        return Path(path)


broken = 1
'''

ENTRY_POINTS = f"""
[biril_nm.engines]
twin = {MODULE}:TWIN
wrong = {MODULE}:WRONG
lacking = {MODULE}:LACKING
not_an_engine = {MODULE}:broken
gone = {MODULE}_that_is_gone:X

[biril_nm.backends]
text = {MODULE}:TextBackend
plain = {MODULE}:Plain
not_a_backend = {MODULE}:broken
gone = {MODULE}:missing
"""


def write_package(folder: Path) -> Path:
    """Write code and metadata as pip leaves them; ``folder`` must come onto ``sys.path``."""
    (folder / f"{MODULE}.py").write_text(CODE, encoding="utf-8")
    info = folder / f"{MODULE}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {MODULE}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    return folder


@contextmanager
def registries_restored() -> Iterator[None]:
    """Forget, at the end, what was registered or loaded in between."""
    stores = [store for each in (ENGINES, BACKENDS) for store in (each.registered, each.origins)]
    before = [dict(store) for store in stores]
    try:
        yield
    finally:
        for store, old in zip(stores, before):
            store.clear()
            store.update(old)
        sys.modules.pop(MODULE, None)
