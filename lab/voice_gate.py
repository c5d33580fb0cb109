"""The gate that a person's own clip passes before anything else sees it.

The clip is judged by its content, never by its name. Its stated size is bounded before a sample is decoded (4 MB of FLAC can claim 4 GB), and
decoding stops at a hard cap because a header can lie. What passes is mono audio that F5 can use; `make_wav` turns it into the one format that is
stored. The level is measured on exactly what `make_wav` writes, so a WAV it wrote passes the gate again, unchanged.
Knows nothing about where voices are kept.
"""

import io
import math
import stat
import struct
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from lab import texts
from lab.audio import SAMPLE_RATE
from lab.errors import LabError

MAX_FILE_BYTES = 10 * 1024 * 1024
MIN_SECONDS, MAX_SECONDS = 1.0, 15.0
CUT_SECONDS = 12.0  # upstream cuts a longer reference at 12 s
MIN_RATE, MAX_RATE = 8_000, 96_000
MAX_TRANSCRIPT = 300  # characters
MIN_BYTES_PER_SECOND, MAX_BYTES_PER_SECOND = 2.0, 40.0  # of UTF-8: English and Chinese speech are both near 15

SILENT_DBFS, QUIET_DBFS = -60.0, -45.0
NOISY_DB = 15.0  # of speech above the quietest parts
FULL_SCALE = 0.999  # what counts as clipped, three samples or more in a row
CLIPPED_SHARE = 0.001
PEAK = 0.99  # the highest that `make_wav` writes

_FORMATS = {"WAV": "WAV", "WAVEX": "WAV", "FLAC": "FLAC", "OGG": "OGG", "MP3": "MP3"}
_UNKNOWN_FRAMES = 2**60  # libsndfile's count for a stream that states no length is near 2**63
_BLOCK = 65_536  # frames

Samples = npt.NDArray[np.float32]


class VoiceError(LabError):
    """A clip or transcript that cannot be used as a voice, with the reason and what to do."""


class _InMemory(io.BytesIO):
    def seek(self, offset: int, whence: int = 0, /) -> int:
        try:
            return super().seek(offset, whence)
        except (OSError, ValueError):  # a hostile header; libsndfile's callback would print it instead of passing it on
            return self.tell()


@dataclass(frozen=True)
class CheckedClip:
    """A clip that passed: `samples` is mono float32 of shape (n,) at `rate` Hz, the file's own; `warnings` are sentences for the person."""

    samples: Samples
    rate: int
    seconds: float
    warnings: tuple[str, ...]


def check_clip(path: Path) -> CheckedClip:
    """Read a person's clip, or raise `VoiceError` with one sentence that says why not and what to do.

    Accepts WAV, FLAC, OGG and MP3 up to 10 MB, 1 to 15 seconds, one or two channels (mixed to one), 8 to 96 kHz.
    """
    data = _bounded_bytes(path)
    frames, rate = _bounded_header(data)
    channels = _decode(data, frames, rate)
    _refuse_clipped(channels)
    samples = channels.mean(axis=1, dtype=np.float32)
    seconds = len(samples) / rate
    heard = _pcm(samples, rate).astype(np.float64) / 32768
    _refuse_silent(heard, channels)
    return CheckedClip(samples, rate, seconds, tuple(_warnings(heard, seconds)))


def make_wav(samples: Samples, rate: int) -> bytes:
    """Return mono `samples` (n,) at `rate` Hz as the WAV file that the lab stores: PCM16 at 24 kHz, the same bytes every time.

    Peaks above 0.99 are brought down to it by scaling the whole clip, since resampling may overshoot.
    """
    pcm = _pcm(samples, rate).astype("<i2").tobytes()
    # 44 bytes by hand: libsndfile is free to add chunks, and these bytes are a name.
    header = struct.pack(
        "<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + len(pcm), b"WAVE", b"fmt ", 16, 1, 1, SAMPLE_RATE, 2 * SAMPLE_RATE, 2, 16, b"data", len(pcm)
    )
    return header + pcm


def check_transcript(text: str, seconds: float) -> str:
    """Return what is said in a clip of `seconds`, made plain by `texts.clean`; or raise `VoiceError`."""
    text = texts.clean(text)
    if not any(character.isalnum() for character in text):
        raise VoiceError(
            "The transcript is missing. Type exactly what is said in the clip. (The lab can only write it down by itself where the weights of "
            "Whisper are already on this computer.)"
        )
    if len(text) > MAX_TRANSCRIPT:
        raise VoiceError(f"The transcript has {len(text)} characters; {MAX_TRANSCRIPT} is the most. Give only the words of the clip.")
    if any(unicodedata.category(character) in ("Cs", "Co", "Cn") for character in text):
        raise VoiceError("The transcript contains broken characters. Type it again by hand.")
    try:
        texts.check(text, vocabulary=None, vocabulary_name="", estimated_seconds=0, max_seconds=MAX_SECONDS)
    except texts.TextError as error:
        raise VoiceError(f"The transcript cannot be used. {error}") from None
    pace = len(text.encode()) / seconds
    if not MIN_BYTES_PER_SECOND <= pace <= MAX_BYTES_PER_SECOND:
        raise VoiceError(
            f"The transcript is too {'short' if pace < MIN_BYTES_PER_SECOND else 'long'} for this clip: {len(text)} characters for "
            f"{seconds:.1f} seconds. The speaking rate is taken from it, so it must be exactly what is said, and all of it."
        )
    return text


def _bounded_bytes(path: Path) -> bytes:
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise VoiceError("The clip is not a file. Choose a WAV, FLAC, OGG or MP3 file.")
        with path.open("rb") as file:  # once, into memory: what is checked is what is decoded, and no decoder sees the name
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise VoiceError(f"The clip could not be opened: {error.strerror or error}. Choose it again.") from error
    if not data:
        raise VoiceError("The clip is empty: the file has no bytes. Record or export it again.")
    if len(data) > MAX_FILE_BYTES:
        size = max(found.st_size, len(data)) / 1024 / 1024
        raise VoiceError(
            f"The clip's file has {size:.1f} MB; 10 MB is the most. A clip of 5 to 10 seconds is enough: cut it, or save it as FLAC."
        )
    return data


def _bounded_header(data: bytes) -> tuple[int, int]:
    """Return the frames that the file promises at least, and the rate in Hz, once both are within bounds. Decodes nothing."""
    try:
        info = soundfile.info(_InMemory(data))
    except soundfile.SoundFileError as error:
        raise VoiceError("The clip is not audio that can be read, whatever its name says. Export it as WAV, FLAC, OGG or MP3.") from error
    if info.format not in _FORMATS:
        raise VoiceError(f"The clip is in the format {info.format}. Export it as WAV, FLAC, OGG or MP3.")
    if not 1 <= info.channels <= 2:
        raise VoiceError(f"The clip has {info.channels} channels. Export it with one (mono) or two (stereo).")
    if not MIN_RATE <= info.samplerate <= MAX_RATE:
        raise VoiceError(f"The clip's sampling rate is {info.samplerate} Hz. Export it with 8,000 to 96,000 Hz; 24,000 or 48,000 is best.")
    _refuse_cut_short(data, _FORMATS[info.format])
    if info.frames >= _UNKNOWN_FRAMES:
        raise VoiceError(
            "The clip's file does not say how long it is, as happens to a streamed one. Open it in an audio editor and save it again."
        )
    _refuse_length(info.frames / info.samplerate)
    # Without an index an MP3's length is an estimate.
    return int(info.frames * 0.9) if info.format == "MP3" else info.frames, info.samplerate


def _refuse_length(seconds: float) -> None:
    if seconds < MIN_SECONDS:
        raise VoiceError(
            f"The clip is {seconds:.2f} seconds long; a voice needs at least 1 second, and 5 to 10 are best. Record a longer one."
        )
    if seconds > MAX_SECONDS:
        raise VoiceError(f"The clip is {_long(seconds)} long; 15 seconds is the most, and 5 to 10 are best. Cut out one sentence or two.")


def _long(seconds: float) -> str:
    return f"{seconds:.2f} seconds" if seconds < 600 else f"{seconds / 60:.0f} minutes"


_CUT_SHORT = "The clip's file ends too early or is damaged: a part of the audio that it announces is missing. Copy or export it again."


def _refuse_cut_short(data: bytes, format: str) -> None:
    """Look at the container where libsndfile would quietly read what is left of a truncated file."""
    if format == "WAV":
        order, position = (">" if data.startswith(b"RIFX") else "<"), 12
        while position + 8 <= len(data):
            name, size = struct.unpack_from(f"{order}4sI", data, position)
            position += 8
            if name == b"data":
                if position + size > len(data) and size != 0xFFFFFFFF:  # that number is ffmpeg's, writing to a pipe: it cannot go back
                    raise VoiceError(_CUT_SHORT)
                return
            position += size + size % 2
    elif format == "OGG":
        page = data.rfind(b"OggS")
        sizes = data[page + 27 : page + 27 + data[page + 26]] if page + 26 < len(data) else None
        if sizes is None or page + 27 + data[page + 26] + sum(sizes) > len(data):
            raise VoiceError(_CUT_SHORT)


def _decode(data: bytes, frames: int, rate: int) -> Samples:
    """Return float32 of shape (n, channels), n at least the promised `frames` and never more than 15 seconds."""
    blocks: list[Samples] = []
    total = 0
    try:
        with soundfile.SoundFile(_InMemory(data)) as file:
            while len(block := file.read(_BLOCK, dtype="float32", always_2d=True)):
                total += len(block)
                if total > MAX_SECONDS * rate:
                    raise VoiceError("The clip goes on for more than 15 seconds; 5 to 10 are best. Cut out one sentence or two.")
                blocks.append(block)
    except soundfile.SoundFileError as error:
        raise VoiceError(_CUT_SHORT) from error
    if total < frames:
        raise VoiceError(_CUT_SHORT)
    _refuse_length(total / rate)
    channels = np.concatenate(blocks)
    if not np.isfinite(channels).all():
        raise VoiceError("The clip contains samples that are not numbers (NaN or infinite). Export it again, as 16-bit WAV.")
    return channels


def _refuse_clipped(channels: Samples) -> None:
    level = np.abs(channels)
    if level.max() > 4:
        raise VoiceError(
            f"The clip goes to {level.max():.3g} times full scale, which is no sound that can be played. Export it as 16-bit WAV."
        )
    full = level >= FULL_SCALE
    third = full[:-2] & full[1:-1] & full[2:]
    in_run = np.zeros_like(full)
    for offset in range(3):
        in_run[offset : len(full) - 2 + offset] |= third
    share = float(in_run.mean(axis=0).max())
    if share > CLIPPED_SHARE:
        raise VoiceError(f"The clip is overdriven: {share:.1%} of it is clipped at full scale. Record it again with less gain.")


def _pcm(samples: Samples, rate: int) -> npt.NDArray[np.int16]:
    at_rate: Samples = samples if rate == SAMPLE_RATE else soxr.resample(samples, rate, SAMPLE_RATE, quality="HQ")
    peak = float(np.abs(at_rate).max())
    scaled = at_rate * np.float32(PEAK / peak) if peak > PEAK else at_rate
    pcm: npt.NDArray[np.int16] = np.rint(scaled * np.float32(32768)).astype(np.int16)
    return pcm


def _dbfs(rms: float) -> float:
    return 20 * math.log10(max(rms, 1e-6))


def _refuse_silent(heard: npt.NDArray[np.float64], channels: Samples) -> None:
    level = _dbfs(float(heard.std()))  # the standard deviation: a constant offset is no sound
    if level >= SILENT_DBFS:
        return
    if _dbfs(float(channels.std())) >= SILENT_DBFS and channels.shape[1] == 2:
        raise VoiceError("The clip's two channels cancel each other out when mixed to one. Export only one of them.")
    offset = float(heard.mean())
    if _dbfs(abs(offset)) >= SILENT_DBFS:
        raise VoiceError(
            f"The clip has no sound, only a constant offset of {offset:+.2f} of full scale. Check the microphone and record it again."
        )
    raise VoiceError(
        f"The clip is silent: its level is {'at most ' if level <= -119 else ''}{level:.0f} dBFS, and speech is usually between -35 and -15. "
        "Check the microphone and record it again."
    )


def _warnings(heard: npt.NDArray[np.float64], seconds: float) -> Iterator[str]:
    if seconds > CUT_SECONDS:
        yield (
            f"The clip is {seconds:.1f} seconds long. F5 cuts a reference at 12 seconds, and then the transcript no longer matches: a shorter clip "
            "is better."
        )
    level = _dbfs(float(heard.std()))
    if level < QUIET_DBFS:
        yield f"The clip is very quiet ({level:.0f} dBFS). Its noise will be raised together with the voice."
    steps = heard[: len(heard) // 480 * 480].reshape(-1, 480).std(axis=1)  # (frames of 20 ms,)
    floor, speech = (_dbfs(float(value)) for value in np.percentile(steps, (10, 90)))
    if speech - floor < NOISY_DB:
        yield f"The clip is noisy, or has no pause: the voice is only {speech - floor:.0f} dB above the quietest parts. F5 copies noise too."
