"""Rows for people and programs: what the command line prints, the page shows, and `--json` gives, made in one place so that they say the same."""

from __future__ import annotations

import math
from typing import Any

from lab.bench.analysis import ALL_TEXTS, Analysis, Described, Pair
from lab.bench.ratios import Ratio
from lab.bench.statistics import PERCENTILES, Estimate

#: What the verdict of the A/A arm means for the others.
AA_FAILED = "The A/A arm is not equivalent: the harness itself makes a difference here, and no other verdict of this run can be trusted."

ONE_LAUNCH = (
    "All was measured by one set of processes: what a process happened to be born with is in the ratios, and not in their intervals."
)


def pair_document(pair: Pair) -> dict[str, Any]:
    """A pair as `--json` gives it: the median ratio is the time of a over the time of b, and the verdict speaks of a."""
    ratio = pair.ratio
    return {
        "a": pair.a,
        "b": pair.b,
        "texts": pair.texts,
        "median_ratio": round(ratio.median, 5),
        "ci95": [_finite(ratio.low), _finite(ratio.high)],
        "verdict": ratio.verdict,
        "blocks": ratio.blocks,
        "launches": ratio.launches,
        "more_blocks": ratio.more_blocks,
    }


def _finite(value: float) -> float | None:
    return round(value, 5) if 0 < value < math.inf else None


def pair_documents(analysis: Analysis, reference: str | None = None) -> list[dict[str, Any]]:
    """All pairs against `reference`, each with the same for every text set under `by_text`."""
    rows = []
    for pair in analysis.pairs(reference):
        by_text = [found for texts in analysis.sets if (found := analysis.pair(pair.a, pair.b, texts))]
        rows.append({**pair_document(pair), "by_text": [pair_document(item) for item in by_text]})
    return rows


def run_document(analysis: Analysis, reference: str | None = None) -> dict[str, Any]:
    """What a benchmark's `--json` says after the path: pairs, the A/A arm, and how many samples did not count."""
    aa = analysis.aa()
    noise = analysis.noise
    return {
        "pairs": pair_documents(analysis, reference),
        "aa": pair_document(aa) if aa else None,
        "invalid": analysis.invalid,
        "state": analysis.run.state,
        "noise": None
        if noise is None
        else {
            "block_sd": round(noise.deviation, 5),
            "process_sd": None if noise.between_processes is None else round(noise.between_processes, 5),
            "blocks": noise.blocks,
            "finds_3_percent": round(noise.detected, 3),
            "blocks_for_80_percent": noise.blocks_needed,
        },
    }


def ratio_words(ratio: Ratio) -> str:
    """A ratio with its interval: `0.934 (0.921 to 0.947)`."""
    if ratio.high == math.inf:
        return f"{ratio.median:.3f} (no interval yet)"
    return f"{ratio.median:.3f} ({ratio.low:.3f} to {ratio.high:.3f})"


def verdict_words(ratio: Ratio, blocks_per_round: int = 1) -> str:
    """The verdict, and where there is none, how many more rounds it takes."""
    if ratio.differs:
        return f"{ratio.verdict} by {abs(ratio.median - 1):.1%}"
    if ratio.verdict == "equivalent":
        return "equivalent within 2 %"
    if ratio.more_blocks is None:
        return "undecided"
    rounds = math.ceil(ratio.more_blocks / max(blocks_per_round, 1))
    roughly = "at least" if ratio.high == math.inf else "about"  # six blocks give an interval, which need not decide
    return f"undecided: {roughly} {rounds} more round{'s' * (rounds != 1)}"


def estimate_words(estimate: Estimate, form: str = ".4f") -> str:
    """A figure with its interval, `0.0152 (0.0150 to 0.0155)`, or alone where there is none."""
    if estimate.low is None or estimate.high is None:
        return format(estimate.value, form)
    return f"{estimate.value:{form}} ({estimate.low:{form}} to {estimate.high:{form}})"


def statistics_row(row: Described) -> dict[str, Any]:
    """One arm's real-time factors, flat: each figure, and where it has one its interval as `NAME low` and `NAME high`."""
    made: dict[str, Any] = {"configuration": row.label, "texts": row.texts, "n": row.rtf.n}
    estimates = {
        "mean": row.rtf.mean,
        "median": row.rtf.median,
        "cv": row.rtf.variation,
        **{f"p{q}": row.rtf.percentiles[q] for q in PERCENTILES},
    }
    made |= {"min": row.rtf.least, "max": row.rtf.most, "sd": row.rtf.deviation, "median ms": row.total_ms.median.value}
    for name, estimate in estimates.items():
        made |= {name: estimate.value, f"{name} low": estimate.low, f"{name} high": estimate.high}
    return made


def statistics_rows(analysis: Analysis, *, by_text: bool = False) -> list[dict[str, Any]]:
    """`statistics_row` of every arm, over all texts or for each text set."""
    sets = analysis.sets if by_text else [ALL_TEXTS]
    return [statistics_row(row) for texts in sets for row in analysis.described(texts)]


def fit_rows(analysis: Analysis) -> list[dict[str, Any]]:
    """Fixed cost (ms) and slope (ms per second of audio) of every arm that read texts of different lengths."""
    rows = []
    for label in analysis.labels:
        line = analysis.fit(label)
        if line:
            rows.append({"configuration": label, "fixed ms": line.fixed, "ms per second": line.slope, "R²": line.r_squared})
    return rows


def resolution_words(analysis: Analysis) -> str:
    """What a run of this size can see, in a sentence or two."""
    noise = analysis.noise
    if noise is None:
        return "Too few blocks to say what this run can see."
    processes = (
        ONE_LAUNCH if noise.between_processes is None else f"Processes of one configuration differ by {noise.between_processes:.1%}."
    )
    said = (
        f"The reference differs from itself by {noise.deviation:.1%} a block (standard deviation); others are compared with the mean of its two"
        f" processes. {processes} A true difference of 3 % is found by {noise.blocks} blocks in {noise.detected:.0%} of cases"
    )
    if noise.detected >= 0.8:
        return f"{said}."
    if noise.blocks_needed is None:
        return f"{said}, and no reasonable number of rounds would find it in 80 %."
    return f"{said}; 80 % take about {math.ceil(noise.blocks_needed / max(len(analysis.sets), 1))} rounds."
