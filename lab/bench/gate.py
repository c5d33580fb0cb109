"""The gate for a user's own CI: whether a configuration has become slower between two runs of one machine.

The runs were not measured in turns, so what changed on the machine between them is in the figures: a gate finds regressions, it proves no gain.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal

from lab.bench.analysis import Analysis
from lab.bench.comparison import unpaired_ratio
from lab.bench.record import Run
from lab.bench.statistics import Estimate
from lab.errors import LabError

State = Literal["ok", "slower", "undecided", "missing", "invalid"]


@dataclass(frozen=True)
class GateRow:
    """One configuration in one text set."""

    config: str
    texts: str
    state: State
    ratio: Estimate | None  # time of the candidate over time of the baseline
    detail: str


@dataclass(frozen=True)
class GateResult:
    """The gate's decision."""

    passed: bool
    limit: float  # 0.05: 5 % slower is allowed
    rows: tuple[GateRow, ...]
    baseline: str
    candidate: str


def parse_limit(text: str) -> float:
    """Read "5%" or "0.05".

    Raises:
        LabError: it is neither, or not from 0 to 10 (1000 %).
    """
    given = text.strip()
    try:
        value = float(given.removesuffix("%")) / (100 if given.endswith("%") else 1)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 10:
        raise LabError(f"--max-slowdown {text[:20]!r} has to be a share such as 5% or 0.05.")
    return value


def judge(baseline: Run, candidate: Run, limit: float, *, strict: bool = False) -> GateResult:
    """Compare every configuration of `baseline` with the same one of `candidate`, in each text set.

    Raises:
        LabError: the runs cannot be compared: other machine, weights, voice or texts.
    """
    _refuse_incomparable(baseline, candidate)
    before, after = Analysis(baseline), Analysis(candidate)
    rows = [
        _judge(before, after, arm.label, texts, limit)
        for arm in baseline.arms
        if not arm.instance and (before.counted["label"] == arm.label).any()
        for texts in before.sets
    ]
    if not rows:
        raise LabError(f"The baseline {baseline.id} has no sample that counts.")
    failing = {"slower", "missing", "invalid"} | ({"undecided"} if strict else set())
    return GateResult(not any(row.state in failing for row in rows), limit, tuple(rows), baseline.id, candidate.id)


def _refuse_incomparable(baseline: Run, candidate: Run) -> None:
    for what, a, b in (
        ("machine", baseline.machine, candidate.machine),
        ("weights", baseline.weights.name, candidate.weights.name),
        ("voice", baseline.voice.sha256, candidate.voice.sha256),
        ("concurrency", str(baseline.plan.concurrency), str(candidate.plan.concurrency)),
    ):
        if a != b:
            raise LabError(
                f"The runs cannot be compared, because their {what} differs: {a[:60]} in the baseline, {b[:60]} in the candidate."
                " Measure both under the same conditions."
            )
    if not {text.id for text in baseline.texts} <= {text.id for text in candidate.texts}:
        raise LabError("The runs cannot be compared: the candidate did not read all texts of the baseline. Give both the same --texts.")


def _judge(before: Analysis, after: Analysis, label: str, texts: str, limit: float) -> GateRow:
    arm = next((arm for arm in after.run.arms if arm.label == label), None)
    if arm is None:
        return GateRow(label, texts, "missing", None, "was not measured in the candidate")
    if arm.digest != before.run.arms[before.labels.index(label)].digest:
        return GateRow(label, texts, "missing", None, "means other settings in the candidate: the configuration was changed")
    a, b = (look.counted[(look.counted["label"] == label) & (look.counted["set"] == texts)] for look in (after, before))
    if a.empty:
        return GateRow(label, texts, "missing", None, "has no sample that counts in the candidate")
    lost = [_invalid_share(look, label, texts) for look in (before, after)]
    if lost[1] > lost[0] + 0.01:
        return GateRow(label, texts, "invalid", None, f"{lost[1]:.0%} of its samples are invalid, {lost[0]:.0%} in the baseline")
    ratio = unpaired_ratio(a, b)
    if ratio is None:
        return GateRow(label, texts, "missing", None, "did not read the same texts in the candidate")
    state: State = "ok"
    detail = f"{ratio.value - 1:+.1%}"
    if ratio.low is None or ratio.high is None:
        state, detail = "undecided", f"{detail}, too few blocks for an interval"
    elif ratio.value > 1 + limit and ratio.low > 1:
        state = "slower"
    elif ratio.high > 1 + limit:
        state = "undecided"
    return GateRow(label, texts, state, ratio, detail)


def _invalid_share(look: Analysis, label: str, texts: str) -> float:
    rows = look.frame[(look.frame["label"] == label) & (look.frame["set"] == texts) & ~look.frame["warm_up"]]
    return float((~rows["valid"]).mean()) if len(rows) else 0.0


def document(result: GateResult) -> dict[str, Any]:
    """The decision as `--json` gives it."""
    rows = []
    for row in result.rows:
        found = dataclasses.asdict(row)
        ratio = found.pop("ratio")
        rows.append({**found, "median_ratio": ratio and ratio["value"], "ci95": ratio and [ratio["low"], ratio["high"]]})
    return {
        "passed": result.passed,
        "max_slowdown": result.limit,
        "baseline": result.baseline,
        "candidate": result.candidate,
        "rows": rows,
    }
