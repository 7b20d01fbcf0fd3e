"""What must hold from step to step and is not a signal: weights, counters of steps, hooks of all modules.

A trace sees a few steps, and layers are leaves of it. So weights are compared before and after, and what
the forward counts is moved far on before the last step, as if the network had run for long.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from biril_nm.errors import UnsupportedNodeError, bullet_list
from biril_nm.export.from_torch.counting import CountedTensor, counted
from biril_nm.export.from_torch.origins import Origins
from biril_nm.export.from_torch.registry import kind_of, state_names

__all__ = [
    "changed_values",
    "check_notes",
    "check_weights",
    "counters",
    "move_on",
    "refuse_global_hooks",
    "stored_weights",
    "values_of",
    "weights_of",
]

LATER = 10_000  # steps
Counter = tuple[str, str]  # module, attribute
SETTINGS = ("reset_mechanism", "reset_delay", "stride", "padding", "dilation", "groups", "eps", "p")
PLAIN = (bool, int, float, str, tuple)
WEIGHTS = ("weight", "bias")  # plain attributes under torch's older weight_norm and prune


def refuse_global_hooks() -> None:
    """Refuse hooks of all modules: they run inside of the layers, where nothing is followed.

    Raises:
        UnsupportedNodeError: there is one.
    """
    names = ("_global_forward_hooks", "_global_forward_pre_hooks")
    if any(getattr(nn.modules.module, name, None) for name in names):
        raise UnsupportedNodeError(
            "a forward hook of all modules is registered (register_module_forward_hook); expected none. "
            "Remove it, or register it at the layers that it is about"
        )


def stored_weights(layers: Mapping[str, nn.Module]) -> dict[str, torch.Tensor]:
    """Copies of :func:`weights_of` without plain attributes, which hooks compute before each forward.

    They may be stale before the first one: an optimizer has changed what they are products of.
    """
    return weights_of(layers, ())


def weights_of(
    layers: Mapping[str, nn.Module], plain: Sequence[str] = WEIGHTS
) -> dict[str, torch.Tensor]:
    """Copies of all that the layers compute with, except the states of neurons."""
    found = {}
    for path, layer in layers.items():
        values: dict[str, Any] = dict((*layer.named_parameters(), *layer.named_buffers()))
        names = list(plain)
        if parametrize.is_parametrized(layer):
            names += list(layer.parametrizations)  # type: ignore[arg-type]
        values.update((name, getattr(layer, name, None)) for name in names)
        for name in values.keys() - set(state_names(layer)):
            if isinstance(values[name], torch.Tensor):
                found[f"{path}.{name}"] = values[name].detach().clone()
    return found


def values_of(path: str, layer: nn.Module) -> dict[str, Any]:
    """Copies of what one layer computes with, and its settings."""
    kind = kind_of(layer)
    names = (*(kind.fields if kind else ()), *SETTINGS)
    settings = {f"{path}.{name}": getattr(layer, name, None) for name in names}
    plain = {key: value for key, value in settings.items() if isinstance(value, PLAIN)}
    return {**plain, **weights_of({path: layer})}


def changed_values(before: Mapping[str, Any], after: Mapping[str, Any]) -> set[str]:
    """Names of values that differ."""
    return {name for name in before.keys() & after.keys() if not _same(before[name], after[name])}


def check_weights(changed: Set[str]) -> None:
    """Refuse weights and settings that a forward changes, or that are drawn again each time they are read.

    Raises:
        UnsupportedNodeError: there are such; all are listed.
    """
    if changed:
        raise UnsupportedNodeError(
            bullet_list(
                "weights change from step to step; expected the same at every step. Compute them once, "
                "before the export:",
                [f"'{name}'" for name in sorted(changed)],
            )
        )


def _same(one: Any, other: Any) -> bool:
    if not (isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor)):
        return type(one) is type(other) and bool(one == other)
    return one.shape == other.shape and torch.equal(torch.nan_to_num(one), torch.nan_to_num(other))


def counters(root: nn.Module, origins: Origins) -> dict[Counter, float]:
    """Numbers that the user's own modules hold, plain ones and tensors of one number without a signal.

    Plain ones also in lists, dicts and objects that are attributes.
    """
    found: dict[Counter, float] = {}
    for path, module in root.named_modules():
        if kind_of(module) is not None:
            continue
        for name, holder, key in _places(module):
            value = holder[key]
            if isinstance(value, torch.Tensor):
                if value.numel() == 1 and not value.is_complex() and origins.expr(value) is None:
                    found[path, name] = float(value)
            elif type(value) in (int, float):
                found[path, name] = float(value)
    return found


def _places(module: nn.Module) -> Iterator[tuple[str, Any, Any]]:
    """(name, container, key) of all values that a module of the user holds."""
    own = vars(module)
    for name in own.keys() - vars(nn.Module()).keys():
        yield name, own, name
        inner = own[name]
        if isinstance(inner, (nn.Module, torch.Tensor)) or not isinstance(name, str):
            continue
        if not isinstance(inner, (dict, list)):
            inner = getattr(inner, "__dict__", ())
        if isinstance(inner, dict):
            yield from ((f"{name}[{key!r}]", inner, key) for key in list(inner))
        elif isinstance(inner, list):
            yield from ((f"{name}[{i}]", inner, i) for i in range(len(inner)))
    buffers = module._buffers
    yield from ((name, buffers, name) for name in buffers)


def move_on(
    root: nn.Module,
    before: Mapping[Counter, float],
    after: Mapping[Counter, float],
    notes: dict[str, list[str]],
    counts: dict[int, CountedTensor],
) -> list[str]:
    """Move what was counted between two steps far on; the names of it.

    What the forward does with it that may change later goes into ``notes``, by name; tensors are added to
    ``counts``, which the tracer looks at.
    """
    moved = []
    changed = {key for key in before.keys() & after.keys() if before[key] != after[key]}
    for path in {path for path, _ in changed}:
        for name, holder, key in _places(root.get_submodule(path)):
            if (path, name) not in changed:
                continue
            where, value = f"{path}.{name}" if path else name, holder[key]
            slope = after[path, name] - before[path, name]
            later = value + (LATER if slope > 0 else -LATER)
            noted = notes.setdefault(where, [])
            if isinstance(value, torch.Tensor):
                counts[id(later)] = CountedTensor(later, float(value), slope, noted)
            else:
                later = counted(later, value, slope, noted)
            holder[key] = later
            moved.append(where)
    return sorted(moved)


def check_notes(notes: Mapping[str, Sequence[str]]) -> None:
    """Refuse a forward that will do something else at a step that was not traced.

    Raises:
        UnsupportedNodeError: it does; all counts are listed.
    """
    found = [
        f"'{name}': {', '.join(dict.fromkeys(texts))}" for name, texts in notes.items() if texts
    ]
    if found:
        raise UnsupportedNodeError(
            bullet_list(
                "the forward counts its steps and looks at the count, so that later steps may differ; "
                "expected the same at every step. Take out what depends on the step:",
                found,
            )
        )
