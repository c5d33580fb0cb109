"""The modules that are trained: upstream's CFM and DiT, and vocos, from the configs that are shipped with the weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import yaml

from lab.demo_voice.listener import PREFIX
from lab.demo_voice.sentences import CHARACTERS, LETTERS
from lab.engine.compat import prepare_imports

#: The exported vocabulary: what the model reads, then the capital letters, which have the values of the small ones.
VOCABULARY = CHARACTERS + LETTERS.upper()


#: What is trained, in the shape of upstream's configs and of vocos'; both are exported as they are.
CONFIG, VOCODER_CONFIG = Path(__file__).with_name("config.yaml"), Path(__file__).with_name("vocos.yaml")


def config(file: Path = CONFIG) -> dict[str, Any]:
    """What a config says, in the shape of upstream's."""
    return dict(yaml.safe_load(file.read_text(encoding="utf-8")))


def cfm(of: dict[str, Any], symbols: str = CHARACTERS) -> Any:
    """Upstream's CFM around its DiT, as a config like `CONFIG` says, for as many symbols as given; new values.

    Upstream spreads a text over its frames one utterance and one character at a time, with a synchronisation each; `spread` does the same at once.
    """
    prepare_imports()
    from f5_tts.model import CFM, DiT
    from f5_tts.model.backbones.dit import TextEmbedding

    model, mel = of["model"], of["model"]["mel_spec"]
    made = CFM(
        transformer=DiT(**model["arch"], text_num_embeds=len(symbols), mel_dim=mel["n_mel_channels"]),
        mel_spec_kwargs=mel,
        odeint_kwargs={"method": "euler"},
        vocab_char_map={symbol: number for number, symbol in enumerate(symbols)},
    )
    embedding = made.transformer.text_embed
    assert isinstance(embedding, TextEmbedding)
    embedding.average_upsample_text_by_mask = spread
    return made


def spread(text: torch.Tensor, text_mask: torch.Tensor, target_lens: torch.Tensor) -> torch.Tensor:
    """What `TextEmbedding.average_upsample_text_by_mask` of f5-tts 1.1.22 does, for a whole batch at once.

    Args:
        text: (batch, frames, channels), the characters' values first and padding behind.
        text_mask: (batch, frames), true where there is a character; those come first.
        target_lens: (batch,) frames of each utterance.

    Returns:
        (batch, frames, channels): each character repeated so that the text fills its utterance, the later ones once more where it does not divide.
    """
    length = text_mask.sum(dim=1)[:, None]
    target = target_lens[:, None]
    position = torch.arange(text.shape[1], device=text.device)[None]
    repeats = target // length.clamp(min=1)
    once = length - (target - repeats * length)  # so many characters have no extra frame
    early = position // repeats.clamp(min=1)
    late = once + (position - once * repeats) // (repeats + 1)
    index = torch.where(position < once * repeats, early, late).clamp(0, text.shape[1] - 1)
    spoken = torch.gather(text, 1, index[..., None].expand_as(text))
    return spoken.masked_fill(((position >= target) | (length == 0))[..., None], 0.0)


def vocoder(file: Path = VOCODER_CONFIG) -> Any:
    """The Vocos that a config in the shape of vocos' describes; new values."""
    prepare_imports()
    from vocos import Vocos

    return Vocos.from_hparams(str(file))


def exported_state(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A trained CFM's state for `VOCABULARY`: the rows of the capital letters are copies, all floating-point values FP16.

    What listened to it during the training is left out.
    """
    name = "transformer.text_embed.text_embed.weight"
    rows = [0, *(1 + CHARACTERS.index(symbol.lower()) for symbol in VOCABULARY)]  # row 0 is the filler
    whole = {**{key: value for key, value in state.items() if not key.startswith(PREFIX)}, name: state[name][rows]}
    return {key: value.half().contiguous().clone() if value.is_floating_point() else value for key, value in whole.items()}


def imported_state(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The other way: what `exported_state` made, for training to go on from."""
    name = "transformer.text_embed.text_embed.weight"
    return {
        key: value.float() if value.is_floating_point() else value
        for key, value in {**state, name: state[name][: 1 + len(CHARACTERS)]}.items()
    }


def write_vocabulary(file: Path) -> None:
    """One symbol a line, as upstream's `get_tokenizer(…, "custom")` reads it."""
    file.write_text("".join(f"{symbol}\n" for symbol in VOCABULARY), encoding="utf-8")
