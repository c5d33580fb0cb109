"""Upstream's models in the shape of its configs, small enough for a test, with random values and no zeros."""

from importlib.resources import files
from typing import Any

import torch
import yaml

from lab.engine.compat import prepare_imports

prepare_imports()

from f5_tts.model import CFM  # noqa: E402 - after its imports are prepared

VOCABULARY = {symbol: number for number, symbol in enumerate(" abcdefghijklmnopqrstuvwxyz.,!?'")}
CONFIGS = ("F5TTS_v1_Base", "F5TTS_v1_Small", "F5TTS_Base", "F5TTS_Small")


def filled(module: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """`module` with values everywhere: upstream begins with zeros where branches would be multiplied away."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            if not parameter.any():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return module.eval()


def cfm(seed: int = 0, backbone: str = "DiT", **arch: Any) -> Any:
    """A CFM around `backbone` with `arch`."""
    torch.manual_seed(seed)
    import f5_tts.model as upstream

    transformer = getattr(upstream, backbone)(**arch, text_num_embeds=len(VOCABULARY), mel_dim=100)
    return filled(CFM(transformer=transformer, odeint_kwargs={"method": "euler"}, vocab_char_map=VOCABULARY))


def small(seed: int = 0, **changes: Any) -> Any:
    """A DiT of two narrow blocks."""
    arch: dict[str, Any] = {
        "dim": 64,
        "depth": 2,
        "heads": 2,
        "ff_mult": 2,
        "text_dim": 32,
        "conv_layers": 2,
        "qk_norm": None,
        "pe_attn_head": None,
    }
    return cfm(seed, **{**arch, **changes})


def of_config(name: str) -> Any:
    """The DiT of one of upstream's configs, all of it but its depth."""
    text = (files("f5_tts") / "configs" / f"{name}.yaml").read_text()
    arch = yaml.safe_load(text)["model"]["arch"]
    return cfm(**{**arch, "depth": 2})


def convnext(dim: int, inner: int, seed: int = 0) -> Any:
    """A block of upstream's text encoder."""
    from f5_tts.model.modules import ConvNeXtV2Block

    torch.manual_seed(seed)
    return filled(ConvNeXtV2Block(dim, inner))


def vocos(seed: int = 0) -> Any:
    """A small Vocos as the hub's, with a centred inverse Fourier transform."""
    from vocos import Vocos
    from vocos.feature_extractors import MelSpectrogramFeatures
    from vocos.heads import ISTFTHead
    from vocos.models import VocosBackbone

    torch.manual_seed(seed)
    backbone = VocosBackbone(input_channels=100, dim=64, intermediate_dim=128, num_layers=2)
    return filled(
        Vocos(MelSpectrogramFeatures(padding="center"), backbone, ISTFTHead(dim=64, n_fft=1024, hop_length=256, padding="center"))
    )


def upstream_noise(frames: int, seed: int) -> torch.Tensor:
    """What upstream's `sample` draws for a seed on a CPU, (frames, 100)."""
    torch.manual_seed(seed)
    return torch.randn(frames, 100)
