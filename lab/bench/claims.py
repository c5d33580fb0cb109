"""The claims that the lab was made to test, and what stored runs say about each.

A claim is confirmed when the whole 95 % interval lies where the claim says, refuted when the whole interval lies outside, and undecided in between. A gain
larger than claimed confirms the claim. What runs can be taken together for a pair is decided in `lab.bench.pooling`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from lab.bench import ratios, statistics
from lab.bench.analysis import Analysis
from lab.bench.pooling import comparing, having, pooled_aa, pooled_ratio
from lab.bench.statistics import Estimate

Verdict = Literal["confirmed", "refuted", "undecided", "not measured here"]

ESTIMATE = "iShowTTS, estimate of 2025-09-30"
TARGET = "iShowTTS, target of 2025-09-30"
HARNESS = "this lab"


@dataclass(frozen=True)
class Finding:
    """What the runs of one machine say about one claim."""

    measured: str
    verdict: Verdict
    blocks: int
    runs: int


@dataclass(frozen=True)
class Claim:
    """One statement that can be tested."""

    id: str
    says: str
    source: str
    expected: str
    decide: Callable[[Sequence[Analysis]], Finding | None]  # None: these runs have nothing to do with it


def remark(analysis: Analysis) -> str:
    """What of a run decides nothing, and why; empty where all of it may."""
    aa = analysis.aa()
    if aa is not None and aa.ratio.differs:
        return "its pairs decide nothing: the A/A arm differs from itself"
    if any(not analysis.started_alike(label, analysis.reference) for label in analysis.labels):
        return "pairs with the reference decide nothing: it was started otherwise than the other configurations"
    return ""


def _judge(low: float, high: float, least: float) -> Verdict:
    """The verdict on "at least `least`" for an interval."""
    if low >= least:
        return "confirmed"
    return "refuted" if high < least else "undecided"


def _against_itself(analyses: Sequence[Analysis]) -> Finding | None:
    """The A/A arms of all runs together, also of those that differ from themselves: leaving these out would decide the matter beforehand."""
    ratio = pooled_aa(analyses)
    if ratio is None:
        return None
    runs = sum(look.twin is not None for look in analyses)
    margin = 1 + ratios.EQUIVALENCE
    inside, outside = ratio.verdict == "equivalent", ratio.high < 1 / margin or ratio.low > margin
    said = f"{ratio.median:.3f} ({ratio.low:.3f} to {ratio.high:.3f})" if np.isfinite(ratio.high) else f"{ratio.median:.3f}, too few blocks"
    if ratio.differs:
        said += ", differs from itself"
    return Finding(
        f"{said}; {ratio.launches} launches", "confirmed" if inside else "refuted" if outside else "undecided", ratio.blocks, runs
    )


def _gain(a: str, b: str, least: float, most: float) -> Callable[[Sequence[Analysis]], Finding | None]:
    """Time saved by a against b, as a share of b's time, from all paired blocks."""

    def decide(analyses: Sequence[Analysis]) -> Finding | None:
        pooled = pooled_ratio(analyses, a, b)
        if pooled is None:
            return None
        ratio, runs = pooled
        low, high = 1 - ratio.high, 1 - ratio.low
        verdict = _judge(low, high, least)
        said = f"{1 - ratio.median:.1%} ({low:.1%} to {high:.1%})" if np.isfinite(low) else f"{1 - ratio.median:.1%}, too few blocks"
        if low > most:
            said += ", more than claimed"
        return Finding(f"{said} less time", verdict, ratio.blocks, runs)

    return decide


def _mean_rtf(a: str, b: str, least: float) -> Callable[[Sequence[Analysis]], Finding | None]:
    """How far the mean RTF of a lies below that of b: the wider of a bootstrap over blocks and, with several launches, Student's t over them."""

    def decide(analyses: Sequence[Analysis]) -> Finding | None:
        runs = comparing(analyses, a, b)
        rows = []
        for index, look in enumerate(runs):
            both = pd.concat([_counted(look, label) for label in (a, b)])
            rows.append(
                both.assign(
                    launch=[f"{index} {name}" for name in look.launches(both["block"])], part=index, label=both["label"].astype(str)
                )
            )
        table = pd.concat(rows) if rows else pd.DataFrame()
        if table.empty:
            return None
        means = table.groupby(["launch", "part", "block", "label"])["rtf"].mean().unstack("label").reindex(columns=[a, b]).dropna()
        if len(means) < 3:
            return None
        values = means.to_numpy()
        drawn = values[np.random.default_rng(1).integers(0, len(values), (statistics.RESAMPLES, len(values)))].mean(axis=1)
        bounds = np.percentile(np.log(drawn[:, 0] / drawn[:, 1]), [2.5, 97.5])
        mean_a, mean_b = values.mean(axis=0)
        each = means.groupby(level="launch").mean()
        if len(each) > 1:
            half = ratios.launch_half_width(np.log(each[a] / each[b]).to_numpy(), means.groupby(level="launch").size(), None)
            middle = float(np.log(mean_a / mean_b))
            bounds = np.array([min(bounds[0], middle - half), max(bounds[1], middle + half)])
        low, high = (1 - np.exp(bounds[::-1])).tolist()
        said = f"{mean_b:.4f} → {mean_a:.4f}: {1 - mean_a / mean_b:.1%} ({low:.1%} to {high:.1%}) lower"
        return Finding(said, _judge(low, high, least), len(means), len(runs))

    return decide


def _counted(look: Analysis, label: str) -> pd.DataFrame:
    rows = look.counted
    return rows[rows["label"] == label]


def _over_runs(analyses: Sequence[Analysis], label: str) -> tuple[pd.DataFrame, int]:
    """Samples of one arm over several runs, with block numbers that do not meet."""
    runs = having(analyses, label)
    parts = [_counted(look, label).assign(block=lambda rows, n=index: rows["block"] + n * 1_000_000) for index, look in enumerate(runs)]
    return (pd.concat(parts) if parts else pd.DataFrame()), len(runs)


def _below(label: str, target: float) -> Callable[[Sequence[Analysis]], Finding | None]:
    """Whether the mean RTF of a configuration is below a target."""

    def decide(analyses: Sequence[Analysis]) -> Finding | None:
        rows, runs = _over_runs(analyses, label)
        if rows.empty:
            return None
        mean = statistics.summarise(rows["rtf"], rows["block"], rows["text_id"]).mean
        return Finding(f"mean RTF {_with_interval(mean, '.4f')}", _below_verdict(mean, target), rows["block"].nunique(), runs)

    return decide


def _steady(label: str, most: float) -> Callable[[Sequence[Analysis]], Finding | None]:
    """Whether the coefficient of variation of the RTF, within one text, is below `most`."""

    def decide(analyses: Sequence[Analysis]) -> Finding | None:
        rows, runs = _over_runs(analyses, label)
        if rows.empty:
            return None
        own = rows.groupby("text_id", observed=True)["rtf"].transform(
            "mean"
        )  # texts of other lengths have other RTFs, which is no unsteadiness
        found = statistics.summarise(rows["rtf"] / own, rows["block"]).variation
        return Finding(_with_interval(found, ".1%"), _below_verdict(found, most), rows["block"].nunique(), runs)

    return decide


def _below_verdict(estimate: Estimate, limit: float) -> Verdict:
    if estimate.low is None or estimate.high is None:
        return "undecided"
    if estimate.high < limit:
        return "confirmed"
    return "refuted" if estimate.low >= limit else "undecided"


def _with_interval(estimate: Estimate, form: str) -> str:
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:{form}}"
    return f"{estimate.value:{form}} ({estimate.low:{form}} to {estimate.high:{form}})"


def _times_faster(a: str, b: str, least: float) -> Callable[[Sequence[Analysis]], Finding | None]:
    """How many times faster a is than b."""

    def decide(analyses: Sequence[Analysis]) -> Finding | None:
        pooled = pooled_ratio(analyses, b, a)
        if pooled is None:
            return None
        ratio, runs = pooled
        verdict = _judge(ratio.low, ratio.high, least) if np.isfinite(ratio.high) else "undecided"
        said = f"{ratio.median:.2f} times" + (f" ({ratio.low:.2f} to {ratio.high:.2f})" if np.isfinite(ratio.high) else "")
        return Finding(said, verdict, ratio.blocks, runs)

    return decide


def _same_audio(a: str, b: str) -> Callable[[Sequence[Analysis]], Finding | None]:
    """Whether a gives exactly the samples of b, block by block."""

    def decide(analyses: Sequence[Analysis]) -> Finding | None:
        runs = having(analyses, a, b)
        same = total = 0
        for look in runs:
            rows = look.frame[~look.frame["warm_up"] & look.frame["label"].isin([a, b])]
            hashes = rows.groupby(["block", "label"], observed=True)["audio"].agg(set).unstack("label").reindex(columns=[a, b]).dropna()
            total += len(hashes)
            same += int(sum(first == second and len(first) == 1 for first, second in hashes.to_numpy()))
        if not total:
            return None
        return Finding(f"equal in {same} of {total} blocks", "confirmed" if same == total else "refuted", total, len(runs))

    return decide


CLAIMS = (
    Claim("aa", "The reference takes as long as itself in another process (all A/A arms)", HARNESS, "within ±2 %", _against_itself),
    Claim(
        "fp16-vocoder",
        "FP16 through the vocoder saves 5–10 % of the time",
        ESTIMATE,
        "5–10 %",
        _gain("fp16-vocoder", "baseline", 0.05, 0.10),
    ),
    Claim(
        "no-empty-cache", "No `empty_cache()` per utterance saves 2–5 %", ESTIMATE, "2–5 %", _gain("no-empty-cache", "baseline", 0.02, 0.05)
    ),
    Claim("together", "All three patches together save 7–15 %", ESTIMATE, "7–15 %", _gain("optimized", "baseline", 0.07, 0.15)),
    Claim(
        "mean-rtf",
        "The mean RTF falls from 0.169 to 0.143–0.157 (on their device; elsewhere by the same share)",
        ESTIMATE,
        "7.1–15.4 % lower",
        _mean_rtf("optimized", "baseline", 1 - 0.157 / 0.169),
    ),
    Claim("steady", "The coefficient of variation is under 10 % (`optimized`, one text)", TARGET, "< 10 %", _steady("optimized", 0.10)),
    Claim("rtf-0.20", "RTF below 0.20 (`optimized`)", TARGET, "< 0.20", _below("optimized", 0.20)),
    Claim("rtf-0.15", "RTF below 0.15, the stretched target (`optimized`)", TARGET, "< 0.15", _below("optimized", 0.15)),
    Claim(
        "speed-up",
        "More than 3.3 times faster than the unoptimised engine (`optimized` against `upstream`, NFE 32)",
        TARGET,
        "> 3.3 times",
        _times_faster("optimized", "upstream", 3.3),
    ),
    Claim(
        "same-fp16", "Patch 02 changes no sample (no loss of quality)", ESTIMATE, "equal samples", _same_audio("fp16-vocoder", "baseline")
    ),
    Claim("same-empty-cache", "Patch 03 changes no sample", ESTIMATE, "equal samples", _same_audio("no-empty-cache", "baseline")),
)
