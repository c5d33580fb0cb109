"""From an order to a study: render the clips, pass them through the gate, freeze the manifest, store it. Knows no pages and no SQL."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from lab import __version__
from lab.bench.environment import commit
from lab.compare import Failure, compare, make_request
from lab.config import EngineConfig
from lab.engine.clip import Clip
from lab.engine.pool import EnginePool
from lab.engine.process import Cancel, Progress, ignore_progress
from lab.listening.gate_report import GateReport, Pair
from lab.listening.model import ConfigFacts, Manifest, Role, Stimulus, StoredStudy, StudyError, TestType, Text, Unit
from lab.listening.ordering import StudyOrder, Systems, check_order, margin_of, other_seed_of, practice_text, title_of
from lab.listening.stimuli import Gate, Gated, Source
from lab.listening.units import ANCHORS_OF, Material, make_units, pruned
from lab.voices import Voice, bundled_voice

if TYPE_CHECKING:
    from lab.study_store import Studies

_PACKAGES = ("f5-tts", "torch", "torchaudio", "vocos", "numpy", "scipy", "pyloudnorm")


@dataclass(frozen=True)
class Created:
    """A study that is stored, and what the gate found on the way."""

    study: StoredStudy
    report: GateReport
    clips: int  # different pieces of audio


@dataclass(frozen=True)
class _Rendering:
    """One text to be rendered: with which configurations, and whether with the other seed too."""

    text: Text
    configs: tuple[EngineConfig, ...]
    seeded: bool


def create_study(
    order: StudyOrder,
    pool: EnginePool,
    studies: Studies,
    voice: Voice,
    *,
    cancel: Cancel | None = None,
    progress: Progress = ignore_progress,
) -> Created:
    """Make the study that `order` asks for, with the engines of `pool`. Nothing is stored unless all of it is.

    Raises:
        StudyError: the order makes no sense, a configuration gave no clip or was not in force, or the gate left nothing to ask.
        LabError: a text or the seed cannot be used.
        Cancelled: `cancel` was set.
    """
    cancel = cancel or Cancel()
    systems = check_order(order, voice, pool.weights, pool.device)
    spare = practice_text(order.texts, voice)
    jobs = _jobs(order, systems, spare)
    for job in jobs:  # all of them before the first is rendered
        make_request(pool, job.text.text, voice, other_seed_of(order))
        make_request(pool, job.text.text, voice, order.seed)
    gate = Gate(anchors=ANCHORS_OF[order.type], silence_ms=order.silence_ms, switched=order.type != "acr")
    for number, job in enumerate(jobs, 1):
        sources = _render(order, pool, voice, job, cancel, _counting(progress, number, len(jobs)))
        gate.take(job.text, sources)
    cancel.check()
    draft = _Draft(order, systems, gate.finish(), tuple(job.text for job in jobs), None if spare is None else len(jobs) - 1)
    kept, stimuli, units = draft.questions()
    wavs = {stimulus.sha256: draft.gated.wavs[stimulus.sha256] for stimulus in stimuli}
    manifest = draft.manifest(kept, stimuli, units, public_name(voice), pool)
    return Created(studies.create(manifest, list(wavs.values()), order.open_until), draft.gated.report, len(wavs))


def _jobs(order: StudyOrder, systems: Systems, spare: Text | None) -> list[_Rendering]:
    seeded = order.type != "staircase"  # which has its own yardstick: the levels
    jobs = [_Rendering(text, systems.all, seeded) for text in order.texts]
    if spare is not None:
        jobs.append(_Rendering(spare, _for_practice(order.type, systems), order.type == "mushra"))
    return jobs


def _for_practice(type: TestType, systems: Systems) -> tuple[EngineConfig, ...]:
    """What a practice text is rendered with: the reference and what is farthest from it, as far as can be known; for a MUSHRA trial everything."""
    if type == "mushra":
        return systems.all
    if type == "acr":
        return (systems.reference,)
    last = min(systems.others, key=lambda config: config.nfe) if type == "staircase" else systems.others[-1]
    return (systems.reference, last)


def _counting(progress: Progress, number: int, most: int) -> Progress:
    return lambda stage, done, total: progress(f"text {number} of {most}, {stage}", done, total)


def _render(order: StudyOrder, pool: EnginePool, voice: Voice, job: _Rendering, cancel: Cancel, progress: Progress) -> list[Source]:
    """The clips of one text, the reference's first, that with the other seed last."""
    passes: list[tuple[int, Role, Sequence[EngineConfig]]] = [(order.seed, "system", job.configs)]
    if job.seeded:
        passes.append((other_seed_of(order), "other seed", job.configs[:1]))
    made = []
    for seed, role, configs in passes:
        request = make_request(pool, job.text.text, voice, seed)
        for item in compare(pool, configs, request, public_name(voice), cancel=cancel, progress=progress):
            clip = _engaged(item, job.text)
            made.append(Source(clip.config.name, role, seed, clip.samples(), clip.result.sample_rate))
    return made


def _engaged(item: Clip | Failure, text: Text) -> Clip:
    if isinstance(item, Failure):
        raise StudyError(f"{item.config.name} gave no clip of {text.id!r}, so there is no study: {item.message}")
    if failures := item.result.engagement.failures:
        raise StudyError(
            f"{item.config.name} was not in force while {text.id!r} was rendered, so there is no study: {'; '.join(failures)}."
        )
    return item


def public_name(voice: Voice) -> str:
    """What a study calls a voice: a person's own clip has no name in it."""
    return voice.id if bundled_voice(voice.id) else "own voice"


@dataclass(frozen=True)
class _Draft:
    """A study whose clips have been through the gate."""

    order: StudyOrder
    systems: Systems
    gated: Gated
    texts: tuple[Text, ...]
    spare: int | None  # place of the text that is for practice alone

    def questions(self) -> tuple[tuple[EngineConfig, ...], tuple[Stimulus, ...], tuple[Unit, ...]]:
        """The configurations that are held against the reference, and the stimuli and units of the study; says in the report what it goes without.

        Raises:
            StudyError: there is nothing to ask.
        """
        ladder = self.order.type == "staircase"  # whose rungs all have to be there, also one that is the reference itself
        kept = tuple(config for config in self.systems.others if ladder or not self._always_identical(config))
        units = make_units(self._material(kept)) if kept else ()
        self._require_a_question(units)
        if not ladder:
            kept = tuple(config for config in kept if self._is_asked(config, units))
            units = make_units(self._material(kept))
        self.gated.report.left_out = tuple(self._why_left_out(config) for config in self.systems.others if config not in kept)
        return kept, *pruned(self.gated.stimuli, units)

    def manifest(
        self, kept: Sequence[EngineConfig], stimuli: tuple[Stimulus, ...], units: tuple[Unit, ...], voice: str, pool: EnginePool
    ) -> Manifest:
        """Everything that the study is."""
        order = self.order
        facts = [
            ConfigFacts(name=config.name, digest=config.digest, settings=config.settings, summary=config.summary)
            for config in (self.systems.reference, *kept)
        ]
        return Manifest(
            type=order.type,
            title=title_of(order, self.systems),
            created_at=datetime.now(UTC),
            margin=margin_of(order),
            trials=order.trials,
            configs=tuple(facts),
            texts=self.texts,
            stimuli=stimuli,
            units=units,
            gate=self.gated.report.document(),
            voice=voice,
            weights=pool.weights.name,
            device=pool.device.name,
            seed=order.seed,
            other_seed=other_seed_of(order),
            versions=_versions(),
            thanks=order.own_results,
        )

    def _material(self, kept: Sequence[EngineConfig]) -> Material:
        names = tuple(config.name for config in kept)
        return Material(self.order.type, names, self.gated.stimuli, self.gated.pairs, self.systems.levels, self.spare)

    def _pairs(self, config: EngineConfig) -> list[Pair]:
        """Those that could count."""
        return [pair for pair in self.gated.pairs if (pair.config, pair.role) == (config.name, "system") and pair.text != self.spare]

    def _always_identical(self, config: EngineConfig) -> bool:
        pairs = self._pairs(config)
        return bool(pairs) and all(pair.identical for pair in pairs)

    def _is_asked(self, config: EngineConfig, units: Sequence[Unit]) -> bool:
        return any(self.gated.stimuli[place].config == config.name for unit in units if unit.kind == "main" for place in unit.stimuli)

    def _require_a_question(self, units: Sequence[Unit]) -> None:
        """Refuse a study without a question that counts, and say what was found instead."""
        others, reference = self.systems.others, self.systems.reference.name
        if all(map(self._always_identical, others)):
            texts = {pair.text for config in others for pair in self._pairs(config)}
            hashes = {clip.source_sha256: None for clip in self.gated.stimuli if clip.role == "system" and clip.text in texts}
            raise StudyError(
                f"{' and '.join(config.name for config in others)} and {reference} give the same samples in all {len(texts)} texts (equal by SHA-256:"
                f" {', '.join(sha256[:12] for sha256 in hashes)}), so there is nothing to hear. That is the result, and no listener is needed for it."
            )
        if not any(self._is_asked(config, units) for config in others):
            raise StudyError(f"The gate left nothing to ask. {self._reasons()}")
        lost = set(self.systems.levels.values()) - {unit.level for unit in units if unit.kind == "main"}
        if lost:
            rungs = ", ".join(f"NFE {level}" for level in sorted(lost, reverse=True))
            raise StudyError(f"The gate left no clip for {rungs} of the staircase. {self._reasons()}")

    def _reasons(self) -> str:
        report = self.gated.report
        spare = "" if self.spare is None else report.texts[self.spare]
        found = [finding for finding in report.findings if finding.text != spare and finding.state == "left out"]
        said = "; ".join(f"{finding.text}, {finding.config or 'all clips'}: {finding.words}" for finding in found)
        silences = any(finding.check == "silence at the edges" for finding in found)
        return f"{said}." + (" A wider limit for the silences (--silence-ms) leaves out fewer." if silences else "")

    def _why_left_out(self, config: EngineConfig) -> str:
        if self._always_identical(config):
            return f"{config.name}: the same samples as the reference in all {len(self._pairs(config))} texts"
        return f"{config.name}: no text of it came through, for the reasons above"


def _versions() -> dict[str, str]:
    found = {"lab": __version__, "commit": commit(), "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
