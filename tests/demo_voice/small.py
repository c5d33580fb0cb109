"""A DiT small enough for fast tests."""

from typing import Any

import torch

from lab.demo_voice import model as models


def small_config(**arch: int) -> dict[str, Any]:
    """The demo voice's config with another `arch`."""
    config = models.config()
    config["model"]["arch"] |= {"dim": 64, "depth": 2, "heads": 1, "text_dim": 32, "conv_layers": 2, **arch}
    return config


def small(**arch: int) -> Any:
    """Upstream's CFM around it; no value is zero, so that everything is learnt from the first step on."""
    torch.manual_seed(1)
    made = models.cfm(small_config(**arch))
    with torch.no_grad():
        for parameter in made.parameters():
            if not parameter.any():
                parameter.normal_(0, 0.05)
    return made
