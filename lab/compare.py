"""The lab's main job: one text in one voice through several configurations, on the same noise.

Used alike by the command line and the Compare page. Knows nothing about either.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from lab import metrics, texts
from lab.config import EngineConfig
from lab.engine.clip import NOT_FINITE, Clip, RenderRequest
from lab.engine.device import fitness
from lab.engine.pool import EnginePool
from lab.engine.process import Cancel, Cancelled, EngineError, Progress, ignore_progress
from lab.engine.weights import vocabulary
from lab.errors import LabError
from lab.voices import Voice

DEFAULT_MAX_SECONDS = 120.0
#: A warm-up runs the same text for this many solver steps: enough to load kernels, or to compile, at the lengths that are timed next.
_WARM_UP_STEPS = 2


class ComparisonError(LabError):
    """Two clips of one utterance cannot be compared: noise or length differ."""


@dataclass(frozen=True)
class Failure:
    """A configuration that gave no clip, and why."""

    config: EngineConfig
    message: str


def max_seconds() -> float:
    """The longest speech that one request may ask for; `LAB_MAX_SECONDS` changes it.

    Raises:
        LabError: `LAB_MAX_SECONDS` is no positive number.
    """
    given = os.environ.get("LAB_MAX_SECONDS", str(DEFAULT_MAX_SECONDS))
    try:
        seconds = float(given)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise LabError(f"LAB_MAX_SECONDS={given[:40]!r} has to be a number of seconds above 0.")
    return seconds


def make_request(
    pool: EnginePool, text: str, voice: Voice, seed: int, *, reference_cache: str = "warm", speed: float = 1.0
) -> RenderRequest:
    """Check what a person typed and make a request of it.

    Raises:
        LabError: the text is empty, too long, marked up, or has characters that the weights cannot speak; or the seed makes no sense.
    """
    if not 0 <= seed < 2**63:
        raise LabError(f"The seed {seed} has to be a whole number from 0 to 2^63-1.")
    check = functools.partial(
        texts.check, vocabulary=vocabulary(pool.weights), vocabulary_name=pool.weights.name, max_seconds=max_seconds()
    )
    try:
        check(voice.transcript, estimated_seconds=0.0)
    except texts.TextError as error:
        raise LabError(f"The transcript of this voice cannot be used: {error}") from None
    checked = check(text, estimated_seconds=texts.estimate_seconds(texts.clean(text), voice.seconds, voice.transcript, speed))
    return RenderRequest(checked, str(voice.path), voice.transcript, seed, reference_cache, speed)


def compare(
    pool: EnginePool,
    configs: Sequence[EngineConfig],
    request: RenderRequest,
    voice: str,
    *,
    cancel: Cancel | None = None,
    progress: Progress = ignore_progress,
) -> Iterator[Clip | Failure]:
    """Render `request` once with each configuration, in order, each on a worker that is warm.

    A configuration that cannot be rendered gives a `Failure` and the others go on; stopping does not.

    Raises:
        Cancelled: `cancel` was set.
        ComparisonError: two clips differ in noise or length, which makes comparing them worthless.
    """
    cancel = cancel or Cancel()
    failed = _start_together(pool, configs, cancel, progress)
    first: Clip | None = None
    for config in configs:
        if config.name in failed:
            yield Failure(config, failed[config.name])
            continue
        try:
            _warm_up(pool, config, request, cancel, progress)
            clip = pool.render(config, request, voice=voice, cancel=cancel, progress=_naming(config, progress))
        except Cancelled:
            raise
        except EngineError as error:
            yield Failure(config, str(error))
            continue
        if NOT_FINITE in clip.result.invalid:
            yield Failure(config, "It gave samples that are not numbers: something overflowed. Use a wider dtype.")
            continue
        first = first or clip
        _assert_paired(first, clip)
        yield clip


def _start_together(pool: EnginePool, configs: Sequence[EngineConfig], cancel: Cancel, progress: Progress) -> dict[str, str]:
    able = [config for config in configs if not fitness(config, pool.device).refused]
    if len({pool.key(config) for config in able}) > pool.max_workers:
        return {}  # one after another then, as their turn comes
    return pool.prepare(able, cancel=cancel, progress=progress)


def _warm_up(pool: EnginePool, config: EngineConfig, request: RenderRequest, cancel: Cancel, progress: Progress) -> None:
    graphed = config.sampler == "turbo" and pool.device.kind == "cuda"  # a graph is of one length and one number of steps
    if pool.is_warm(config) and config.compile == "none" and not graphed:  # compiled code may have to be made anew for each length
        return
    few = config if graphed else dataclasses.replace(config, nfe=min(_WARM_UP_STEPS, config.nfe))
    pool.render(few, request, cancel=cancel, progress=_naming(config, progress, "warming up, "))


def _naming(config: EngineConfig, progress: Progress, doing: str = "") -> Progress:
    return lambda stage, done, total: progress(f"{config.name}: {doing}{stage}", done, total)


def _assert_paired(first: Clip, clip: Clip) -> None:
    a, b = first.result, clip.result
    if a.noise_sha256 != b.noise_sha256:
        raise ComparisonError(f"{clip.config.name} was rendered from other noise than {first.config.name}: the comparison is void.")
    if a.samples != b.samples:
        raise ComparisonError(
            f"{clip.config.name} gave {b.samples} samples and {first.config.name} {a.samples}: clips of different length cannot be compared."
        )


def difference(first: Clip, clip: Clip) -> dict[str, Any]:
    """How `clip` differs from `first`; by hashes alone for random weights, whose audio stays in the worker."""
    row: dict[str, Any] = {
        "a": first.config.name,
        "b": clip.config.name,
        "same_mel": first.result.mel_sha256 == clip.result.mel_sha256,
        "identical": first.result.audio_sha256 == clip.result.audio_sha256,
    }
    if first.result.audio is not None and clip.result.audio is not None:
        row |= dataclasses.asdict(metrics.difference(first.result.audio, clip.result.audio, clip.result.sample_rate))
    return row


def comparison_facts(clips: Sequence[Clip], choice_reason: str = "") -> dict[str, Any]:
    """The facts of a whole comparison, as they are saved and downloaded."""
    return {
        "version": 1,
        "weights_reason": choice_reason,
        "clips": [clip.facts for clip in clips],
        "differences": [difference(clips[0], clip) for clip in clips[1:]],
    }


def wav_name(config: str) -> str:
    """A file name for the clip of a configuration: its name, as far as a file may be called so."""
    return "".join(letter if letter.isalnum() or letter in "-=." else "_" for letter in config) + ".wav"
