"""Packages that only the making of the voice needs: they are in requirements-dev.txt, not in what the lab runs with."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from lab.errors import LabError


class ToolError(LabError):
    """A package is not installed."""


def tool(name: str) -> Any:
    """The module of that name.

    Raises:
        ToolError: it is not installed.
    """
    try:
        return import_module(name)
    except ImportError:
        raise ToolError(f"{name} is not installed. Use: pip install -r requirements-dev.txt") from None
