"""Did the configuration hold? Each of its statements is checked against what was seen while an utterance was rendered.

A clip whose optimisation did not engage is invalid, not fast. Pure functions over plain values, so that each rule can be tested without a model.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from lab.config import BASELINE, FP16_VOCODER, NO_EMPTY_CACHE, RMS_CACHE, EngineConfig
from lab.engine.clip import Check
from lab.engine.turbo_seen import TurboSeen

_LONG = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}


@dataclass(frozen=True)
class Seen:
    """What a worker saw during one utterance. Dtypes are torch's names without the prefix."""

    module: str  # file that f5_tts.infer.utils_infer was imported from: "overlay/…" where it lies in the overlay
    prepared: tuple[str, ...]  # type names of the entries of the baseline's reference cache
    parameters: str  # dtype of the model's parameters
    vocoder_parameters: str
    steps_per_chunk: float
    default_parameters: str  # dtype that upstream casts the parameters to on this device
    graphs_of: dict[str, int]  # graphs compiled while the transformer and the vocoder ran
    empty_cache_calls: int
    device: str
    dtypes: dict[str, str] = field(default_factory=dict)
    turbo: TurboSeen | None = None  # how turbo worked, where it is the sampler


def _check(name: str, held: bool, detail: str) -> Check:
    return Check(name, "ok" if held else "failed", detail)


def prove(config: EngineConfig, seen: Seen) -> tuple[Check, ...]:
    """Check every statement of `config`; those that a device cannot show are "not applicable"."""
    checks = [
        _check("overlay", seen.module.startswith("overlay/"), f"f5_tts was imported from {seen.module}"),
        _check("steps", seen.steps_per_chunk == config.nfe, f"{seen.steps_per_chunk:g} solver steps a chunk, {config.nfe} asked for"),
    ]
    checks += _patches(config, seen)
    model_dtype = _LONG.get(config.model_dtype, seen.default_parameters)
    checks.append(_check("model dtype", seen.parameters == model_dtype, f"parameters are {seen.parameters}, {model_dtype} expected"))
    if config.vocoder_dtype in _LONG:
        wanted = _LONG[config.vocoder_dtype]
        ran = seen.dtypes.get("vocoder backbone", "not seen")
        checks.append(_check("vocoder dtype", seen.vocoder_parameters == wanted == ran, f"the backbone ran in {ran}"))
    if config.compile != "none":
        detail = ", ".join(f"{number} graphs compiled for the {module}" for module, number in seen.graphs_of.items())
        if config.compile == "wrapper" and not any(seen.graphs_of.values()):
            detail += ": .sample and .decode are not forward, so the wrapper hands them to the original objects"
        checks.append(_check("compiled", all(seen.graphs_of.values()), detail))
    if config.sampler == "turbo":
        checks += _turbo(config, seen)
    return tuple(checks)


def _turbo(config: EngineConfig, seen: Seen) -> list[Check]:
    """That turbo rendered, and from graphs and kernels; on a CPU, where there are none, that is said and not failed."""
    how = seen.turbo
    if how is None:
        return [_check("turbo", False, "upstream's sampler was used")]
    batches = ", ".join(f"{sequences} × {rows:,} frames" for sequences, rows in how.batches)
    checks = [_check("turbo", True, f"batches of {batches}")]
    for idea, reason, detail in (
        ("graphs", how.no_graphs, f"replayed; {how.graphs} kept, {how.graph_mb:,.0f} MiB"),
        ("kernels", how.no_kernels, f"fused; attention by {how.attention}"),
    ):
        excused = seen.device != "cuda" or idea in config.without or (idea == "kernels" and seen.parameters == "float32")
        if excused:
            checks.append(Check(f"turbo {idea}", "not applicable", reason))
        else:
            checks.append(_check(f"turbo {idea}", not reason and (idea != "graphs" or how.replayed), reason or detail))
    return checks


def _patches(config: EngineConfig, seen: Seen) -> list[Check]:
    patched = BASELINE in config.patches
    expected = 1 if patched and NO_EMPTY_CACHE not in config.patches else 0
    calls = seen.empty_cache_calls
    checks = [_check("empty_cache", calls == expected, f"called {calls} times in the utterance, {expected} expected")]
    if not patched:
        return checks
    kind = "tuple" if RMS_CACHE in config.patches else "Tensor"
    checks.append(_check("reference cache", seen.prepared == (kind,), f"holds {', '.join(seen.prepared) or 'nothing'}; a {kind} expected"))
    if seen.device != "cuda":
        return [*checks, Check("FP16 autocast", "not applicable", "CUDA only"), Check("mel dtype", "not applicable", "CUDA only")]
    autocast = seen.dtypes.get("autocast", "not seen")
    wanted = "float16" if FP16_VOCODER in config.patches else "float32"
    mel = seen.dtypes.get("vocoder input", "not seen")
    return [
        *checks,
        _check("FP16 autocast", autocast == "float16", f"autocast {autocast} while sampling"),
        _check("mel dtype", mel == wanted, f"the mel reached the vocoder as {mel}"),
    ]
