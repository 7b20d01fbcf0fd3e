"""Surrogate gradients by name: what stands in for the derivative of the spike's step function.

The step is ``s = 1 if x > 0 else 0`` with ``x = mem - threshold`` (strict, as on Loihi). The
default is the sigmoid of the published BIRIL code, ``psi(x) = alpha sig(alpha x) (1 - sig(alpha
x))`` with alpha = 4 (the paper's equation 6 leaves the inner alpha out). snnTorch's own sigmoid
has the same form but overflows to nan for large negative x, so this one is written here; the other
names are snnTorch's functions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from copy import deepcopy
from functools import cache
from types import FunctionType, MethodType
from typing import Any, cast
from weakref import WeakKeyDictionary

import torch
from snntorch import surrogate as snn_surrogate
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from biril_nm.arguments import checked, unknown_name
from biril_nm.errors import ConfigError

__all__ = [
    "ATAN_ALPHA",
    "SIGMOID_ALPHA",
    "SURROGATES",
    "AtanSurrogate",
    "LearnedAtan",
    "QGateSurrogate",
    "RectangleSurrogate",
    "SigmoidSurrogate",
    "formula",
    "is_step",
    "make_surrogate",
    "slope",
    "slope_function",
]

SIGMOID_ALPHA = 4.0  # published BIRIL code; the peak of psi is then 1
ATAN_ALPHA = 2.0  # AtanGrad of BrainCog; the peak of psi is then 1
QGATE_ALPHA = 2.0  # QGateGrad of BrainCog; the peak of psi is alpha, its foot is 1 / alpha wide
RECTANGLE_ALPHA = 1.0  # BRP-SNN: the peak of psi is alpha, its foot 1 / alpha wide
MAX_ALPHA = 1e3
MIN_LEARNED_ALPHA = 1e-3

Surrogate = Callable[[Tensor], Tensor]
# Surrogates whose slope is a formula of one parameter, by their number in compiled loops.
FORMULAS = ("sigmoid", "atan", "fast_sigmoid", "straight_through_estimator", "qgate", "rectangle")


class _Spike(torch.autograd.Function):
    """Step function forward, ``psi`` backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, psi: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.save_for_backward(x)
        ctx.psi = psi
        return (x > 0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return grad * ctx.psi(x), None


class _Sloped:
    """A surrogate that is given by its slope, with one number alpha."""

    def __init__(self, alpha: float) -> None:
        self.alpha = float(alpha)

    def __call__(self, x: Tensor) -> Tensor:
        """Spikes where x is above 0."""
        spikes: Tensor = _Spike.apply(x, self.slope)  # type: ignore[no-untyped-call]
        return spikes

    def slope(self, x: Tensor) -> Tensor:
        """``psi(x)``."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"{type(self).__name__}(alpha={self.alpha:g})"


class SigmoidSurrogate(_Sloped):
    """``psi(x) = alpha sig(alpha x) (1 - sig(alpha x))``."""

    def __init__(self, alpha: float = SIGMOID_ALPHA) -> None:
        super().__init__(alpha)

    def slope(self, x: Tensor) -> Tensor:
        """``psi(x)`` itself."""
        gate = torch.sigmoid(x * self.alpha)
        return (gate - gate * gate).mul_(self.alpha)


class QGateSurrogate(_Sloped):
    """``psi(x) = max(0, alpha - alpha^2 |x|)``, BrainCog's QGateGrad; its AtanGrad is ``"atan"``."""

    def __init__(self, alpha: float = QGATE_ALPHA) -> None:
        super().__init__(alpha)

    def slope(self, x: Tensor) -> Tensor:
        """``psi(x)`` itself."""
        psi: Tensor = (self.alpha - self.alpha * self.alpha * x.abs()).clamp_min(0)
        return psi


class RectangleSurrogate(_Sloped):
    """``psi(x) = alpha if |x| < 1 / (2 alpha) else 0``, of BRP-SNN."""

    def __init__(self, alpha: float = RECTANGLE_ALPHA) -> None:
        super().__init__(alpha)

    def slope(self, x: Tensor) -> Tensor:
        """``psi(x)`` itself."""
        return self.alpha * (2 * self.alpha * x.abs() < 1).to(x.dtype)


class AtanSurrogate(_Sloped):
    """``psi(x) = alpha / (2 (1 + (pi/2 alpha x)^2))``, snnTorch's ``atan`` in a form that can be pickled."""

    def __init__(self, alpha: float = ATAN_ALPHA) -> None:
        super().__init__(alpha)

    def slope(self, x: Tensor) -> Tensor:
        """``psi(x)`` itself."""
        psi: Tensor = self.alpha / 2 / (1 + (torch.pi / 2 * self.alpha * x) ** 2)
        return psi


class _AtanSpike(torch.autograd.Function):
    """Step function forward; backward the derivatives of ``1/2 + atan(pi/2 alpha x) / pi`` by both."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, alpha: Tensor) -> Tensor:
        ctx.save_for_backward(x, alpha)
        return (x > 0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        x, stored = ctx.saved_tensors
        alpha = stored.clamp(MIN_LEARNED_ALPHA, MAX_ALPHA)
        half = grad / (2 * (1 + (torch.pi / 2 * alpha * x) ** 2))
        found = (x * half).sum()
        # Descent goes against the gradient: one that leads further out of the range is left out.
        out = ((stored <= MIN_LEARNED_ALPHA) & (found > 0)) | ((stored >= MAX_ALPHA) & (found < 0))
        return alpha * half, found.masked_fill(out, 0)


class LearnedAtan(nn.Module):
    """``psi(x) = alpha / (2 (1 + (pi/2 alpha x)^2))`` with a learned alpha, one number of the layer.

    BrainCog's AtanGrad as its PLIF class has it by default. Alpha gets the derivative of the function whose
    slope psi is, ``1/2 + atan(pi/2 alpha x) / pi``. Psi takes an alpha outside of 0.001 to 1000 as the nearer
    end, where alpha gets no gradient that leads further out. Neurons with it are called step by step.

    Raises:
        ConfigError: the first alpha is outside of that range.
    """

    def __init__(self, alpha: float = ATAN_ALPHA) -> None:
        super().__init__()
        if not MIN_LEARNED_ALPHA <= alpha <= MAX_ALPHA:
            raise ConfigError(
                f"alpha of learned_atan is {alpha!r:.40}; expected {MIN_LEARNED_ALPHA:g} to {MAX_ALPHA:g}. "
                f"Leave it out for {ATAN_ALPHA:g}"
            )
        self.alpha = nn.Parameter(torch.tensor(float(alpha)))

    def forward(self, x: Tensor) -> Tensor:
        """Spikes where x is above 0."""
        spikes: Tensor = _AtanSpike.apply(x, self.alpha)  # type: ignore[no-untyped-call]
        return spikes


class _Named:
    """A function that :data:`SURROGATES` makes, in a form that can be pickled: by its name."""

    def __init__(self, name: str, function: Surrogate) -> None:
        self.name, self.function = name, function

    def __call__(self, x: Tensor) -> Tensor:
        """Spikes where x is above 0."""
        return self.function(x)

    def __reduce__(self) -> tuple[Any, ...]:
        return make_surrogate, (self.name,)

    def __repr__(self) -> str:
        return f"make_surrogate('{self.name}')"


# Name of a surrogate gradient -> what makes the spike function, from its slope if one is given.
SURROGATES: dict[str, Callable[..., Surrogate]] = {
    "sigmoid": SigmoidSurrogate,
    "fast_sigmoid": snn_surrogate.fast_sigmoid,
    "atan": snn_surrogate.atan,
    "triangular": snn_surrogate.triangular,
    "straight_through": snn_surrogate.straight_through_estimator,
    "qgate": QGateSurrogate,
    "rectangle": RectangleSurrogate,
    "learned_atan": LearnedAtan,
}


@checked
def make_surrogate(name: str) -> Surrogate:
    """The surrogate called ``name``, with its default slope or that of ``name:alpha``.

    Raises:
        ConfigError: the name is unknown, or takes no such number; the message lists the known ones.
    """
    bare, colon, number = name.partition(":")
    if bare not in SURROGATES:
        raise ConfigError(unknown_name("surrogate", bare, SURROGATES))
    if not colon:
        return _picklable(name, SURROGATES[bare]())
    try:
        alpha = float(number)
    except ValueError:
        alpha = math.nan
    if not 0 < alpha <= MAX_ALPHA:
        raise ConfigError(
            f"surrogate is '{name:.60}'; expected {bare} or {bare}:ALPHA with a number above 0, up to "
            f"{MAX_ALPHA:g}"
        )
    try:
        return _picklable(name, SURROGATES[bare](alpha))
    except TypeError as error:
        raise ConfigError(
            f"surrogate is '{name:.60}', and {bare} takes no number; expected '{bare}'"
        ) from error


def _picklable(name: str, surrogate: Surrogate) -> Surrogate:
    """Functions inside of functions, as snnTorch makes them, cannot be pickled."""
    return _Named(name, surrogate) if isinstance(surrogate, FunctionType) else surrogate


def slope(surrogate: Surrogate, x: Tensor) -> Tensor:
    """Derivative that ``surrogate`` uses at ``x``, element by element."""
    if isinstance(surrogate, _Sloped):
        return surrogate.slope(x)
    if torch.is_grad_enabled() and x.requires_grad:  # for gradients of gradients
        (psi,) = torch.autograd.grad(surrogate(x).sum(), x, create_graph=True)
        return psi
    with torch.enable_grad():  # type: ignore[no-untyped-call]
        point = x.detach().requires_grad_()
        (psi,) = torch.autograd.grad(surrogate(point).sum(), point)
    return psi


def is_step(surrogate: Surrogate) -> bool:
    """Whether ``surrogate`` sends 1 above 0 and 0 elsewhere, and multiplies gradients by a slope.

    Only then can its spikes and gradients be computed without it. Not so: spikes of other heights, random
    numbers, parameters that learn, gradients that are cut off, slopes that change from call to call. Unknown
    functions are tried out.
    """
    if formula(surrogate) is not None:
        return True
    of_class = isinstance(surrogate, MethodType) and isinstance(surrogate.__self__, type)
    if not (of_class or isinstance(surrogate, (FunctionType, _Named))):
        return _keeps(surrogate)  # an object, which may change
    if surrogate not in _steps:
        _steps[surrogate] = _tried(surrogate)
    return _steps[surrogate]


_steps: WeakKeyDictionary[Surrogate, bool] = WeakKeyDictionary()


def _keeps(surrogate: Surrogate) -> bool:
    """:func:`_tried` of an object that must stay as it is; its copy is tried out."""
    try:
        trial = deepcopy(surrogate)
    except Exception:  # of the user's object
        return False
    before = dict(vars(trial)) if hasattr(trial, "__dict__") else {}
    found = _tried(trial)
    after = vars(trial) if before else {}
    return found and len(after) == len(before) and all(after[k] is v for k, v in before.items())


def _tried(surrogate: Surrogate) -> bool:
    x = torch.tensor([[-10.0, -1.0, -0.3, -1e-3, 0.0, 1e-3, 0.3, 1.0, 10.0]])
    factors = torch.logspace(-3, 3, x.numel())[None] * torch.tensor([1.0, -1.0] * 5)[: x.numel()]
    with ExitStack() as contexts:
        contexts.enter_context(torch.inference_mode(False))
        contexts.enter_context(torch.autocast("cpu", enabled=False))
        contexts.enter_context(torch.random.fork_rng(devices=[]))
        contexts.enter_context(torch.enable_grad())  # type: ignore[no-untyped-call]
        # What a trial keeps is no part of a run that keeps tensors in its own way, as checkpointing does.
        contexts.enter_context(saved_tensors_hooks(lambda kept: kept, lambda kept: kept))
        before = torch.get_rng_state()
        try:
            spikes, point = surrogate(x), x.clone().requires_grad_()
            sent = surrogate(point)
            ones = torch.ones_like(sent)
            (psi,) = torch.autograd.grad(sent, point, ones, retain_graph=True)
            (scaled,) = torch.autograd.grad(sent, point, factors)
            (later,) = torch.autograd.grad(surrogate(point), point, ones)
        except Exception:  # of the user's function: calling the neurons shows it
            return False
        exact = not spikes.requires_grad and torch.equal(spikes, (x > 0).to(x.dtype))
        drawn = not torch.equal(before, torch.get_rng_state())
    kept = torch.allclose(later, psi, rtol=0, atol=0, equal_nan=True)
    return exact and kept and not drawn and torch.allclose(scaled, factors * psi, equal_nan=True)


def formula(surrogate: Surrogate) -> tuple[int, float] | None:
    """Place in :data:`FORMULAS` and parameter of a known surrogate, None for others."""
    surrogate = surrogate.function if isinstance(surrogate, _Named) else surrogate
    own: dict[Any, str] = {
        SigmoidSurrogate: "sigmoid",
        AtanSurrogate: "atan",
        QGateSurrogate: "qgate",
        RectangleSurrogate: "rectangle",
    }
    if type(surrogate) in own:
        return FORMULAS.index(own[type(surrogate)]), cast(_Sloped, surrogate).alpha
    return _of_snntorch(surrogate, FORMULAS[1:4])


def _of_snntorch(surrogate: Surrogate, names: Sequence[str]) -> tuple[int, float] | None:
    """:func:`formula` of a function that snnTorch has made, if it is one of ``names``."""
    name, _, inner = getattr(surrogate, "__qualname__", "").partition(".")
    known = getattr(surrogate, "__module__", "") == snn_surrogate.__name__ and name in names
    if not known or inner != "<locals>.inner":
        return None
    cells = getattr(surrogate, "__closure__", None) or ()
    values = [cell.cell_contents for cell in cells]
    return FORMULAS.index(name), float(values[0]) if values else 1.0


def slope_function(surrogate: Surrogate) -> Callable[[Tensor], Tensor] | None:
    """The slope of a known surrogate as a function of tensors that torch can compile.

    snnTorch's sigmoid is among them, without its overflow to nan. Compiled loops do not take it: far from
    the threshold their sigmoid is exact to a share of its peak only.
    """
    found = formula(surrogate) or _of_snntorch(surrogate, FORMULAS[:1])
    return None if found is None else _slope(*found)


@cache
def _slope(kind: int, k: float) -> Callable[[Tensor], Tensor]:
    """One function for equal surrogates: torch compiles it once."""
    functions: tuple[Callable[[Tensor], Tensor], ...] = (
        lambda x: k * torch.sigmoid(k * x) * torch.sigmoid(-k * x),
        lambda x: k / 2 / (1 + (torch.pi / 2 * k * x) ** 2),
        lambda x: 1 / (k * x.abs() + 1) ** 2,
        torch.ones_like,
        lambda x: (k - k * k * x.abs()).clamp_min(0),
        lambda x: k * (2 * k * x.abs() < 1).to(x.dtype),
    )
    return functions[kind]
