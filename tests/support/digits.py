"""A small network and a part of the digits, for tests that train."""

from __future__ import annotations

from biril_nm.data import load_data
from biril_nm.models import ModelConfig

SMALL = ModelConfig(channels=(4, 6), hidden=(20,))
FLAT = ModelConfig(hidden=(20,))  # of the fully connected network
DIGITS = load_data("digits").head(96, 60)
