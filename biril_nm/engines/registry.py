"""Registry of engines: a name such as ``sim`` leads to what runs a network on spikes.

Other packages add theirs through the entry point group ``biril_nm.engines`` (the entry point loads
an :class:`Engine`) or with ``@engine("name")``. ``--against``, ``--backend``, ``check_parity`` and
``evaluate_graph`` take every name of this registry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

from biril_nm.arguments import Count, checked
from biril_nm.errors import BirilError, ConfigError, MissingDependencyError
from biril_nm.hw_graph import LoihiGraph
from biril_nm.hw_graph.metadata import PER_CONNECTION, rounding_of
from biril_nm.optional import installed
from biril_nm.recording import Recording
from biril_nm.registry import Registry

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "ENGINES",
    "Engine",
    "IntegerNet",
    "Network",
    "Requirement",
    "RunOptions",
    "available_engines",
    "engine",
    "get_engine",
]

ENTRY_POINT_GROUP = "biril_nm.engines"


@checked
@dataclass(frozen=True)
class Network:
    """A network in the forms that engines run.

    Attributes:
        graph: the integer network.
        net: the torch network that it was lowered from, where there is one.
    """

    graph: LoihiGraph
    net: nn.Module | None = None


@checked
@dataclass(frozen=True)
class RunOptions:
    """What a run records and how.

    Attributes:
        record: variables, of s, u, v and, in a run that learns, w, t, d, x1, x2, y1, y2, y3.
        nodes: Neurons nodes to record; None: all.
        learn: whether plastic connections learn.
        n_threads: threads, for engines that have them; None: all CPUs.
        device: device of torch, for engines that run there: "cpu", "cuda:1"; "auto": CUDA where there is
            one, else the CPU.
    """

    record: tuple[str, ...] = ("s",)
    nodes: tuple[str, ...] | None = None
    learn: bool = False
    n_threads: Count | None = None
    device: str = "auto"


@runtime_checkable
class IntegerNet(Protocol):
    """A torch network that computes the chip's integers, such as ``QuantizedNet``."""

    def run_integers(self, spikes: Any, record: Iterable[str] = ("s",)) -> Recording:
        """Recording of s, u and v on integers ``(n_steps, batch, *shape)``."""


Run: TypeAlias = Callable[[Network, Any, RunOptions], Recording]


@checked
@dataclass(frozen=True)
class Requirement:
    """A package that an engine needs.

    Attributes:
        package: its import name.
        extra: extra of biril-nm that installs it; empty where ``pip install PACKAGE`` does.
    """

    package: str
    extra: str = ""


@dataclass(frozen=True)
class Engine:
    """What can run a network on spikes.

    Attributes:
        name: its name in the registry.
        compute: (network, spikes, options) -> recording. Spikes are integers
            ``(n_steps, batch, *shape)``, or a dict of them by input name.
        integers: whether its s, u and v are the chip's integers, which are compared one by one;
            otherwise its predictions and firing rates are compared. An engine that runs the torch network
            gives integers as well if that network does (:meth:`gives_integers`).
        learns: whether it can run networks that learn.
        needs_net: whether it runs the torch network instead of the integer graph.
        requires: packages that it needs.
        problem: says why it cannot run here for other reasons; None where it can.
        rounds_each: whether it can round weights that learn by a random number of each synapse.
    """

    name: str
    compute: Run
    integers: bool = True
    learns: bool = False
    needs_net: bool = False
    requires: tuple[Requirement, ...] = ()
    problem: Callable[[], BirilError | None] | None = None
    rounds_each: bool = False

    def gives_integers(self, network: Network) -> bool:
        """Whether what it records of a network are the chip's integers."""
        return self.integers or (self.needs_net and isinstance(network.net, IntegerNet))

    def why_not(self, network: Network | None = None, learn: bool = False) -> BirilError | None:
        """The reason why it cannot run here (and, if given, run ``network``), or None."""
        if learn and not self.learns:
            return ConfigError(
                f"engine '{self.name}' cannot run a network that learns. Leave it out, or run "
                f"without learning"
            )
        if learn and network is not None and not self.rounds_each:
            rounding = rounding_of(network.graph.metadata)
            if rounding != PER_CONNECTION:
                return ConfigError(
                    f"engine '{self.name}' rounds weights by one random number of each {PER_CONNECTION}, and "
                    f"the graph asks for one of each {rounding}, which the simulator alone has; expected a "
                    f"graph without. Set graph.with_metadata(rounding='{PER_CONNECTION}')"
                )
        if network is not None and self.needs_net and network.net is None:
            return ConfigError(
                f"engine '{self.name}' needs the torch network, which the source does not hold. "
                f"Leave the engine out, or give model.pt (in Python: net=...)"
            )
        for needed in self.requires:
            if not installed(needed.package):
                purpose = f"run the engine '{self.name}'"
                return MissingDependencyError(needed.package, needed.extra, purpose)
        return None if self.problem is None else self.problem()

    @checked
    def run(self, network: Network, spikes: Any, options: RunOptions | None = None) -> Recording:
        """Run the network.

        Raises:
            ConfigError: the engine cannot run this network, or the spikes do not fit it.
            MissingDependencyError: a package is not installed.
        """
        chosen = options or RunOptions()
        problem = self.why_not(network, chosen.learn)
        if problem is not None:
            raise problem
        return self.compute(network, spikes, chosen)


def _accept(name: str, loaded: object) -> Engine | None:
    return replace(loaded, name=name) if isinstance(loaded, Engine) else None


ENGINES: Registry[Engine] = Registry(
    kind="engine",
    group=ENTRY_POINT_GROUP,
    built_in={
        "torch": "biril_nm.engines.torch:TORCH",
        "sim": "biril_nm.engines.sim:SIM",
        "lava": "biril_nm.engines.lava:LAVA",
        "torch-int": "biril_nm.engines.torch_int:TORCH_INT",
    },
    accept=_accept,
    expected="a biril_nm.engines.Engine",
)


def engine(
    name: str,
    integers: bool = True,
    learns: bool = False,
    needs_net: bool = False,
    requires: tuple[Requirement, ...] = (),
) -> Callable[[Run], Run]:
    """Function decorator: register an engine; arguments are the fields of :class:`Engine`.

    Raises:
        ConfigError: another engine has the name.
    """

    def register(run: Run) -> Run:
        made = Engine(name, run, integers, learns, needs_net, requires)
        ENGINES.add(name, made, getattr(run, "__qualname__", str(run)))
        return run

    return register


def available_engines() -> tuple[str, ...]:
    """Names that :func:`get_engine` knows; nothing is imported."""
    return ENGINES.names()


@checked
def get_engine(name: str) -> Engine:
    """The engine called ``name``.

    Raises:
        ConfigError: the name is unknown (the message lists the known ones), or the entry point of
            that name does not lead to an engine.
    """
    return ENGINES.get(name)
