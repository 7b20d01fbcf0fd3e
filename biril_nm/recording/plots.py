"""Plots of a recording with matplotlib: spikes as a raster, the membrane of one neuron."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from biril_nm.errors import ConfigError, MissingDependencyError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from biril_nm.recording.recording import Recording

__all__ = ["plot_raster", "plot_voltage"]

MAX_SPIKES = 1_000_000  # dots in a raster


def plot_raster(
    recording: Recording, sample: int, nodes: Iterable[str] | None, ax: Axes | None
) -> Axes:
    """Spikes of one sample: steps to the right, populations above each other, a dot for each spike."""
    names = _names(recording, nodes, "s")
    axis = ax if ax is not None else _axes()
    base, ticks = 0, []
    for name in names:
        spikes = _sample(recording, name, "s", sample)
        flat = spikes.reshape(len(spikes), -1)
        if np.count_nonzero(flat) > MAX_SPIKES:
            raise ConfigError(
                f"'{name}' has {np.count_nonzero(flat):,} spikes; expected at most {MAX_SPIKES:,} to draw. "
                f"Choose other nodes"
            )
        step, neuron = np.nonzero(flat)
        axis.scatter(step, base + neuron, s=4, marker="|")
        ticks.append((base + flat.shape[1] / 2, name))
        base += flat.shape[1]
        axis.axhline(base - 0.5, linewidth=0.5, color="0.8")
    axis.set_yticks([at for at, _ in ticks], [_text(name) for _, name in ticks])
    axis.set(xlabel="step", ylim=(-0.5, base - 0.5), title=f"spikes of sample {sample}")
    return axis


def plot_voltage(
    recording: Recording, node: str, neuron: int | tuple[int, ...], sample: int, ax: Axes | None
) -> Axes:
    """Membrane of one neuron over the steps, in register units; its spikes are marked below."""
    _names(recording, [node], "v")
    voltage = _sample(recording, node, "v", sample)
    place = _place(neuron, voltage.shape[1:], node)
    flat = int(np.ravel_multi_index(place, voltage.shape[1:]))
    axis = ax if ax is not None else _axes()
    steps = np.arange(len(voltage))
    axis.step(steps, voltage.reshape(len(steps), -1)[:, flat], where="mid", label="v")
    if recording[node].s is not None:
        spikes = _sample(recording, node, "s", sample).reshape(len(steps), -1)
        fired = np.flatnonzero(spikes[:, flat])
        low = float(axis.get_ylim()[0])
        axis.plot(fired, np.full(len(fired), low), "|", markersize=10, label="spikes")
    shown = ", ".join(map(str, place))
    axis.set(xlabel="step", ylabel="v", title=f"{_text(node)} ({shown}), sample {sample}")
    axis.legend(loc="upper right")
    return axis


def _axes() -> Axes:
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise MissingDependencyError("matplotlib", "report", "draw figures") from error
    axes: Axes = pyplot.figure(layout="constrained").subplots()
    return axes


def _text(name: str) -> str:
    return name.replace("$", r"\$")


def _names(recording: Recording, nodes: Iterable[str] | None, variable: str) -> list[str]:
    known = [n for n in recording if getattr(recording[n], variable) is not None]
    wanted = known if nodes is None else list(nodes)
    unknown = [name for name in wanted if name not in known]
    if unknown or not wanted:
        raise ConfigError(
            f"{variable} of {', '.join(unknown) or 'any node'} was not recorded; expected some of "
            f"{', '.join(known) or 'none'}. Record it: record=('s', 'v')"
        )
    return wanted


def _sample(recording: Recording, name: str, variable: str, sample: int) -> NDArray[Any]:
    """``(n_steps, *shape)``."""
    array = np.asarray(getattr(recording[name], variable))
    if not 0 <= sample < array.shape[1]:
        raise ConfigError(f"sample is {sample}; expected 0 to {array.shape[1] - 1}")
    found: NDArray[Any] = array[:, sample]
    return found


def _place(neuron: int | tuple[int, ...], shape: tuple[int, ...], node: str) -> tuple[int, ...]:
    given = (neuron,) if isinstance(neuron, int) else tuple(neuron)
    size = int(np.prod(shape))
    if len(given) == 1 and 0 <= given[0] < size:
        return tuple(int(i) for i in np.unravel_index(given[0], shape))
    if len(given) == len(shape) and all(0 <= i < n for i, n in zip(given, shape)):
        return given
    raise ConfigError(
        f"neuron is {neuron}, and '{node}' has shape {shape}; expected an index from 0 to {size - 1}, or one "
        f"for each axis"
    )
