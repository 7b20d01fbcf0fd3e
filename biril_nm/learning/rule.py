"""placeholder replaced in minutes"""
from __future__ import annotations
from typing import Any
class LearningRule:
    @staticmethod
    def from_dict(d: Any) -> "LearningRule": ...
    def to_dict(self) -> dict[str, Any]: ...
