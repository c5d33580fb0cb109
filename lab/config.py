"""Engine configurations: everything that decides how a text is rendered, frozen, named, with a digest.

A configuration is written `name` or `name:field=value:field=value`, for example `optimized:nfe=6`. This module knows nothing about torch, processes
or files: what a device can run is decided in `lab.engine.device`, what a patch does in `patches/`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from lab.errors import LabError

BASELINE = "01-ishowtts-baseline"
FP16_VOCODER = "02-fp16-vocoder"
NO_EMPTY_CACHE = "03-no-empty-cache"
RMS_CACHE = "04-rms-cache"
_BY_NUMBER = {name.split("-")[0]: name for name in (BASELINE, FP16_VOCODER, NO_EMPTY_CACHE, RMS_CACHE)}

_CHOICES: dict[str, tuple[str, ...]] = {
    "model_dtype": ("auto", "fp32", "fp16", "bf16"),
    "vocoder_dtype": ("upstream", "fp32", "fp16", "bf16"),
    "compile": ("none", "wrapper", "blocks"),
    "sampler": ("upstream", "turbo"),
}
#: What turbo is made of. Each idea can be left out (`turbo:without=graphs`), so that a table can say what it gives.
TURBO_IDEAS = (
    "graphs",  # the whole loop and the vocoder are replayed as CUDA graphs
    "kernels",  # element-wise arithmetic and the position convolution in one pass each
    "tables",  # AdaLN's modulations of all steps and layers are computed once
    "hoists",  # text, condition and their part of the input projection are computed once an utterance
    "rotary-table",  # cosines and sines are computed once for a length in a graph, else once an utterance
    "fused-qkv",  # one product for queries, keys and values
    "fused-gelu",  # GELU in the epilogue of its product
    "one-convolution",  # both branches of the guidance in one position convolution
    "attention",  # a kernel that takes lengths, instead of a mask
    "hopper",  # on Hopper cards kernels of their own for attention, and for queries, keys and values
    "voice-cache",  # a voice's level and mel are kept by the content of its file
    "batching",  # chunks of a long text are rendered together
)
NFE_LADDER = (4, 5, 6, 7, 8, 10, 12, 16, 32)


class ConfigError(LabError):
    """A configuration is unknown, or a field has a value that means nothing."""


@dataclass(frozen=True)
class EngineConfig:
    """One way to render a text. Two configurations with the same `digest` render the same."""

    name: str
    patches: tuple[str, ...] = ()
    nfe: int = 32  # steps of the Euler solver; 5, 6, 7, 10, 12 and 16 use upstream's pruned schedule (EPSS)
    model_dtype: str = "auto"  # auto is upstream's own choice: FP16 on CUDA from compute capability 7, otherwise FP32
    vocoder_dtype: str = "upstream"  # otherwise the backbone's dtype, outside any autocast; the Fourier head stays FP32
    compile: str = "none"  # wrapper is torch.compile(model), which compiles nothing here; blocks compiles what runs
    sampler: str = "upstream"  # turbo is `lab.engine.turbo`: the same function, faster
    without: tuple[str, ...] = ()  # ideas of turbo that are left out, to measure what they give
    cfg_strength: float = 2.0
    sway: float = -1.0
    tf32: bool = True  # torch's default lets cuDNN round FP32 convolutions to TF32; the golden reference does not
    summary: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        # one spelling and one order, so that equal configurations have equal digests (names start with their place in the series)
        object.__setattr__(self, "patches", tuple(sorted({_BY_NUMBER.get(name, name) for name in self.patches})))
        object.__setattr__(self, "without", tuple(sorted(set(self.without))))
        for name, choices in _CHOICES.items():
            value = getattr(self, name)
            if value not in choices:
                raise ConfigError(f"{name}={value!r} is not one of {', '.join(choices)}.")
        self._check_turbo()
        if not 1 <= self.nfe <= 128:
            raise ConfigError(f"nfe={self.nfe} is outside 1 to 128 steps.")
        if not 0 <= self.cfg_strength <= 10:
            raise ConfigError(f"cfg_strength={self.cfg_strength} is outside 0 to 10.")
        if not -1 <= self.sway <= 1:
            raise ConfigError(f"sway={self.sway} is outside -1 to 1.")

    def _check_turbo(self) -> None:
        unknown = [idea for idea in self.without if idea not in TURBO_IDEAS]
        if unknown:
            raise ConfigError(f"without={unknown[0][:60]!r} is not one of {', '.join(TURBO_IDEAS)}.")
        if self.without and self.sampler != "turbo":
            raise ConfigError("without=… leaves ideas of turbo out; it needs sampler=turbo.")
        if self.sampler == "turbo" and (self.patches or self.compile != "none"):
            raise ConfigError("sampler=turbo computes by itself what patches and compile change in upstream; use it without them.")

    @property
    def settings(self) -> dict[str, Any]:
        """The fields that decide the result, by name: all but the name and the summary."""
        fields = dataclasses.asdict(self)
        # a field that came later counts only where it is used: the digests of older runs hold
        left_out = ("name", "summary") if self.without else ("name", "summary", "without")
        return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items() if name not in left_out}

    @property
    def digest(self) -> str:
        """SHA-256 (first 16 hexadecimal digits) over the settings."""
        return hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest()[:16]

    def check_field(self, name: str) -> None:
        """Raise `ConfigError` unless `name` is a field that can be overridden."""
        if name not in FIELDS:
            raise ConfigError(f"There is no field {name[:60]!r}. The fields are {', '.join(FIELDS)}.")

    def override(self, **changes: Any) -> EngineConfig:
        """The same configuration with some fields changed, its name saying which."""
        for name in sorted(changes):
            self.check_field(name)
        changes = {name: value for name, value in changes.items() if value != getattr(self, name)}
        if not changes:
            return self
        suffix = ":".join(f"{name}={_written(value)}" for name, value in changes.items())
        return dataclasses.replace(self, name=f"{self.name}:{suffix}", **changes)


#: What can be overridden.
FIELDS = tuple(field.name for field in dataclasses.fields(EngineConfig) if field.name not in ("name", "summary"))


def _written(value: Any) -> str:
    if isinstance(value, tuple):
        return "+".join(value) or "none"
    return str(value).lower() if isinstance(value, bool) else str(value).removesuffix(".0")


def _registry() -> dict[str, EngineConfig]:
    base = (BASELINE,)
    named = [
        EngineConfig("upstream", summary="f5-tts as released, nothing patched"),
        EngineConfig(
            "baseline",
            base,
            nfe=7,
            summary="iShowTTS before the round: FP16 autocast, empty_cache per utterance, a cache that forgets the level",
        ),
        EngineConfig(
            "fp16-vocoder",
            (*base, FP16_VOCODER),
            nfe=7,
            summary="baseline, the mel kept in FP16 on its way into the vocoder",
        ),
        EngineConfig("no-empty-cache", (*base, NO_EMPTY_CACHE), nfe=7, summary="baseline without empty_cache per utterance"),
        EngineConfig("rms-cache", (*base, RMS_CACHE), nfe=7, summary="baseline with the level kept beside the cached reference"),
        EngineConfig(
            "optimized",
            (*base, FP16_VOCODER, NO_EMPTY_CACHE, RMS_CACHE),
            nfe=7,
            summary="baseline with all three patches of the round",
        ),
    ]
    named += [
        EngineConfig(
            f"vocoder-{dtype}",
            nfe=7,
            vocoder_dtype=dtype,
            summary=f"upstream with the vocoder's backbone in {dtype.upper()}, Fourier head FP32",
        )
        for dtype in ("fp32", "fp16", "bf16")
    ]
    named += [EngineConfig(f"upstream-nfe{nfe}", nfe=nfe, summary=f"upstream with {nfe} solver steps") for nfe in NFE_LADDER]
    named += [
        EngineConfig(
            "compile-wrapper",
            nfe=7,
            compile="wrapper",
            summary="torch.compile(model) as iShowTTS had it: compiles nothing",
        ),
        EngineConfig("compile", nfe=7, compile="blocks", summary="transformer and vocoder backbone truly compiled"),
        EngineConfig("turbo", sampler="turbo", summary="the fast sampler: upstream's result from graphs, tables and fused kernels"),
        EngineConfig("turbo-nfe16", nfe=16, sampler="turbo", summary="the fast sampler with 16 solver steps"),
        EngineConfig("turbo-nfe7", nfe=7, sampler="turbo", summary="the fast sampler with 7 solver steps"),
        EngineConfig(
            "golden",
            nfe=32,
            model_dtype="fp32",
            vocoder_dtype="fp32",
            tf32=False,
            summary="full FP32, 32 steps: the reference for distances",
        ),
    ]
    return {config.name: config for config in named}


REGISTRY: dict[str, EngineConfig] = _registry()
DEFAULT_PAIR = ("baseline", "optimized")


def _parse_value(name: str, text: str, like: Any) -> Any:
    try:
        if isinstance(like, bool):
            return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[text.lower()]
        if isinstance(like, tuple):
            return () if text in ("", "none") else tuple(part.strip() for part in text.split("+"))
        return type(like)(text)
    except (ValueError, KeyError):
        wanted = "true or false" if isinstance(like, bool) else "a whole number" if isinstance(like, int) else "a number"
        raise ConfigError(f"{name}={text!r}: write {wanted}.") from None


def parse(spec: str) -> EngineConfig:
    """Read `name` or `name:field=value:…`.

    Raises:
        ConfigError: the name or a field is unknown, or a value does not fit; the message lists what there is.
    """
    name, *overrides = (part.strip() for part in spec.split(":"))
    if name not in REGISTRY:
        raise ConfigError(f"There is no configuration {name[:60]!r}. There are {', '.join(REGISTRY)}.")
    base = REGISTRY[name]
    changes: dict[str, Any] = {}
    for part in overrides:
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals:
            raise ConfigError(f"{part[:60]!r} is not field=value. Write it as {name}:nfe=6.")
        base.check_field(key)
        changes[key] = _parse_value(key, value, getattr(base, key))
    return base.override(**changes)


def parse_list(specs: str | list[str], *, least: int = 1, most: int | None = None) -> tuple[EngineConfig, ...]:
    """Read several configurations, from a list or separated by commas; each may appear once.

    Raises:
        ConfigError: as `parse`, and when there are fewer than `least` or more than `most`, or one is named twice.
    """
    parts = specs.split(",") if isinstance(specs, str) else specs
    configs = tuple(parse(part) for part in (part.strip() for part in parts) if part)
    if len(configs) < least or (most is not None and len(configs) > most):
        wanted = f"at least {least}" if most is None else f"{least} to {most}"
        raise ConfigError(
            f"Choose {wanted} configurations; there are {len(configs)} in {', '.join(config.name for config in configs) or 'an empty list'}."
        )
    names = [config.name for config in configs]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise ConfigError(f"{twice} is named twice. Each configuration is rendered once.")
    return configs
