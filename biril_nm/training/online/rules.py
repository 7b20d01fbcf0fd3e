"""OnlineRule: which traces stand for the past of a network, and how they are filtered.

D-RTRL (parameter dimension), for each weight of a layer with states h, synaptic input y = W x, D, f:

    eps_t = D_t eps_{t-1} + f_t x_t                  (batch, states, neurons, sources)
    grad W += sum_k l_t eps_t,    l_t = dL_t/dh_t through the layers above, in this step only

ES-D-RTRL (input and output dimension), 0 < alpha < 1:

    ex_t = alpha ex_{t-1} + x_t                      (batch, sources)
    ef_t = alpha D_t ef_{t-1} + (1 - alpha) f_t      (batch, states, neurons)
    grad W += (sum_k l_t ef_t) ex_t

D leaves out the way through the loops of a layer, and l the states of the layers above. Parameters of
the neurons themselves follow the first recursion with dh/dp in the place of f x, in both rules.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from biril_nm.arguments import unknown_name
from biril_nm.errors import ConfigError, bullet_list

__all__ = ["DECAY", "D_RTRL", "ES_D_RTRL", "HYBRID", "OnlineRule", "decay_of", "rank_of"]

D_RTRL, ES_D_RTRL, HYBRID = "d-rtrl", "es-d-rtrl", "hybrid"
KINDS = (D_RTRL, ES_D_RTRL, HYBRID)
DEBIAS = ("none", "as_coded", "exact")
DECAY = 0.9  # alpha if none is given
_UNSET = {"decay": DECAY, "rank": None, "debias": "none"}


def decay_of(rank: int) -> float:
    """``alpha = (n - 1) / (n + 1)``.

    Raises:
        ConfigError: rank is below 2.
    """
    if type(rank) is not int or rank < 2:
        raise ConfigError(f"rank is {rank!r}; expected an integer from 2 on. Give a decay instead")
    return (rank - 1) / (rank + 1)


def rank_of(decay: float) -> int:
    """``n = round(2 / (1 - alpha) - 1)``.

    Raises:
        ConfigError: decay is not between 0 and 1.
    """
    if not 0.0 < decay < 1.0:
        raise ConfigError(f"decay is {decay!r}; expected a number between 0 and 1. Choose 0.9, say")
    return round(2 / (1 - decay) - 1)


@dataclass(frozen=True)
class OnlineRule:
    """Settings of an online rule.

    Attributes:
        kind: ``"d-rtrl"``, ``"es-d-rtrl"`` or ``"hybrid"``: for each projection the one that keeps fewer
            numbers.
        decay: alpha of ES-D-RTRL; 0.9 counts about 19 steps (:func:`rank_of`).
        rank: instead of decay: alpha = (rank - 1) / (rank + 1).
        debias: what ef is divided by: ``"none"``; ``"as_coded"``, ``1 - (1 - alpha)^(t + 1)`` for t < 1000
            as the published code has it; ``"exact"``, ``1 - alpha^(t + 1)``.
        max_norm: divide f x and eps of D-RTRL by their largest absolute entry where it exceeds 1.
        kappa: filter the traces of the layers below a leaky readout with its decay, so that D-RTRL is
            exact for one hidden layer without loops. The readout then needs one decay for all neurons.
        kinds: layers by index whose kind differs, such as ``{0: "es-d-rtrl"}``; -1 is the readout.
    """

    kind: str = D_RTRL
    decay: float = DECAY
    rank: int | None = None
    debias: str = "none"
    max_norm: bool = False
    kappa: bool = False
    kinds: Mapping[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        findings = [
            unknown_name("kind", kind, KINDS)
            for kind in (self.kind, *self.kinds.values())
            if kind not in KINDS
        ]
        if self.debias not in DEBIAS:
            findings.append(unknown_name("debias", self.debias, DEBIAS))
        if not 0.0 < self.decay < 1.0:
            findings.append(f"decay is {self.decay!r}; expected a number between 0 and 1")
        if self.rank is not None and (type(self.rank) is not int or self.rank < 2):
            findings.append(f"rank is {self.rank!r}; expected an integer from 2 on, or None")
        findings += self._without_effect()
        if findings:
            raise ConfigError(bullet_list("the online rule makes no sense:", findings))

    def _without_effect(self) -> list[str]:
        """Settings that none of the kinds reads."""
        used = {self.kind, *self.kinds.values()}
        found = []
        if self.max_norm and used == {ES_D_RTRL}:
            found.append(f"max_norm is True with kind '{ES_D_RTRL}'; expected False. Leave it out")
        if used == {D_RTRL}:
            given = {"decay": self.decay, "rank": self.rank, "debias": self.debias}
            found += [
                f"{name} is {value!r} with kind '{D_RTRL}', which has no filter; expected "
                f"{_UNSET[name]!r}. Leave it out"
                for name, value in given.items()
                if value != _UNSET[name]
            ]
        if self.rank is not None and self.decay != DECAY:
            found.append(f"decay is {self.decay!r} and rank {self.rank!r}; expected one of them")
        return found

    def check_layers(self, n_layers: int) -> None:
        """Refuse ``kinds`` of layers that are not there, or that are named twice.

        Raises:
            ConfigError: with their indices.
        """
        wrong = [i for i in self.kinds if type(i) is not int or not -n_layers <= i < n_layers]
        if wrong:
            raise ConfigError(
                f"kinds names layers {wrong} of a network of {n_layers}; expected {-n_layers} to "
                f"{n_layers - 1}. Name others"
            )
        twice = [i for i in self.kinds if i < 0 and i + n_layers in self.kinds]
        if twice:
            raise ConfigError(
                f"kinds names layers {twice} and {[i + n_layers for i in twice]}, which are the same; "
                f"expected each once. Leave one out"
            )

    @property
    def alpha(self) -> float:
        """The decay of ES-D-RTRL, of the rank if there is one."""
        return self.decay if self.rank is None else decay_of(self.rank)

    def kind_of(self, layer: int, n_layers: int) -> str:
        """The kind of a layer."""
        return self.kinds.get(layer, self.kinds.get(layer - n_layers, self.kind))

    def debiasing(self, t: int) -> float:
        """What ef is divided by at step t, from 0 on."""
        if self.debias == "exact":
            return 1.0 - self.alpha ** (t + 1)
        if self.debias == "as_coded" and t < AS_CODED_STEPS:
            return 1.0 - (1.0 - self.alpha) ** (t + 1)
        return 1.0


AS_CODED_STEPS = 1000
