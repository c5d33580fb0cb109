"""Small whole studies without an engine: manifests of every type, with clips of noise so short that a trial takes a second."""

import hashlib
from datetime import UTC, datetime

import numpy as np

from lab.engine.clip import wav_bytes
from lab.listening.model import ConfigFacts, Manifest, Stimulus, TestType, Text, Unit
from lab.listening.staircase import LADDER

SECONDS = 0.4
NAMES = ("reference-engine", "other-engine", "third-engine")  # in no page, so that a search for them means something


def noise(*seed: int, seconds: float = SECONDS) -> bytes:
    random = np.random.default_rng(seed)
    return wav_bytes((0.1 * random.standard_normal(round(24_000 * seconds))).astype(np.float32))


def manifest(
    kind: TestType = "abx",
    *,
    trials: int = 16,
    texts: int = 4,
    configs: int = 2,
    margin: float = 0.7,
    seconds: float = SECONDS,
    extras: bool = True,
    **more,
) -> tuple[Manifest, list[bytes]]:
    """A manifest and its clips. `configs` of them, the first the reference (a staircase has its ladder instead). Without `extras` no catches and yardsticks."""
    names = [f"{NAMES[0]}", *(f"ladder-nfe{nfe}" for nfe in LADDER)] if kind == "staircase" else list(NAMES[:configs])
    stimuli: list[Stimulus] = []
    clips: list[bytes] = []

    def add(config: str, role: str, text: int, number: int, seed: int = 1) -> int:
        wav = noise(text, number, seed, seconds=seconds)
        clips.append(wav)
        digest = hashlib.sha256(wav).hexdigest()
        stimuli.append(
            Stimulus(
                sha256=digest, config=config, role=role, text=text, seed=seed, source_sha256=digest, gain_db=0.0, lufs=None, peak_dbfs=-3.0,
                seconds=seconds,
            )
        )  # fmt: skip
        return len(stimuli) - 1

    units: list[Unit] = []
    for text in range(texts):
        system = [add(name, "system", text, number) for number, name in enumerate(names)]
        anchors = [add(names[0], "anchor 3.5 kHz", text, 90), add(names[0], "anchor 7 kHz", text, 91)]
        other = add(names[0], "other seed", text, 92, seed=2)
        reference = system[0]
        if kind in ("ab", "abx", "ccr"):
            pairs = zip(system[1:], names[1:], strict=True)
            units += [Unit(kind="main", text=text, stimuli=(reference, place), comparison=name) for place, name in pairs]
            units.append(Unit(kind="catch", text=text, stimuli=(reference, anchors[0]), expects="a"))
            if kind != "abx":
                units.append(Unit(kind="catch", text=text, stimuli=(reference, reference), expects="same"))
            units.append(Unit(kind="yardstick", text=text, stimuli=(reference, other)))
            units.append(Unit(kind="practice", text=text, stimuli=(reference, anchors[0])))
        elif kind == "acr":
            units += [Unit(kind="main", text=text, stimuli=(place,)) for place in system]
            units.append(Unit(kind="yardstick", text=text, stimuli=(other,)))
            units.append(Unit(kind="catch", text=text, stimuli=(anchors[0],), expects="a"))
            units += [Unit(kind="practice", text=text, stimuli=(place,)) for place in (reference, anchors[0])]
        elif kind == "mushra":
            rated = (reference, reference, *system[1:], other, *anchors)
            units += [Unit(kind=what, text=text, stimuli=rated) for what in ("main", "practice")]
        else:
            ladder = list(zip(system[1:], LADDER, strict=True))
            units += [Unit(kind="main", text=text, stimuli=(reference, place), level=nfe) for place, nfe in ladder]
            units.append(Unit(kind="catch", text=text, stimuli=(reference, anchors[0]), expects="a"))
            units.append(Unit(kind="practice", text=text, stimuli=(reference, anchors[0])))
    if not extras:
        units = [unit for unit in units if unit.kind in ("main", "practice")]
    made = Manifest(
        type=kind,
        title="A study of engines",
        created_at=datetime(2026, 11, 26, tzinfo=UTC),
        margin=margin,
        trials=trials,
        configs=tuple(ConfigFacts(name=name, digest="0" * 16, settings={}) for name in names),
        texts=tuple(Text(id=f"text-{text}", text="Some words.") for text in range(texts)),
        stimuli=tuple(stimuli),
        units=tuple(units),
        gate={},
        voice="demo-female",
        weights="demo",
        device="a CPU",
        seed=1,
        other_seed=2,
        versions={},
        **more,
    )
    return made, clips
