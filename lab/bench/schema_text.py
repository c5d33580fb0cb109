"""The schema of a run as a page for people, made from the schema itself so that it cannot drift from it."""

from __future__ import annotations

import types
import typing
from typing import Any

from pydantic import BaseModel

from lab.bench import record

_INTRO = f"""# What stands in a run file

Made by `python -m lab runs schema`. One JSON document is one benchmark, version {record.VERSION}. It is never changed after it was written; statistics are
computed from it each time. Files of an older version are read, files of a newer one are refused with a message. Times are milliseconds where a name ends
in `_ms`, seconds where it ends in `_s`; memory is MiB.

`samples` holds columns: the n-th entry of every list belongs to the n-th utterance, in the order in which they were measured (in a cluster: in which they
arrived).
"""
_PARTS: tuple[type[BaseModel], ...] = (
    record.Run,
    record.PlanRecord,
    record.ArmRecord,
    record.TextRecord,
    record.MachineRecord,
    record.StartRecord,
    record.BlockRecord,
    record.Samples,
    record.FailureRecord,
    record.VoiceRecord,
    record.WeightsRecord,
)


def schema_markdown() -> str:
    """The page, for `results/runs/README.md`."""
    lines = [_INTRO]
    for part in _PARTS:
        title = part.__name__.removesuffix("Record")
        lines += [f"## {title}", "", (part.__doc__ or "").strip().splitlines()[0], "", "| field | type | meaning |", "|---|---|---|"]
        for name, field in part.model_fields.items():
            lines.append(f"| `{name}` | {_type(field.annotation)} | {field.description or ''} |")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _type(annotation: Any) -> str:
    """A type as a reader of JSON knows it."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _type(inner[0])
    if origin is typing.Literal:
        return " or ".join(f"`{value}`" for value in inner)
    if origin is list:
        return f"list of {_type(inner[0])}"
    if origin is dict:
        return f"object: {_type(inner[1])}"
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_type(item) for item in inner)
    if annotation is Any:
        return "any"
    names = {"str": "text", "int": "whole number", "float": "number", "NoneType": "null", "AwareDatetime": "date and time"}
    name = str(annotation.__name__)
    return names.get(name, name.removesuffix("Record"))
