"""Utterances: a text in a voice becomes chunks, batches of them, and one piece of audio, by upstream's rules for length, level and joints."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from torch import Tensor

from lab import texts
from lab.audio import CROSS_FADE_SAMPLES
from lab.engine.turbo.buckets import batches
from lab.engine.turbo.engine import Turbo
from lab.engine.turbo.pieces import Ids, Piece, Settings, Trace
from lab.engine.turbo.voices import DEFAULT_VOICES, Voice, Voices

Audio = NDArray[np.float32]
_SHORT_BYTES = 10  # upstream speaks texts under this many bytes at 0.3 of the speed
# Upstream puts a space before what jieba keeps together, if it stands behind something else than a space, a colon or a quotation mark. In ASCII that is
# letters and digits, single dots and hyphens between them, and little more; where nothing of that kind stands behind another mark, no space comes in.
_PERHAPS_SPACED = re.compile(r"[^ :'\"A-Za-z0-9.-][A-Za-z0-9.-]|(?<![A-Za-z0-9])[.-][A-Za-z0-9]|[.-][.-]|[+#&_%\r]")
Noise = Callable[[int, int], Tensor]  # noise(chunk, frames): (frames, mel) FP32 on the device


def cross_fade(before: Audio, after: Audio) -> tuple[Audio, Audio]:
    """What of `before` stays as it is, and the rest of it faded into `after`, as upstream joins chunks."""
    samples = min(CROSS_FADE_SAMPLES, len(before), len(after))
    if not samples:
        return before, after
    faded = before[-samples:] * np.linspace(1, 0, samples) + after[:samples] * np.linspace(0, 1, samples)
    return before[:-samples], np.concatenate([faded, after[samples:]])


def joints(waves: Iterable[Audio]) -> Iterator[Audio]:
    """Sound that no later wave changes any more, as the waves come; end to end it is what upstream joins them to.

    What the next joint may reach is held back: as many samples as it takes, however short the waves are.
    """
    held: Audio | None = None
    for wave in waves:
        total = wave if held is None else np.concatenate(cross_fade(held, wave))
        ready = max(0, len(total) - CROSS_FADE_SAMPLES)
        if ready:
            yield total[:ready].astype(np.float32)
        held = total[ready:]
    if held is not None and len(held):
        yield held.astype(np.float32)


def joined(waves: Sequence[Audio]) -> Audio:
    """All waves in one, float32."""
    return waves[0].astype(np.float32, copy=False) if len(waves) == 1 else np.concatenate(list(joints(waves)))


def _of_chunk(noise: Noise, number: int, _: int, frames: int) -> Tensor:
    return noise(number, frames)


def spelled(letter: str) -> str:
    """Upstream's symbol for a letter of a `plain` text."""
    return "," if letter == ";" else letter


def plain(text: str) -> bool:
    """Whether upstream's symbols of `text` are surely its letters, each `spelled`."""
    return text.isascii() and not _PERHAPS_SPACED.search(text)


class _Arriving:
    """A tensor on its way to the host, and the array that it will lie in: memory of its own, since one that somebody keeps must not keep pinned memory."""

    def __init__(self, tensor: Tensor) -> None:
        self._arrived: Any = None
        if tensor.device.type != "cuda":
            self.array: Audio = tensor.numpy().copy()
            return
        self._pinned = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor, non_blocking=True)
        self._arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._arrived.record()
        # written to, so that the system has given its pages before the tensor is there, while the device works
        self.array = np.full(tensor.shape, 0.0, np.float32)

    def wait(self) -> None:
        """Until it is there."""
        if self._arrived is not None:
            self._arrived.synchronize()
            np.copyto(self.array, self._pinned.numpy())


class Speaker:
    """Speaks with one Turbo, through upstream's own preparation of references and texts."""

    def __init__(self, turbo: Turbo, upstream: Any) -> None:
        """`upstream` is `f5_tts.infer.utils_infer`."""
        self.turbo, self._upstream, self._hop = turbo, upstream, turbo.hop
        self.voices = Voices(lambda path, transcript: turbo.owned(self._prepare, path, transcript))
        self._of_ascii: NDArray[np.int32] | None = None  # token numbers of characters
        if turbo.model.vocab_char_map is not None:
            self._of_ascii = np.array(turbo.tokens([[spelled(chr(code))] for code in range(128)]), np.int32)[:, 0]
        # numbers on the device, of the levels of the voices used last
        self._number = functools.lru_cache(DEFAULT_VOICES + 1)(functools.partial(torch.full, (), device=turbo.device))

    def _prepare(self, path: str, transcript: str) -> Voice:
        """As `infer_batch_process` prepares a reference: mono, up to the target level, 24 kHz, mel."""
        upstream = self._upstream
        file, text = upstream.preprocess_ref_audio_text(path, transcript, show_info=lambda *_: None)
        samples, rate = soundfile.read(file, dtype="float32", always_2d=True)
        audio = torch.from_numpy(np.ascontiguousarray(samples.T))
        seconds = audio.shape[-1] / rate
        if audio.shape[0] > 1:
            audio = torch.mean(audio, dim=0, keepdim=True)
        level = torch.sqrt(torch.mean(torch.square(audio)))
        if level < upstream.target_rms:
            audio = audio * upstream.target_rms / level
        if rate != upstream.target_sample_rate:
            audio = upstream.torchaudio.transforms.Resample(rate, upstream.target_sample_rate)(audio)
        audio = audio.to(self.turbo.device)
        mel = self.turbo.model.mel_spec(audio)[0].transpose(0, 1).float().contiguous()
        spoken = text + " " if len(text[-1].encode()) == 1 else text
        return Voice(text, spoken, seconds, float(level), audio.shape[-1] // self._hop, mel)

    def voice(self, path: str, transcript: str) -> Voice:
        """The voice in a file, from the cache where it is used."""
        if "voice-cache" not in self.turbo.switches:
            self.voices.forget()
        return self.voices.get(path, transcript)

    def duration(self, voice: Voice, chunk: str, speed: float) -> int:
        """Frames of reference and `chunk`, by upstream's rule."""
        size = len(chunk.encode())
        pace = 0.3 if size < _SHORT_BYTES else speed
        return voice.frames + int(voice.frames / len(voice.text.encode()) * size / pace)

    def _ids(self, text: str) -> Ids:
        """Token numbers of `text`, spelled as upstream does."""
        if self._of_ascii is not None and plain(text):
            return self._of_ascii[np.frombuffer(text.encode(), np.uint8)]
        return self.turbo.tokens([self._upstream.convert_char_to_pinyin([text])[0]])[0]

    def pieces(self, voice: Voice, chunks: Sequence[str], speed: float, noise: Noise) -> list[Piece]:
        """One sequence for each chunk."""
        made = []
        for number, chunk in enumerate(chunks):
            ids = self._ids(voice.text + chunk)
            frames = max(len(ids) + 1, len(voice.mel) + 1, self.duration(voice, chunk, speed))
            made.append(Piece(voice.mel, ids, frames, noise(number, frames)))
        return made

    def render(
        self,
        voice: Voice,
        pieces: Sequence[Piece],
        settings: Settings,
        *,
        trace: Trace | None = None,
        enter: Callable[[str], None] = lambda _: None,
        progress: Callable[[int], None] | None = None,
    ) -> tuple[list[Audio], list[Audio]]:
        """Waves and mels, (mel, frames), of `pieces` in order. `enter` is told the stage that begins: sampler, vocoder, transfer, other."""
        return self.turbo.owned(self._render, voice, pieces, settings, trace or Trace(), enter, progress)

    def _render(
        self, voice: Voice, pieces: Sequence[Piece], settings: Settings, trace: Trace, enter: Callable[[str], None], progress: Any
    ) -> tuple[list[Audio], list[Audio]]:
        together = "batching" in self.turbo.switches and len(pieces) > 1
        groups = batches([piece.frames for piece in pieces]) if together else [[number] for number in range(len(pieces))]
        coming: list[_Arriving] = []  # in the order in which they will be there
        found: list[tuple[int, Audio, Audio]] = []
        for group in groups:
            enter("sampler")
            mels = self.turbo.mels([pieces[number] for number in group], settings, trace, progress)
            parts = [mels[line, voice.frames : pieces[number].frames] for line, number in enumerate(group)]
            enter("transfer")
            # now: the next replay writes over what graphs give; and the host has time for it while the vocoder works
            spectra = [_Arriving(part.T.contiguous()) for part in parts]
            enter("vocoder")
            audio = self.turbo.audio(parts, trace)
            enter("transfer")
            if voice.level < self._upstream.target_rms:
                audio = self._as_quiet(audio, voice.level)
            waves = [_Arriving(audio[line, : (len(part) - 1) * self._hop]) for line, part in enumerate(parts)]
            coming += spectra + waves
            found += [(number, wave.array, mel.array) for number, wave, mel in zip(group, waves, spectra, strict=True)]
        for each in coming:
            each.wait()
        enter("other")
        found.sort(key=lambda item: item[0])
        return [wave for _, wave, _ in found], [mel for _, _, mel in found]

    def _as_quiet(self, audio: Tensor, level: float) -> Tensor:
        """Audio as loud as the voice's clip was, by upstream's two FP32 operations; by a number, torch would multiply with a reciprocal instead."""
        return audio * self._number(level) / self._number(self._upstream.target_rms)

    def chunks(self, voice: Voice, text: str, speed: float) -> list[str]:
        """The text in upstream's chunks for this voice."""
        return list(self._upstream.chunk_text(text, max_chars=texts.max_chars(voice.transcript, voice.seconds, speed)))

    def stream(self, voice: Voice, chunks: Sequence[str], settings: Settings, noise: Noise, *, speed: float = 1.0) -> Iterator[Audio]:
        """Audio of `chunks` as it is ready: end to end it is what `joined` makes of all waves.

        The end of each chunk is held back for its joint. Give a short first chunk (`first_short`) for an early first sound.
        """

        def waves() -> Iterator[Audio]:
            for number, chunk in enumerate(chunks):
                piece = self.pieces(voice, [chunk], speed, functools.partial(_of_chunk, noise, number))
                yield self.render(voice, piece, settings)[0][0]

        return joints(waves())


def first_short(text: str, most: int = 48) -> tuple[str, str]:
    """A beginning of at most `most` bytes that ends where a speaker could pause, else between words, and the rest.

    It is never so short that upstream would stretch it; a text without such a place stays whole.
    """
    encoded = text.strip().encode()
    if len(encoded) <= most:
        return text.strip(), ""
    start = encoded[: most + 1].decode(errors="ignore")
    for marks in (".!?;:。！？；：", ",，、", " "):
        places = [at + 1 for at, letter in enumerate(start) if letter in marks]
        places = [at for at in places if _SHORT_BYTES < len(start[:at].strip().encode()) <= most]
        if places:
            return start[: places[-1]].strip(), text.strip()[places[-1] :].strip()
    return text.strip(), ""
