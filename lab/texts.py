"""Texts: the example sentences, the gate that every typed text passes, and how long a text will be when it is spoken.

`clean` makes a text plain (what is sent to an engine, stored and shown), `check` refuses what an engine cannot say, and
the `estimate_*` functions repeat the duration arithmetic of f5-tts 1.1.22, so that a text can be refused before
anything is rendered. Upstream decides the length from the bytes of the texts and the length of the reference alone;
nothing here needs a model.

This module knows nothing about audio, voices or weights (the caller hands over a vocabulary), and never imports
`f5_tts`, which takes seconds.
"""

from __future__ import annotations

import math
import re
import tomllib
import unicodedata
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

from lab.audio import CROSS_FADE_SAMPLES, HOP, SAMPLE_RATE
from lab.errors import LabError

_WINDOW_SECONDS = 22  # upstream plans chunks so that reference and speech together stay below this
_SHORT_CHUNK_BYTES, _SHORT_CHUNK_SPEED = 10, 0.3
_MAX_FRAMES = 65_536  # `CFM.sample(max_duration=...)`, reference included

SENTENCES_FILE = Path(__file__).parent / "data" / "texts.toml"


class TextError(LabError):
    """A text that cannot be spoken; the message never repeats markup out of it."""


# --- example sentences


@dataclass(frozen=True)
class Sentence:
    """One example text: a stable `id`, a `label` for a menu, its `language` ("en" or "zh") and the `text`, already clean."""

    id: str
    label: str
    language: str
    text: str


@cache
def _all_sentences() -> tuple[Sentence, ...]:
    with SENTENCES_FILE.open("rb") as file:
        return tuple(Sentence(**entry) for entry in tomllib.load(file)["sentence"])


def sentences(language: str | None = None) -> tuple[Sentence, ...]:
    """The example sentences in the order of `lab/data/texts.toml`, all of them or those of one language ("en", "zh")."""
    return tuple(s for s in _all_sentences() if language is None or s.language == language)


# --- cleaning

_PLAIN = {
    **dict.fromkeys("\u2018\u2019\u201a\u201b\u2032\u2039\u203a\u02b9\u02bc\u00b4", "'"),
    **dict.fromkeys("\u201c\u201d\u201e\u201f\u2033\u00ab\u00bb", '"'),
    **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe58\ufe63\uff0d", "-"),
    **dict.fromkeys("\u2026\u22ef", "..."),
    # Ligatures that come with text copied out of a PDF.
    "\ufb00": "ff",
    "\ufb01": "fi",
    "\ufb02": "fl",
    "\ufb03": "ffi",
    "\ufb04": "ffl",
    "\ufb05": "st",
    "\ufb06": "st",
}
#: Characters that show nothing, and whose category (letter, mark, symbol) does not say so: fillers, joiners, variation
#: selectors.
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0") | frozenset(
    chr(code) for first, last in ((0x180B, 0x180F), (0xFE00, 0xFE0F), (0xE0100, 0xE01EF)) for code in range(first, last + 1)
)


def clean(text: str) -> str:
    """`text` in NFC with plain quotes, dashes and dots, single spaces and nothing invisible; the case stays.

    Curly quotes, primes and guillemets become straight ones, every dash and the minus sign "-", the ellipsis "...", and
    every run of white space (no-break spaces, tabs and line ends too) one space. Control characters, zero-width
    characters and bidi controls go. Cleaning twice changes nothing more. A lone surrogate is left in place: `check`
    refuses it with a message.
    """
    text = unicodedata.normalize("NFC", text)
    # One look per distinct character, not per character: a pasted book stays cheap.
    table = {ord(character): _plain(character) for character in set(text) if not "\x20" <= character <= "\x7e"}
    # Again, because taking an invisible character out can bring a letter and its accent together.
    return unicodedata.normalize("NFC", " ".join(text.translate(table).split()))


def _plain(character: str) -> str:
    if character.isspace():
        return " "
    if character in _BLANK or unicodedata.category(character) in ("Cc", "Cf"):
        return ""
    return _PLAIN.get(character, character)


# --- the gate

#: The beginning of a tag, closing tag, comment or processing instruction, closed or not (browsers accept an unclosed
#: one); "2 < 3" and "<3" are text.
_MARKUP = re.compile(r"<[A-Za-z/!?]|&(?:[A-Za-z][A-Za-z0-9]{1,31}|#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6});")
_PINYIN = re.compile(r"[a-z]+[1-5]")
_CHINESE = range(0x3100, 0xA000)  # what upstream takes for Chinese
_NAMED = 5


def check(text: str, *, vocabulary: frozenset[str] | None, vocabulary_name: str, estimated_seconds: float, max_seconds: float) -> str:
    """`clean(text)`, or a `TextError` that says why it cannot be spoken and what to do.

    `vocabulary` holds the symbols that the weights know and `vocabulary_name` is what a person calls those weights;
    None skips that check (the full weights). Chinese characters pass where the vocabulary holds pinyin syllables, since
    upstream turns the one into the other. `estimated_seconds` is what `estimate_seconds` says for the cleaned text,
    `max_seconds` the longest speech allowed.
    """
    text = clean(text)
    if not text:
        raise TextError("There is no text. Type something to say.")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise TextError("The text holds half of a character (a lone surrogate), so it was damaged on its way here. Type it again.")
    if _MARKUP.search(text):
        raise TextError(
            "This looks like markup; it would be read aloud as letters. Remove the tags, and write signs such as "
            "'less than' and 'and' as words."
        )
    if vocabulary is not None and (unknown := _unknown(text, vocabulary)):
        one = len(unknown) == 1
        names = ", ".join(_name(character) for character in unknown[:_NAMED])
        more = f" and {len(unknown) - _NAMED} more" if len(unknown) > _NAMED else ""
        raise TextError(
            f"The weights {vocabulary_name} do not know {'this character' if one else 'these characters'}: "
            f"{names}{more}. Write {'it' if one else 'them'} another way, or choose weights that know {'it' if one else 'them'}."
        )
    if not any(character.isalnum() for character in text):
        raise TextError("There is nothing to pronounce, only punctuation or symbols. Type something to say: at least one word.")
    if not estimated_seconds <= max_seconds:  # so that NaN is refused as well
        raise TextError(
            f"This is about {estimated_seconds:.0f} s of speech, the limit is {max_seconds:.0f} s: shorten it or render it in parts."
        )
    return text


def _is_chinese(character: str) -> bool:
    """Whether upstream turns the character into pinyin (its range, in `convert_char_to_pinyin`)."""
    return ord(character) in _CHINESE


@lru_cache(maxsize=4)
def speakable(symbols: frozenset[str]) -> frozenset[str]:
    """`symbols` of a vocabulary with the characters that upstream turns into them: a semicolon into a comma, Chinese into pinyin.

    Source: `convert_char_to_pinyin` of f5-tts 1.1.22. Doing it twice changes nothing more.
    """
    more = {";"} if "," in symbols else set()
    if any(_PINYIN.fullmatch(symbol) for symbol in symbols):
        more |= set(map(chr, _CHINESE))
    return symbols | more


def _unknown(text: str, vocabulary: frozenset[str]) -> list[str]:
    """The distinct characters that `vocabulary` lacks, in order of appearance."""
    known = speakable(vocabulary)
    return [character for character in dict.fromkeys(text) if character not in known]


def _name(character: str) -> str:
    """Code point and Unicode name; the character too where it can neither be markup nor disturb the line it stands in."""
    name = f"U+{ord(character):04X} {unicodedata.name(character, 'without a name')}"
    harmless = unicodedata.category(character) in ("Ll", "Lu", "Lo", "Nd", "So")
    if harmless and unicodedata.bidirectional(character) not in ("R", "AL", "AN"):
        return f"{character} ({name})"
    return name


# --- how long will it be


def _size(text: str) -> int:
    """Bytes in UTF-8, the unit of upstream's arithmetic.

    A lone surrogate counts three instead of raising, so that `check` can refuse it afterwards with a message.
    """
    return len(text.encode("utf-8", "surrogatepass"))


def chunk_text(text: str, max_chars: int = 135) -> list[str]:
    """`text` in pieces of at most `max_chars` bytes, as upstream cuts it.

    Cuts are made after punctuation only; a sentence that is longer stays whole. Source: `f5_tts.infer.utils_infer.chunk_text` of
    f5-tts 1.1.22; a test compares the two.
    """
    chunks: list[str] = []
    current = ""
    for sentence in re.split(r"(?<=[;:,.!?])\s+|(?<=[；：，。！？])", text):
        if not sentence:
            continue
        piece = sentence + " " if _size(sentence[-1]) == 1 else sentence
        if _size(current) + _size(sentence) <= max_chars:
            current += piece
        else:
            if current:
                chunks.append(current.strip())
            current = piece
    if current:
        chunks.append(current.strip())
    return chunks


def max_chars(reference_text: str, seconds: float, speed: float) -> int:
    """Bytes that a chunk may have, for a reference of `seconds` seconds with its prepared transcript. Source: `infer_process`."""
    return int(_size(reference_text) / seconds * (_WINDOW_SECONDS - seconds) * speed)


def _chunk_frames(text: str, frames: int, seconds: float, reference_text: str, speed: float) -> list[int]:
    """Generated mel frames of every chunk, for a reference of `frames` frames and `seconds` seconds."""
    if not frames > 0:
        raise TextError("The reference clip is shorter than one frame (11 ms). Choose a voice with a few seconds of speech.")
    if not 0.1 <= speed <= 10:  # far outside what is of use; it keeps the arithmetic below finite
        raise TextError("The speed has to lie between 0.1 and 10; 1 is the voice's own.")
    # As `preprocess_ref_audio_text` ends a transcript; the chunks are planned with this text.
    if not reference_text.endswith((". ", "。")):
        reference_text += " " if reference_text.endswith(".") else ". "
    most = max_chars(reference_text, seconds, speed)
    # As `infer_batch_process` goes on: one more space, also after ". ". The durations are computed with this text.
    if _size(reference_text[-1]) == 1:
        reference_text += " "
    reference_bytes = _size(reference_text)
    result = []
    for chunk in chunk_text(text, most):
        size = _size(chunk)
        chunk_speed = _SHORT_CHUNK_SPEED if size < _SHORT_CHUNK_BYTES else speed
        duration = frames + int(frames / reference_bytes * size / chunk_speed)
        # `CFM.sample`: at least one frame more than there are text tokens or reference frames (the centred mel has one
        # more), at most 65,536. A Chinese character is two tokens; upstream's word cutter can add a few spaces, which
        # are not counted here.
        tokens = sum(2 if _is_chinese(character) else 1 for character in reference_text + chunk)
        duration = min(max(duration, tokens + 1, frames + 2), _MAX_FRAMES)
        result.append(max(duration - frames, 0))
    return result


def estimate_frames(text: str, reference_frames: int, reference_text: str, speed: float = 1.0) -> int:
    """Mel frames (256 samples at 24 kHz) that f5-tts generates for `text`, all chunks together, without the reference.

    `reference_frames` is the length of the prepared reference (its samples // 256), `reference_text` its transcript.
    Chunks are planned for a reference of exactly so many frames; a clip that is a fraction of a frame longer can,
    rarely, be cut at another sentence, so use `estimate_seconds` where the clip's length is known. Raises `TextError`
    for an empty reference or a speed outside 0.1 to 10. Source: `infer_process`, `infer_batch_process` and
    `CFM.sample` of f5-tts 1.1.22.
    """
    return sum(_chunk_frames(text, reference_frames, reference_frames * HOP / SAMPLE_RATE, reference_text, speed))


def estimate_samples(text: str, reference_samples: int, reference_text: str, speed: float = 1.0) -> int:
    """Samples at 24 kHz that f5-tts returns for `text`; `reference_samples` is the prepared reference's length at 24 kHz.

    Every chunk of n frames becomes (n - 1) · 256 samples (the vocoder's inverse STFT is centred), and every join takes
    the cross-fade of 0.15 s away, or less where one side is shorter. Errors and source as in `estimate_frames`.
    """
    total = 0
    seconds = reference_samples / SAMPLE_RATE
    for index, frames in enumerate(_chunk_frames(text, reference_samples // HOP, seconds, reference_text, speed)):
        samples = max(frames - 1, 0) * HOP
        total += samples - (min(CROSS_FADE_SAMPLES, total, samples) if index else 0)
    return total


def estimate_seconds(text: str, reference_seconds: float, reference_text: str, speed: float = 1.0) -> float:
    """Seconds of speech that f5-tts returns for `text`; `reference_seconds` is the prepared reference's length.

    "Prepared" means after `preprocess_ref_audio_text`, which trims the edges and adds 50 ms: a raw clip's length gives
    an estimate a little too high or too low. Errors and source as in `estimate_frames`.
    """
    samples = round(reference_seconds * SAMPLE_RATE) if math.isfinite(reference_seconds) else 0
    return estimate_samples(text, samples, reference_text, speed) / SAMPLE_RATE
