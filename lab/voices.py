"""Voices: the reference clips that F5 imitates, each with the exact words that are said in it.

Bundled ones come with the lab (`lab/data/demo/voices/voices.toml`) and with the f5_tts package; a person's own clip comes through the gate
(`lab.voice_gate`), and with consent into the store. Whatever its origin, a `Voice` ends in a mono PCM16 .wav file that we wrote or that is shipped:
upstream hands every other file to ffmpeg. Knows nothing about engines, and imports neither torch nor f5_tts (which takes seconds).
"""

import hashlib
import importlib.util
import re
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import soundfile

from lab.store import Store, StoredVoice
from lab.voice_gate import CheckedClip, VoiceError, check_clip, check_transcript, make_wav

__all__ = [
    "CONSENT_TEXT",
    "CheckedClip",
    "Voice",
    "VoiceError",
    "bundled_voice",
    "bundled_voices",
    "check_clip",
    "check_transcript",
    "default_voice",
    "find_voice",
    "import_voice",
    "make_wav",
    "open_voice",
    "transcriber_available",
    "voice_from_row",
    "voices_in",
]

LANGUAGES = ("en", "zh")
CONSENT_TEXT = (
    "I am the speaker in this clip, or the speaker has agreed to this use of their voice. The lab stores the clip as a WAV file, the transcript, "
    "the name I give it, and this statement with the time, on the computer where the lab runs; the clip's file name is not kept. "
    "I can delete the voice in the lab at any time, which removes all of these from there. Comparisons that were saved with it are separate: "
    "each can be deleted too."
)

_BUNDLED = Path(__file__).parent / "data" / "demo" / "voices"
_UPSTREAM = (
    ("upstream-en", "F5-TTS example, English", "basic_ref_en.wav", "en", "Some call me nature, others call me mother nature."),
    ("upstream-zh", "F5-TTS example, Chinese", "basic_ref_zh.wav", "zh", "对，这就是我，万人敬仰的太乙真人。"),
)
_MAX_NAME = 60  # characters


@dataclass(frozen=True)
class Voice:
    """A reference clip with its transcript. `path` is a mono PCM16 WAV and is never written to."""

    id: str
    name: str
    language: str  # "en" or "zh"
    transcript: str  # exactly what is said
    path: Path
    seconds: float
    sha256: str  # of the file, lower-case hex
    source: str  # one sentence: where from, and its licence
    suits: str  # which weights: "demo", "full" or "any"
    rms: float  # of the samples, full scale = 1; F5 raises a reference below 0.1 to it, and lowers the result again


@cache
def bundled_voices() -> tuple[Voice, ...]:
    """Return the voices that need no upload: the lab's own, then upstream's examples where the f5_tts package has them."""
    return (*voices_in(_BUNDLED), *_upstream_voices())


def voices_in(folder: Path) -> tuple[Voice, ...]:
    """The voices that `voices.toml` in `folder` describes, in its order.

    Raises:
        VoiceError: there is no such file.
    """
    file = folder / "voices.toml"
    if not file.is_file():
        raise VoiceError(f"{folder} has no voices.toml.")
    described = tomllib.loads(file.read_text(encoding="utf-8"))["voice"]
    return tuple(_voice(path=folder / entry.pop("file"), **entry) for entry in described)


def bundled_voice(id: str) -> Voice | None:
    """Return the bundled voice of that id, if there is one."""
    return next((voice for voice in bundled_voices() if voice.id == id), None)


def find_voice(
    id_or_path: str, *, transcript: str = "", consent: bool = False, store: Store | None = None, folder: Path | None = None
) -> Voice:
    """Return a voice by the id of a bundled one, by the id of an uploaded one (in `store`), or by the path of a person's own clip.

    A path needs the transcript and the speaker's consent, passes the gate, and becomes a WAV in `folder` (by default one that is removed when this
    process ends); nothing is stored. Raises `VoiceError` that says which voices there are, or what is wrong with the clip; `NotFound` from `store`.
    """
    if bundled := bundled_voice(id_or_path):
        return bundled
    if store is not None and re.fullmatch(r"[A-Za-z0-9_-]{22}", id_or_path) and not _existing(id_or_path):
        return voice_from_row(store.load_voice(id_or_path), store)
    file = _existing(id_or_path)
    if file is None:
        known = ", ".join(voice.id for voice in bundled_voices())
        raise VoiceError(
            f"There is no such voice, and no such file. The voices are {known}; or give the path of a clip of 1 to 15 seconds."
        )
    clip, words = _gate(file, transcript, consent)
    wav = make_wav(clip.samples, clip.rate)
    sha256 = hashlib.sha256(wav).hexdigest()
    path = (folder or Path(_scratch().name)) / f"{sha256}.wav"
    path.write_bytes(wav)
    return _voice("own-clip", "Your own clip", _language_of(words), words, path, "A clip given by path for this run; not stored.", "full")


@contextmanager
def open_voice(id_or_path: str, *, transcript: str = "", consent: bool = False, store: Store | None = None) -> Iterator[Voice]:
    """Hold a voice as `find_voice` finds it; what it wrote for a person's own clip is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="lab-voice-") as folder:
        yield find_voice(id_or_path, transcript=transcript, consent=consent, store=store, folder=Path(folder))


def default_voice(weights_kind: str) -> Voice:
    """Return the voice to start with: one that the demo weights have learnt for "demo", upstream's English example for all others if it is there."""
    wanted = "demo-female" if weights_kind == "demo" else "upstream-en"
    return bundled_voice(wanted) or find_voice("demo-female")


def import_voice(
    path: Path,
    transcript: str,
    language: str,
    consent: bool,
    store: Store,
    *,
    name: str = "",
    warn: Callable[[str], object] = lambda _: None,
) -> Voice:
    """Take a person's own clip through the gate and store it with `CONSENT_TEXT`; `warn` gets each warning about the clip.

    Raises `VoiceError` if consent is missing, or the clip, the transcript, the language or the name cannot be used; `StoreError` from the store.
    """
    if language not in LANGUAGES:
        raise VoiceError("The language has to be English (en) or Chinese (zh), which are what F5 speaks. Choose one of them.")
    shown = " ".join("".join(character if character.isprintable() else " " for character in name).split())
    if len(shown) > _MAX_NAME:
        raise VoiceError(f"The voice's name has {len(shown)} characters; {_MAX_NAME} is the most. Choose a shorter one.")
    clip, words = _gate(path, transcript, consent)
    row = store.save_voice(shown or "Uploaded voice", words, language, make_wav(clip.samples, clip.rate), CONSENT_TEXT)
    for warning in clip.warnings:
        warn(warning)
    return voice_from_row(row, store)


def voice_from_row(row: StoredVoice, store: Store) -> Voice:
    """Return an uploaded voice from its row, its recording checked against its hash. Raises `StoreError` if that is missing or altered."""
    source = f"Uploaded on {row.created_at:%Y-%m-%d}, with the consent of the speaker."
    return _voice(row.id, row.name, row.language, row.transcript, store.wav_path(row.sha256), source, "full")


def transcriber_available() -> bool:
    """Whether Whisper's weights, which F5 would transcribe with, are in the local hub cache. Downloads nothing and imports no torch."""
    from huggingface_hub import try_to_load_from_cache

    wanted = ("config.json", "model.safetensors")
    return all(isinstance(try_to_load_from_cache("openai/whisper-large-v3-turbo", name), str) for name in wanted)


def _gate(path: Path, transcript: str, consent: bool) -> tuple[CheckedClip, str]:
    if not consent:
        raise VoiceError(
            "Your own clip needs consent: confirm that you are the speaker, or that the speaker has agreed to this use of their voice. Nothing was "
            "stored."
        )
    clip = check_clip(path)
    return clip, check_transcript(transcript, clip.seconds)


def _voice(id: str, name: str, language: str, transcript: str, path: Path, source: str, suits: str) -> Voice:
    with soundfile.SoundFile(path) as file:
        rate, samples = file.samplerate, file.read(dtype="float32")
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    rms = float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))
    return Voice(id, name, language, transcript, path, len(samples) / rate, sha256, source, suits, rms)


def _upstream_voices() -> Iterator[Voice]:
    found = importlib.util.find_spec("f5_tts")  # finds the folder without importing anything
    for root in (found.submodule_search_locations or ()) if found else ():
        for id, name, file, language, transcript in _UPSTREAM:
            path = Path(root) / "infer" / "examples" / "basic" / file
            if path.is_file():
                yield _voice(id, name, language, transcript, path, "Example reference of the f5-tts package (SWivid/F5-TTS, MIT).", "full")


def _existing(text: str) -> Path | None:
    try:
        path = Path(text).expanduser()
        return path if path.exists() else None
    except (OSError, ValueError, RuntimeError):  # too long, a NUL in it, an unknown ~user
        return None


def _language_of(text: str) -> str:
    return "zh" if re.search(r"[\u4e00-\u9fff]", text) else "en"


@cache
def _scratch() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="lab-voices-")  # removed when the process ends
