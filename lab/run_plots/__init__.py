"""Runs to plotly figures. Each function takes the shown runs and gives one figure; nothing here knows about Gradio.

Colours and symbols belong to configurations and are the same in every figure of a selection; the A/A arm has those of its reference, hollow.
"""

from lab.run_plots.costs import first_calls, memory, stages
from lab.run_plots.distributions import KINDS, Kind, distributions
from lab.run_plots.pairs import forest
from lab.run_plots.samples import lengths, timeline

__all__ = ["KINDS", "Kind", "distributions", "first_calls", "forest", "lengths", "memory", "stages", "timeline"]
