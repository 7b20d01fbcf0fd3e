"""A configuration as TOML with a comment for each field, from the docstrings of its classes."""

from __future__ import annotations

import inspect
import re
from typing import Any

from biril_nm.coding import Coding
from biril_nm.models import ModelConfig
from biril_nm.training.config import TrainConfig
from biril_nm.training.local_rule.plasticity import PlasticityConfig
from biril_nm.training.run_config import RunConfig

__all__ = ["commented_toml", "field_texts"]

CLASSES: dict[str, Any] = {
    "": RunConfig,
    "net": ModelConfig,
    "net.coding": Coding,
    "train": TrainConfig,
    "train.plasticity": PlasticityConfig,
}
FIELD = re.compile(r"^    (\w+(?:, \w+)*): (.*)$")
ROLE = re.compile(r":\w+:`~?([^`]+)`|``")


def field_texts(cls: Any) -> dict[str, str]:
    """What the section "Attributes" of a docstring says of each field, on one line."""
    section = (inspect.getdoc(cls) or "").partition("Attributes:\n")[2]
    found: dict[str, str] = {}
    names: list[str] = []
    for line in section.splitlines():
        start = FIELD.match(line)
        if start:
            names = start[1].split(", ")
            found.update(dict.fromkeys(names, start[2]))
        elif line.startswith("     "):
            found.update((name, f"{found[name]} {line.strip()}") for name in names)
        elif line.strip():
            break
    return {name: ROLE.sub(lambda m: m[1] or "", text) for name, text in found.items()}


def commented_toml(run: RunConfig) -> str:
    """The TOML of a configuration, which :meth:`RunConfig.read` takes, with a comment above each field."""
    lines: list[str] = []
    texts = field_texts(CLASSES[""])
    for line in run.to_toml().splitlines():
        table = re.fullmatch(r"\[([\w.]+)\]", line)
        if table:
            texts = field_texts(CLASSES[table[1]]) if table[1] in CLASSES else {}
        name = re.match(r"(\w+) = ", line)
        if name and name[1] in texts:
            lines.append(f"# {texts[name[1]]}")
        lines.append(line)
    return "\n".join(lines) + "\n"
