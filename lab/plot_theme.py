"""The look that all figures share, and the gate that every text of a figure passes. Knows nothing about clips, runs or Gradio.

It has to work on a light and on a dark page at once, since `gr.Plot` adds no dark theme: backgrounds are transparent, text is a grey of
about equal contrast on both, and colours come from the palette of Okabe & Ito, which colour-blind people can tell apart. No font is fetched.

Labels are data. plotly renders a subset of HTML (and, where MathJax is loaded, TeX between dollar signs) in every text, so each
label goes through `plain_label`.
"""

from __future__ import annotations

import html
import unicodedata

from lab.errors import LabError

#: Okabe & Ito, "Color Universal Design", 2008, without black (invisible on a dark page); yellow is last, as it is faint on white.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442")
TEXT = "#808080"  # 3.9 : 1 on white, 4.8 : 1 on Gradio's #0b0f19
GRID = "rgba(128, 128, 128, 0.25)"
FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif'

#: What a phone of 360 pixels shows in one line.
LABEL_LENGTH = 40


class PlotError(LabError):
    """Data that cannot be drawn."""


def one_line(text: str, most: int = LABEL_LENGTH) -> str:
    """`text` in one line of at most `most` characters, with nothing invisible in it. It is not escaped."""
    plain = "".join(" " if c.isspace() else c for c in text if c.isspace() or unicodedata.category(c) not in ("Cc", "Cf", "Cs"))
    plain = " ".join(plain.split())
    return plain if len(plain) <= most else plain[: most - 1] + "…"


def plain_label(label: str) -> str:
    """`label` as a text that plotly shows letter by letter: one line, at most 40 characters, no markup, no TeX, nothing invisible."""
    # plotly decodes &amp; &lt; &gt; and numbers, but not &quot;, so quotes stay; a dollar sign starts TeX where MathJax is loaded.
    return html.escape(one_line(label), quote=False).replace("$", "&#36;")
