"""The phases of BIRIL as functions ``(net, batch, optimizer, state) -> metrics``, and two controls.

* B, STBP: surrogate gradient through time, Adam on all layers.
* S, STDP: a local rule on the plastic kernels and nothing else. No gradient, BatchNorm in eval
  mode, the optimiser is not touched; the kernels move on the 8-bit grid of the chip.
* H, STDP-STBP: the step of B, then the local rule with the spikes of the same forward pass.

S and H are our own design after the paper's words (algorithm 1, equation 3): the published
code constructs no STDP learner, so its S epochs train nothing and its H epochs equal B.
The controls F and I are in :mod:`biril_nm.training.controls`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from biril_nm.arguments import Seed, checked, unknown_name
from biril_nm.errors import ConfigError
from biril_nm.models.links import INPUT, Link
from biril_nm.models.spiking_net import NetOutput, SpikingNet
from biril_nm.training.controls import without_update
from biril_nm.training.local_rule.plasticity import Grid, LocalLearner, PlasticityConfig
from biril_nm.training.local_rule.torch_engine import Activity
from biril_nm.training.losses import LOSSES
from biril_nm.training.world import ALONE, World

__all__ = ["PHASES", "Batch", "Metrics", "Phase", "PhaseState", "plastic_links"]

Batch = tuple[Tensor, Tensor]  # input (n_steps, batch, *shape), labels (batch,)
Metrics = dict[str, float]
PLASTIC = ("conv", "conv+fc", "last")


@checked
def plastic_links(net: SpikingNet, plastic: str = "conv") -> tuple[Link, ...]:
    """The weight layers that S and H change by the local rule.

    ``"conv"``: convolutions except the first one (its input may be graded) and 1x1 projections;
    ``"conv+fc"``: these and the hidden Linear layers. Nets without such a convolution use their
    hidden Linear layers; the first weight layer and the readout are never plastic. ``"last"``: of the
    layers of ``"conv"`` the last one.

    Raises:
        ConfigError: unknown choice, or no layer of the net can be plastic.
    """
    if plastic not in PLASTIC:
        raise ConfigError(f"plastic is '{plastic}'; expected one of {', '.join(PLASTIC)}")
    links = net.links()
    pairs = Counter(link.name for link in links)  # a rule has one source and one target
    outer = {link.name for link in links if link.pre == INPUT or link.post == net.readout_name}
    inner = [link for link in links if pairs[link.name] == 1 and link.name not in outer]
    convs = [k for k in inner if isinstance(k.layer, nn.Conv2d) and k.layer.kernel_size != (1, 1)]
    linear = [link for link in inner if isinstance(link.layer, nn.Linear)]
    chosen = convs + linear if plastic == "conv+fc" or not convs else convs
    if not chosen:
        raise ConfigError(
            f"'{net.name}' with {len(pairs)} weight layers has none that a local rule may "
            f"change; expected one between the first and the last. Add a hidden layer, or use a schedule "
            f"of B only"
        )
    return tuple(chosen[-1:] if plastic == "last" else chosen)


@checked
@dataclass
class PhaseState:
    """What phases share during one epoch.

    Attributes:
        loss: name of the loss.
        plastic: choice of plastic layers.
        plasticity: settings of the local rule.
        learner: the rule's interpreter with its random numbers.
        eta_scale: share of the plasticity's ``eta`` for one batch: learning rate of the epoch over
            the initial one, divided by the number of batches.
        grids: grid of each plastic layer, fixed when S first meets the layer.
        world: the processes that train together.
    """

    loss: str = "ce"
    plastic: str = "conv"
    plasticity: PlasticityConfig = field(default_factory=PlasticityConfig)
    seed: Seed = 0
    eta_scale: float = 1.0
    grids: dict[str, Grid] = field(default_factory=dict)
    world: World = field(default=ALONE)
    learner: LocalLearner = field(init=False)

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise ConfigError(unknown_name("loss", self.loss, LOSSES))
        self.learner = LocalLearner(self.plasticity, self.seed)


def stbp(
    net: SpikingNet, batch: Batch, optimizer: torch.optim.Optimizer, state: PhaseState
) -> Metrics:
    """Phase B."""
    net.train()
    return _gradient_step(net, batch, optimizer, state, record=())[1]


def stdp(
    net: SpikingNet, batch: Batch, optimizer: torch.optim.Optimizer, state: PhaseState
) -> Metrics:
    """Phase S."""
    x, labels = batch
    links = plastic_links(net, state.plastic)
    optimizer.zero_grad(set_to_none=True)  # zeroed gradients would still move weights (momentum)
    net.eval()
    with torch.no_grad():
        out = net(x, record=_populations(links))
        loss = LOSSES[state.loss](out.scores, labels, x.shape[0])
        if not state.learner.engine.inert:
            for link in links:
                _move_on_grid(link, _activity(link, out, state), state)
    return _metrics(out, labels, loss)


def stdp_stbp(
    net: SpikingNet, batch: Batch, optimizer: torch.optim.Optimizer, state: PhaseState
) -> Metrics:
    """Phase H."""
    links = plastic_links(net, state.plastic)
    net.train()
    out, metrics = _gradient_step(net, batch, optimizer, state, _populations(links))
    right = out.predictions.detach() == batch[1] if state.plasticity.confident else None
    if not state.learner.engine.inert:
        for link in links:
            _turn(link, _activity(link, out, state, right), state)
    return metrics


def _gradient_step(
    net: SpikingNet,
    batch: Batch,
    optimizer: torch.optim.Optimizer,
    state: PhaseState,
    record: Sequence[str],
) -> tuple[NetOutput, Metrics]:
    x, labels = batch
    state.grids.clear()  # a gradient step leaves the grid; S finds a new one
    out: NetOutput = net(x, record=record)
    loss = LOSSES[state.loss](out.scores, labels, x.shape[0])
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    state.world.average_gradients(net)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return out, _metrics(out, labels, loss)


@torch.no_grad()
def _turn(link: Link, activity: Activity, state: PhaseState) -> None:
    """Add the rule's change to float weights, within ``w_clip``."""
    weight = link.weight
    grid = Grid.of(weight)
    integers = weight / grid.unit
    new = state.learner.change(link.layer, integers, grid.mode, activity, state.eta_scale)
    bound = max(state.plasticity.w_clip, float(weight.abs().max()))
    weight.add_((new - integers) * grid.unit).clamp_(-bound, bound)


@torch.no_grad()
def _move_on_grid(link: Link, activity: Activity, state: PhaseState) -> None:
    """Apply the rule to grid integers; the first call of an epoch puts the kernel on its grid."""
    weight = link.weight
    grid = state.grids.setdefault(link.name, Grid.of(weight))
    integers = grid.integers(weight)
    new = state.learner.change(link.layer, integers, grid.mode, activity, state.eta_scale)
    weight.copy_(state.learner.round_to_grid(new, grid) * grid.unit)


def _activity(
    link: Link, out: NetOutput, state: PhaseState, samples: Tensor | None = None
) -> Activity:
    whole = state.world.whole
    post = state.learner.gate(
        whole(out.recorded[link.post])
    )  # draws random numbers for the whole batch
    if samples is not None:
        chosen = whole(samples.to(post.dtype).view(1, -1))
        post = post * chosen.view(1, -1, *[1] * (post.ndim - 2))
    return Activity(whole(out.recorded[link.pre]), post, link.between)


def _populations(links: Sequence[Link]) -> tuple[str, ...]:
    return tuple({name: None for link in links for name in (link.pre, link.post)})


def _metrics(out: NetOutput, labels: Tensor, loss: Tensor) -> Metrics:
    right = int((out.predictions == labels).sum())
    return {"loss": float(loss.detach()), "correct": right, "samples": labels.numel()}


@dataclass(frozen=True)
class Phase:
    """A phase and what it may change.

    Attributes:
        run: the function.
        title: how reports call it.
        updates: ``"all"``, ``"plastic"`` or ``"none"``, the layers that it changes.
    """

    run: Callable[[SpikingNet, Batch, torch.optim.Optimizer, PhaseState], Metrics]
    title: str
    updates: str

    def updated_layers(self, net: SpikingNet, plastic: str = "conv") -> tuple[str, ...]:
        """Names of the layers that this phase may change in ``net``."""
        if self.updates == "none":
            return ()
        if self.updates == "plastic":
            return tuple(link.name for link in plastic_links(net, plastic))
        return tuple(
            name.removeprefix("layers.").removeprefix("module.")
            for name, layer in net.named_modules()
            if list(layer.parameters(recurse=False))
        )


def frozen(
    net: SpikingNet, batch: Batch, optimizer: torch.optim.Optimizer, state: PhaseState
) -> Metrics:
    """Phase F: as the published code runs S. No parameter changes, BatchNorm follows the data."""
    optimizer.zero_grad(set_to_none=True)
    return without_update(net, batch, state.loss, training=True)


def idle(
    net: SpikingNet, batch: Batch, optimizer: torch.optim.Optimizer, state: PhaseState
) -> Metrics:
    """Phase I: nothing changes."""
    optimizer.zero_grad(set_to_none=True)
    return without_update(net, batch, state.loss, training=False)


PHASES: dict[str, Phase] = {
    "B": Phase(stbp, "STBP", "all"),
    "S": Phase(stdp, "STDP", "plastic"),
    "H": Phase(stdp_stbp, "STDP-STBP", "all"),
    "F": Phase(frozen, "frozen", "none"),
    "I": Phase(idle, "idle", "none"),
}
