"""One look for all pages. System fonts only: a page makes no external request."""

from __future__ import annotations

import gradio as gr

_SANS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif")
_MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")


def theme() -> gr.themes.Base:
    """The lab's theme."""
    return gr.themes.Base(
        primary_hue="blue",
        secondary_hue="orange",
        neutral_hue="slate",
        radius_size="md",
        font=_SANS,
        font_mono=_MONO,
    ).set(
        block_border_width="1px",
        block_shadow="none",
        button_large_padding="12px 20px",
        block_label_text_weight="600",
        body_text_color_subdued="*neutral_500",
        body_text_color_subdued_dark="*neutral_400",
    )


CSS = """
.gradio-container { max-width: 1160px !important; margin: 0 auto !important; width: 100%; }
/* 8 pixels on a phone, 32 on a desktop; not in a media query, where Gradio puts every selector below this element */
.gradio-container .main.fillable { padding-inline: clamp(8px, 3.3vw - 4px, 32px) !important; }
#lab-title h1 { font-size: 1.5rem; margin: 0.2rem 0 0; letter-spacing: -0.01em; }
#lab-title p { margin: 0.15rem 0 0; color: var(--body-text-color-subdued); }
#lab-engine { font-size: 0.9rem; color: var(--body-text-color-subdued); }
#lab-engine strong { color: var(--body-text-color); }
#length-estimate p, #config-notes li, .lab-hint p { font-size: 0.875rem; color: var(--body-text-color-subdued); margin: 0; }
#config-notes ul { padding-left: 1.1rem; margin: 0; }
#lab-generate, #lab-stop { min-height: 48px; }
#lab-status p { margin: 0; }
#lab-files .label-clear-button { display: none; }
#lab-table { font-variant-numeric: tabular-nums; }
#runs-words > div > ul, #runs-words .prose > ul { padding-left: 0; list-style: none; }
#runs-words li { margin: 0.35rem 0; }
#runs-words li li { font-size: 0.875rem; color: var(--body-text-color-subdued); list-style: none; padding: 0; margin: 0.1rem 0 0; }
#runs-words ul ul { padding-left: 0.8rem; border-left: 2px solid var(--border-color-primary); margin: 0.2rem 0 0.6rem; }
#runs-words em { color: var(--body-text-color-subdued); }
.runs-heading h2 { font-size: 1.1rem; margin: 0.6rem 0 0; }
.runs-heading p { font-size: 0.875rem; margin: 0.1rem 0 0; color: var(--body-text-color-subdued); }
.runs-table { font-variant-numeric: tabular-nums; }
.runs-table table, .runs-table .cell-wrap { font-family: var(--font) !important; font-size: 0.85rem; }
#runs-files .label-clear-button, #studies-files .label-clear-button { display: none; }
#studies-own label { height: auto; }
#studies-own .label-text { white-space: normal; }
/* headings break between words alone, and widths are measured by that */
[id^="studies-"].runs-table th .text { word-break: normal !important; overflow-wrap: normal !important; }
#studies-menu input { padding-right: 2rem; text-overflow: ellipsis; }
#studies-really { background: #b91c1c; color: #fff; }
button:focus-visible, input:focus-visible, textarea:focus-visible, [tabindex]:focus-visible { outline: 2px solid var(--color-accent); outline-offset: 2px; }
footer { margin-top: 1.5rem !important; }
@media (max-width: 640px) {
  #runs-tabs .tab-container button { padding-inline: 6px; font-size: 0.85rem; }
  /* over the plot the label would lie on the legend */
  .lab-plot label[data-testid="block-label"] { position: static; border: none; background: none; padding-top: 8px; }
}
"""
