"""Is everything that a configuration promises really on, on this machine? The checks of the original validation script, each with the figure behind it.

A line passes, fails, or does not apply here (a CPU has no FP16 autocast). Nothing is inferred from settings: dtypes are those of tensors that were seen,
graphs are counted, levels and distances are measured on audio.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lab import metrics, voices
from lab.bench.analysis import Analysis
from lab.bench.record import Run
from lab.bench.statistics import Estimate
from lab.compare import make_request
from lab.config import EngineConfig, parse
from lab.engine.clip import Clip
from lab.engine.device import fitness
from lab.engine.pool import EnginePool
from lab.engine.process import Cancel, Cancelled, EngineError, Progress
from lab.voices import Voice

State = Literal["pass", "fail", "not applicable here"]

#: Rounding alone moves a clip less than this from the FP32 render of the same schedule; another seed moves it by ten times as much.
MOST_LSD_DB = 1.0
MOST_LEVEL_DB = 0.1
_TEXT = "These days a chicken leg is a rare dish."


@dataclass(frozen=True)
class Line:
    """One check."""

    check: str
    state: State
    figure: str


class Validation:
    """Checks one optimised configuration (by default `optimized`) and what it stands beside."""

    def __init__(self, pool: EnginePool, voice: Voice, config: EngineConfig, cancel: Cancel, progress: Progress) -> None:
        self._pool = pool
        self._voice = voice
        self._config = config
        self._cancel = cancel
        self._progress = progress

    def lines(self) -> Iterator[Line]:
        """Every check that needs a clip or two; `target_lines` has those that need a benchmark.

        Raises:
            Cancelled: it was stopped.
        """
        checks: tuple[Callable[[], Iterator[Line]], ...] = (
            self._engaged,
            self._model_dtype,
            self._vocoder_dtype,
            self._compiled,
            self._empty_cache,
            self._reference_cache,
            self._correct,
            self._repeatable,
        )
        for check in checks:
            try:
                yield from check()
            except Cancelled:
                raise
            except EngineError as error:
                yield Line(check.__name__.strip("_").replace("_", " "), "fail", str(error))

    def _clip(self, config: EngineConfig, voice: Voice | None = None, cache: str = "warm", seed: int = 1) -> Clip:
        request = make_request(self._pool, _TEXT, voice or self._voice, seed, reference_cache=cache)
        return self._pool.render(config, request, cancel=self._cancel, progress=self._progress)

    def _fits(self, config: EngineConfig) -> str:
        return fitness(config, self._pool.device).refused

    def _engaged(self) -> Iterator[Line]:
        clip = self._clip(self._config)
        checks = clip.result.engagement.checks
        for check in checks:
            state: State = {"ok": "pass", "failed": "fail"}.get(check.state, "not applicable here")  # type: ignore[assignment]
            yield Line(f"{self._config.name}: {check.name}", state, check.detail)

    def _model_dtype(self) -> Iterator[Line]:
        name = f"{self._config.name}: FP16 in the sampler"
        if self._pool.device.kind != "cuda":
            yield Line(name, "not applicable here", "a CPU renders in FP32")
            return
        seen = self._clip(self._config).result.engagement.dtypes
        half = [part for part in ("sampler state", "flow") if seen.get(part) == "float16"]
        figure = ", ".join(f"{part} {dtype}" for part, dtype in sorted(seen.items()))
        yield Line(name, "pass" if half else "fail", figure)

    def _vocoder_dtype(self) -> Iterator[Line]:
        config = parse("vocoder-fp16")
        if reason := self._fits(config):
            yield Line("vocoder-fp16: FP16 in the vocoder", "not applicable here", reason)
            return
        seen = self._clip(config).result.engagement.dtypes.get("vocoder backbone", "not seen")
        yield Line("vocoder-fp16: FP16 in the vocoder", "pass" if seen == "float16" else "fail", f"the backbone's tensors are {seen}")

    def _compiled(self) -> Iterator[Line]:
        """Graphs are counted; and the wrapper that compiles nothing, which the original script took for compiled, has to be noticed."""
        for name, what in (
            ("compile", "torch.compile engaged"),
            ("compile-wrapper", "that torch.compile(model) compiles nothing is noticed"),
        ):
            config = parse(name)
            if reason := self._fits(config):
                yield Line(f"{name}: {what}", "not applicable here", reason)
                continue
            seen = self._clip(config).result.engagement
            figure = ", ".join(f"{number} graphs for the {module}" for module, number in seen.graphs_of.items())
            built = bool(seen.graphs_of) and all(seen.graphs_of.values())
            good = built if name == "compile" else seen.engaged == any(seen.graphs_of.values())
            yield Line(f"{name}: {what}", "pass" if good else "fail", figure + ("" if seen.engaged else ", marked as not engaged"))

    def _empty_cache(self) -> Iterator[Line]:
        calls = {name: self._clip(parse(name)).result.engagement.empty_cache_calls for name in ("baseline", "no-empty-cache")}
        held = calls == {"baseline": 1, "no-empty-cache": 0}
        figure = ", ".join(f"{number} calls in {name}" for name, number in calls.items())
        yield Line("empty_cache: once in baseline, never without it", "pass" if held else "fail", figure)

    def _reference_cache(self) -> Iterator[Line]:
        quiet = voices.bundled_voice("demo-female-quiet")
        name = f"{self._config.name}: a cached reference keeps its level"
        if quiet is None or not self._pool.weights.audible:
            yield Line(name, "not applicable here", "random weights have no audio")
            return
        change = {config.name: self._level_change(config, quiet) for config in (self._config, parse("baseline"))}
        figure = ", ".join(f"{label} {'silent' if db is None else f'{db:+.2f} dB'}" for label, db in change.items())
        mine = change[self._config.name]
        yield Line(name, "pass" if mine is not None and abs(mine) < 0.01 else "fail", f"warm against cold: {figure}")

    def _level_change(self, config: EngineConfig, voice: Voice) -> float | None:
        levels = [_level_db(self._clip(config, voice, cache).samples()) for cache in ("warm", "cold")]
        return None if None in levels else levels[0] - levels[1]  # type: ignore[operator]

    def _correct(self) -> Iterator[Line]:
        """Against FP32 with the same schedule, where rounding is all that differs, and as a yardstick against another seed."""
        golden = dataclasses.replace(parse("golden"), nfe=self._config.nfe, sway=self._config.sway, cfg_strength=self._config.cfg_strength)
        name = f"{self._config.name}: the sound is that of golden at NFE {self._config.nfe}"
        if not self._pool.weights.audible:
            yield Line(name, "not applicable here", "random weights have no audio")
            return
        mine, reference, other = self._clip(self._config), self._clip(golden), self._clip(golden, seed=2)
        near, far = (metrics.difference(reference.samples(), clip.samples(), clip.result.sample_rate) for clip in (mine, other))
        level = near.level_db or 0.0
        if near.identical:
            figure = "identical samples"
        else:
            figure = f"log-spectral distance {near.lsd_db:.2f} dB (another seed: {far.lsd_db:.2f} dB), level {level:+.2f} dB"
        good = near.identical or (near.lsd_db <= MOST_LSD_DB and abs(level) <= MOST_LEVEL_DB)
        yield Line(name, "pass" if good else "fail", figure)

    def _repeatable(self) -> Iterator[Line]:
        hashes = {self._clip(self._config).result.audio_sha256 for _ in range(2)}
        figure = "equal samples" if len(hashes) == 1 else "other samples each time"
        yield Line(f"{self._config.name}: the same request gives the same clip", "pass" if len(hashes) == 1 else "fail", figure)


def _level_db(samples: np.ndarray) -> float | None:
    rms = math.sqrt(float(np.mean(np.square(samples, dtype=np.float64))))
    return 20 * math.log10(rms) if rms else None


def target_lines(run: Run, config: str, reference: str) -> Iterator[Line]:
    """The targets, from a benchmark that has `config` and `reference`: met only where the whole interval is."""
    analysis = Analysis(run)
    row = next((row for row in analysis.described() if row.label == config), None)
    if row is None:
        yield Line(f"{config}: targets", "fail", "no sample counts")
        return
    for target in (0.20, 0.15):
        yield _below(f"{config}: mean RTF < {target:.2f}", row.rtf.mean, target, ".4f")
    yield _below(f"{config}: coefficient of variation < 10 %", row.rtf.variation, 0.10, ".1%")
    pair = analysis.pair(reference, config)
    if pair:
        ratio = pair.ratio
        known = math.isfinite(ratio.high)
        figure = f"{ratio.median:.2f} times" + (f" ({ratio.low:.2f} to {ratio.high:.2f})" if known else " (too few blocks for an interval)")
        met = ratio.low > 3.3 if known else ratio.median > 3.3
        yield Line(f"{config}: more than 3.3 times faster than {reference}", "pass" if met else "fail", figure)
    aa = analysis.aa()
    if aa:
        clean = not aa.ratio.differs
        yield Line("A/A: the reference against itself", "pass" if clean else "fail", f"ratio {aa.ratio.median:.3f}, {aa.ratio.verdict}")


def _below(check: str, estimate: Estimate, target: float, form: str) -> Line:
    high = estimate.value if estimate.high is None else estimate.high
    interval = "" if estimate.low is None else f" ({estimate.low:{form}} to {estimate.high:{form}})"
    return Line(check, "pass" if high < target else "fail", f"{estimate.value:{form}}{interval}")
