"""`results/STATUS.md`, from the stored runs alone: the claims ledger, the runs behind it, their environments. The same runs give the same text."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from lab.bench.analysis import Analysis
from lab.bench.claims import CLAIMS, HARNESS, TARGET, Claim, Finding, remark
from lab.bench.comparison import environment_rows
from lab.bench.pooling import pooled_ratio
from lab.bench.quoted import QUOTED
from lab.bench.run_files import Skipped
from lab.bench.tables import ratio_words, verdict_words

_INTRO = """# What the stored runs say

Made by `python -m lab report` from the files in [`runs/`](runs); not edited by hand. `python -m lab report --check` says whether it is up to date.

A claim is **confirmed** when the whole 95 % interval lies where the claim says, **refuted** when the whole interval lies outside, **undecided** in
between. Pairs were measured in randomised ABBA blocks on the same noise; blocks of all runs of one machine with the same weights count together. The
reference takes part in two processes, and others are compared with the mean of both. Pairs whose processes were not started alike decide nothing, nor
does a run whose A/A arm (the one process against the other) is faster or slower than itself, unless the A/A arms of all runs of the machine together are
not: one in twenty is by chance. With several launches (sets of processes) an interval is the wider of that over blocks and that over launches.
"""
_ABOUT_TARGETS = """
In the project's own tables the figure 3.3 stands for 1 / RTF (an RTF below 0.30), and its baseline is the engine at NFE 32 with an RTF of 1.32. The row
above tests the words.
"""
_NOT_MEASURED = "not measured here"

#: A claim, the machine and weights that say something about it, and what they say (None: no run there has to do with it).
Row = tuple[Claim, str, Finding | None]


def _where(analysis: Analysis) -> str:
    return f"{analysis.run.machine}, weights {analysis.run.weights.name}"


def _by_place(analyses: Sequence[Analysis]) -> list[tuple[str, list[Analysis]]]:
    """Runs that can be taken together: one machine, one set of weights."""
    ordered = sorted(
        analyses, key=lambda look: (not look.run.devices or look.run.devices[0].kind != "cuda", _where(look), look.run.created)
    )
    return [(place, list(group)) for place, group in groupby(ordered, key=_where)]


def ledger(analyses: Sequence[Analysis]) -> list[Row]:
    """Every claim with what each place says about it; None where no run there has to do with it."""
    places = _by_place(analyses)
    rows: list[Row] = []
    for claim in CLAIMS:
        found = [(place, finding) for place, group in places if (finding := claim.decide(group))]
        rows += [(claim, place, finding) for place, finding in found] or [(claim, "", None)]
    return rows


def ledger_documents(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The ledger as `--json` gives it."""
    return [
        {
            "claim": claim.id,
            "says": claim.says,
            "source": claim.source,
            "expected": claim.expected,
            "where": place or None,
            "measured": finding.measured if finding else None,
            "blocks": finding.blocks if finding else 0,
            "verdict": finding.verdict if finding else _NOT_MEASURED,
        }
        for claim, place, finding in rows
    ]


def status_markdown(analyses: Sequence[Analysis], skipped: Sequence[Skipped] = (), rows: Sequence[Row] | None = None) -> str:
    """The whole of STATUS.md; `rows` is the ledger of `analyses`, where it has been worked out already (that takes most of the time)."""
    rows = ledger(analyses) if rows is None else rows
    parts = [
        _INTRO,
        "## The harness itself\n",
        *_ledger_table([row for row in rows if row[0].source == HARNESS]),
        "\n## Claims\n",
        *_ledger_table([row for row in rows if row[0].source not in (TARGET, HARNESS)]),
        "\n## Targets\n",
        *_ledger_table([row for row in rows if row[0].source == TARGET]),
        _ABOUT_TARGETS,
        "## Figures of the original measurements (quoted, not checked)\n",
        "| figure | conditions |\n|---|---|",
        *(f"| {quoted.figure} | {quoted.conditions}; Jetson AGX Orin, quoted |" for quoted in QUOTED),
        "\n## Pairs, all runs of a machine together\n",
        *_pooled_table(analyses),
        "\n## Runs\n",
        *_runs_table(analyses),
        *_pairs_tables(analyses),
        "\n## Environments\n",
        *_environments(analyses),
    ]
    if skipped:
        parts += ["\n## Files that were skipped\n", *(f"- `{item.path.name}`: {item.reason}" for item in skipped)]
    return "\n".join(parts).rstrip() + "\n"


def _ledger_table(rows: Sequence[Row]) -> list[str]:
    lines = ["| claim | source | expected | measured (95 %) | blocks | where | verdict |", "|---|---|---|---|---|---|---|"]
    for claim, place, finding in rows:
        if finding is None:
            lines.append(f"| {claim.says} | {claim.source} | {claim.expected} | – | 0 | – | **{_NOT_MEASURED}** |")
        else:
            cells = (
                claim.says,
                claim.source,
                claim.expected,
                finding.measured,
                str(finding.blocks),
                _cell(place),
                f"**{finding.verdict}**",
            )
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def _cell(text: str) -> str:
    """Text from a run file, which may come from anywhere, in a table's cell."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def _pooled_table(analyses: Sequence[Analysis]) -> list[str]:
    """Every configuration against the two that runs are made against."""
    lines = ["| where | time of | against | ratio (95 %) | verdict | blocks | launches | runs |", "|---|---|---|---|---|---|---|---|"]
    for place, group in _by_place(analyses):
        labels = dict.fromkeys(arm.label for look in group for arm in look.run.arms if not arm.instance)
        for b in ("baseline", "upstream"):
            for a in labels:
                if a != b and (pooled := pooled_ratio(group, a, b)):
                    ratio, runs = pooled
                    cells = (_cell(place), f"`{_cell(a)}`", f"`{b}`", ratio_words(ratio), f"**{verdict_words(ratio)}**")
                    lines.append(f"| {' | '.join((*cells, str(ratio.blocks), str(ratio.launches), str(runs)))} |")
    return lines if len(lines) > 2 else ["There is none yet."]


def _runs_table(analyses: Sequence[Analysis]) -> list[str]:
    if not analyses:
        return ["There is none yet."]
    lines = [
        "| run | machine | weights | texts | rounds | samples | left out | A/A: ratio (95 %) | |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for look in analyses:
        run, aa = look.run, look.aa()
        name = run.id + ("" if run.state == "complete" else f" (interrupted: {run.reason})")
        arm = (ratio_words(aa.ratio), verdict_words(aa.ratio, len(look.sets))) if aa else ("–", "no A/A arm")
        if said := remark(look):
            arm = (arm[0], f"{arm[1]}; {said}")
        counted = str(len(look.frame[~look.frame["warm_up"]]))
        cells = (
            name,
            run.machine,
            run.weights.name,
            ", ".join(look.sets),
            str(run.plan.rounds),
            str(len(set(look.launches(block.number for block in run.blocks)))),
            counted,
            str(look.invalid),
            *arm,
        )
        lines.append("| " + " | ".join(_cell(cell) for cell in cells) + " |")
    return lines


def _pairs_tables(analyses: Sequence[Analysis]) -> list[str]:
    lines: list[str] = []
    for look in analyses:
        pairs = look.pairs()
        if not pairs:
            continue
        lines += [
            f"\n### {_cell(look.run.id)}\n",
            f"`{look.run.command}`\n".replace("|", "\\|"),
            f"| configuration | median RTF | time against `{look.reference}` (95 %) | verdict |",
            "|---|---|---|---|",
        ]
        said = remark(look)
        medians = look.counted.groupby("label", observed=True)["rtf"].median()
        lines += [
            f"| `{pair.a}` | {medians[pair.a]:.4f} | {ratio_words(pair.ratio)} | "
            f"{'decides nothing' if said else verdict_words(pair.ratio, len(look.sets))} |"
            for pair in pairs
        ]
        if said:
            lines.append(f"\n{said[0].upper()}{said[1:]}.")
    return lines


def _environments(analyses: Sequence[Analysis]) -> list[str]:
    places = _by_place(analyses)
    if not places:
        return ["None yet."]
    newest = [group[-1].run for _, group in places]
    lines = [f"| | {' | '.join(_cell(place) for place, _ in places)} |", "|---" * (len(places) + 1) + "|"]
    facts = [row for row in environment_rows(newest) if not row.name.startswith("plan ")]
    return [*lines, *(f"| {_cell(row.name)} | {' | '.join(_cell(value) or '–' for value in row.values)} |" for row in facts)]
