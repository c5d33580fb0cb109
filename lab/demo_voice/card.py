"""The model card: what the demo voice was made of, how well it is understood, what it cannot do. Figures come from the files that the steps have written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from lab.audio import HOP, SAMPLE_RATE
from lab.demo_voice.corpus import described
from lab.demo_voice.evaluation import COPY, SYNTHESIZER, Sentence, Spoken
from lab.demo_voice.sources import SOURCES
from lab.demo_voice.synthesizers import SPEAKERS
from lab.durable import write_whole
from lab.metrics import log_mel

CARD, PICTURE = "README.md", "spectrograms.png"
_SHOWN = (
    "voice",
    "by",
    "WER",
    "first two words",
    "the rest",
    "plain",
    "questions",
    "commas",
    "two words",
    "long",
    "right voice",
    "silent where it should be",
)
_LIMITS = """\
- English in letters and `, . ; : ! ? ' - "`; case is not heard, digits are not known.
- It knows two voices and imitates no other: with a reference of somebody else it speaks like one of the two, or not at all.
- Both are synthetic. What is wrong with them (the flat tune of the one, the rasp of the other) is wrong here too.
- Names and rare words are read as they are spelt, and often wrong.
- It is there so that the lab runs, and is tested, without a GPU and without a hub. It says nothing about how good F5-TTS is.
"""


def card(evaluation: dict[str, Any], corpora: Sequence[dict[str, Any]], steps: dict[str, Any], commands: Sequence[str]) -> str:
    """The text of the card.

    Args:
        evaluation: What `lab.demo_voice.evaluation.judge` returned.
        corpora: What each `corpus.json` says, in the order of their use.
        steps: "steps" and "vocoder_steps", as `lab.demo_voice.export.export` returned them.
        commands: Those that made it, in order.
    """
    sources = [f"| `{source.package}` | {source.gives} | {source.licence} |" for source in SOURCES]
    demands = [
        f"| {demand['demand']} | {demand['voice']} | {demand['figure']:.3f} | {demand['limit']:.3f} | {'met' if demand['met'] else '**not met**'} |"
        for demand in evaluation["demands"]
    ]
    copied = " and ".join(f"{row['lsd_db']:.1f} dB ({row['voice']})" for row in evaluation["rows"] if row["source"] == COPY)
    learnt = " and ".join(f"{who.name} ({who.program}, {who.voice})" for who in SPEAKERS)
    parts = [
        "# The demo voice\n",
        "A small F5-TTS, so that the lab runs, and is tested, on a machine with no GPU and no hub: upstream's `DiT` and `CFM` with a smaller `arch`"
        f" (`config.yaml`), trained through upstream's `CFM.forward` for {steps['steps']:,} steps, and a small Vocos, trained with vocos' own discriminators"
        f" and losses for {steps['vocoder_steps']:,} steps. It has learnt two free synthesizers: {learnt}.\n",
        "## How well it is understood\n",
        f"{evaluation['sentences']} sentences that training never saw, by pocketsphinx (word errors of all words together); `synthesizer` is what the model"
        " learnt from, `copy` the same sound through mel and vocoder alone.\n",
        _table(evaluation["rows"]),
        f"\nLog-spectral distance of `copy` from what it copies: {copied}.",
        f"\n![One sentence by the synthesizer and by the model at each step count]({PICTURE})\n",
        "| what is asked | voice | figure | limit | |",
        "|---|---|---|---|---|",
        *demands,
        "\n## What it was made of\n",
        *(
            f"{corpus['hours']:.1f} hours, {corpus['utterances']:,} utterances of each voice, seed {corpus['seed']}"
            f" ({corpus['synthesizers'] or 'versions not recorded'}).\n"
            for corpus in corpora
        ),
        "| Debian package | gives | licence |",
        "|---|---|---|",
        *sources,
        "\nThe values are free to use under the lab's own licence (MIT); the synthesizers' licences ask nothing of what they have spoken.\n",
        "## Made by\n",
        "```bash",
        *commands,
        "```\n",
        "## Limits\n",
        _LIMITS,
    ]
    return "\n".join(parts)


def _table(rows: Sequence[dict[str, Any]]) -> str:
    lines = [f"| {' | '.join(_SHOWN)} |", "|---" * len(_SHOWN) + "|"]
    for row in rows:
        kinds = [f"{row['kinds'].get(kind, float('nan')):.3f}" for kind in ("plain", "question", "comma", "short", "long")]
        other = [f"{row[name]:.0%}" if row.get(name) is not None else "-" for name in ("right_voice", "silence")]
        cells = [row["voice"], row["source"], f"**{row['wer']:.3f}**", f"{row['first']:.3f}", f"{row['rest']:.3f}", *kinds, *other]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def spectrograms(spoken: Sequence[Spoken], sentence: Sentence, speaker: str) -> bytes:
    """A PNG: log-mel spectrograms of one sentence, one above the other, by every source but the vocoder alone."""
    import matplotlib as plots

    _ = plots.rcParams  # what stands in for it since `prepare_imports` makes way when it is used
    from matplotlib.figure import Figure

    chosen = [one for one in spoken if (one.sentence, one.speaker) == (sentence, speaker) and one.source != COPY]
    figure = Figure(figsize=(8, 1.5 * len(chosen)), layout="constrained")
    axes = figure.subplots(len(chosen), 1, sharex=True, squeeze=False)[:, 0]
    for axis, one in zip(axes, chosen, strict=True):
        seconds = len(one.samples) / SAMPLE_RATE
        axis.imshow(
            log_mel(one.samples, SAMPLE_RATE), origin="lower", aspect="auto", extent=(0, seconds, 0, 100), vmin=-80, vmax=0, cmap="magma"
        )
        axis.set_ylabel("synthesizer" if one.source == SYNTHESIZER else one.source.replace("nfe", "NFE "), fontsize=8)
        axis.set_yticks([])
        axis.tick_params(labelsize=7)
    axes[-1].set_xlabel(f"seconds ({HOP} samples a frame, 100 mel bands): “{sentence.text}”", fontsize=8)
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=72)
    return buffer.getvalue()


def write(folder: Path, evaluation: Path, corpora: Sequence[Path], steps: dict[str, Any], commands: Sequence[str]) -> Path:
    """Write the card into an exported folder; returns its path.

    Raises:
        CorpusError: a corpus is not whole.
    """
    text = card(
        json.loads(evaluation.read_text(encoding="utf-8")),
        [described(corpus) for corpus in corpora],
        steps,
        commands,
    )
    write_whole(folder / CARD, text.encode())
    return folder / CARD
