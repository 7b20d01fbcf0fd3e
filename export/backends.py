"""Registry of export targets: a name such as ``lava`` leads to a back end that builds and writes.

Other packages add theirs through the entry point group ``biril_nm.backends`` (the entry point loads
a :class:`Backend`, or a class that makes one) or with ``@backend("name")``. ``biril export --to``
offers every name of this registry.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

from biril_nm.arguments import checked
from biril_nm.errors import ConfigError
from biril_nm.registry import Registry
from biril_nm.storage import check_output

__all__ = [
    "BACKENDS",
    "Backend",
    "Target",
    "available_backends",
    "backend",
    "get_backend",
    "get_target",
]

ENTRY_POINT_GROUP = "biril_nm.backends"
NIR, INTEGERS = "nir", "integers"


@runtime_checkable
class Backend(Protocol):
    """What an export target offers. It may also carry a :class:`Target` as attribute ``target``."""

    def build(self, graph: Any, n_steps: int) -> Any:
        """The network as an object of the target's own kind, for samples of ``n_steps`` steps."""

    def write(self, graph: Any, path: str | Path, force: bool = False) -> Any:
        """Write the network to ``path`` atomically; replace an existing one only with ``force``."""


@dataclass(frozen=True)
class Target:
    """What ``biril export`` must know of a back end before it calls ``write``.

    Attributes:
        suffix: ending of the file that it writes; empty where it writes a folder.
        marker: file that every folder of this target holds; only such a folder is replaced.
        takes: ``"integers"``: ``write`` gets a LoihiGraph; ``"nir"``: it gets the NIR graph where
            the source has one.
        learns: whether it can express learning rules.
        options: keywords that ``write`` takes besides ``force``, of ``spikes`` (sample input),
            ``round_bias`` and ``dt_s``.
        hint: line that is printed after writing; ``{path}`` stands for the output.
    """

    suffix: str = ""
    marker: str = ""
    takes: str = INTEGERS
    learns: bool = False
    options: tuple[str, ...] = ()
    hint: str = ""

    def check_path(self, path: Path, name: str, force: bool) -> Path:
        """The output path, if its name says what it will hold and it may be written.

        Raises:
            ConfigError: the path has another ending.
            OutputExistsError: it exists and ``force`` is False, or it is another kind of folder.
        """
        if not self.suffix:
            return check_output(path, force, folder_with=self.marker or None)
        if not path.name.endswith(self.suffix):
            raise ConfigError(
                f"output is '{path}'; expected a name that ends in {self.suffix} with --to {name}"
            )
        return check_output(path, force)


def _accept(_name: str, loaded: object) -> Backend | None:
    candidate = loaded() if isinstance(loaded, type) else loaded
    return candidate if isinstance(candidate, Backend) else None


# Back ends by name; entry points of other packages are among them.
BACKENDS: Registry[Backend] = Registry(
    kind="back end",
    group=ENTRY_POINT_GROUP,
    built_in={
        "nir": "biril_nm.export.nir_files.backend:NirBackend",
        "loihi": "biril_nm.export.loihi_file:LoihiFileBackend",
        "lava": "biril_nm.export.lava.backend:LavaBackend",
        "netx": "biril_nm.export.netx.backend:NetxBackend",
    },
    accept=_accept,
    expected="an object with build() and write()",
)

Kind = TypeVar("Kind", bound=Callable[[], Backend])


def backend(name: str) -> Callable[[Kind], Kind]:
    """Class decorator: register a :class:`Backend` under ``name``.

    Raises:
        ConfigError: another class has the name.
    """

    def register(kind: Kind) -> Kind:
        BACKENDS.add(name, kind(), getattr(kind, "__qualname__", str(kind)))
        return kind

    return register


def available_backends() -> tuple[str, ...]:
    """Names that :func:`get_backend` knows; nothing is imported."""
    return BACKENDS.names()


@checked
def get_backend(name: str) -> Backend:
    """Return the back end called ``name``.

    Raises:
        ConfigError: the name is unknown (the message lists the known ones), or the entry point of
            that name does not lead to a back end.
    """
    return BACKENDS.get(name)


@checked
def get_target(name: str) -> Target:
    """What ``biril export`` must know of the back end called ``name``.

    Raises:
        ConfigError: as :func:`get_backend`.
    """
    target = getattr(get_backend(name), "target", Target())
    if not isinstance(target, Target):
        raise ConfigError(
            f"back end '{name}' has a target of type {type(target).__name__}; expected a Target"
        )
    return target
