"""The fast sampler: F5-TTS's DiT and Vocos, loaded by upstream, computed to the same result at the speed of the card.

`accelerate(model, vocoder)` gives objects with upstream's `sample` and `decode`; `Turbo` and `Speaker` are what they are made of. It uses nothing of
the lab but its error class, its clock and its constants.
"""

from lab.engine.turbo.dropin import FastCFM, FastVocos, accelerate
from lab.engine.turbo.engine import Turbo
from lab.engine.turbo.pieces import Piece, Settings, TooLongError, Trace
from lab.engine.turbo.reading import UnsupportedModelError
from lab.engine.turbo.speaking import Speaker, cross_fade, first_short, joined
from lab.engine.turbo.voices import Voice, Voices

__all__ = [
    "FastCFM",
    "FastVocos",
    "Piece",
    "Settings",
    "Speaker",
    "TooLongError",
    "Trace",
    "Turbo",
    "UnsupportedModelError",
    "Voice",
    "Voices",
    "accelerate",
    "cross_fade",
    "first_short",
    "joined",
]
