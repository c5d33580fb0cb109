"""The ideas that turbo is made of, each of which can be left out, so that what it gives can be measured."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lab.config import TURBO_IDEAS


@dataclass(frozen=True)
class Switches:
    """Which ideas are in force; all of them, unless a measurement leaves one out."""

    without: frozenset[str] = frozenset()

    @classmethod
    def leaving_out(cls, ideas: Iterable[str]) -> Switches:
        """All ideas but these."""
        return cls(frozenset(ideas))

    def __contains__(self, idea: str) -> bool:
        assert idea in TURBO_IDEAS
        return idea not in self.without
