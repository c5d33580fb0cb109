"""Which weights there are, where they come from, and which of them a machine starts with.

A weights name is `demo`, one of upstream's models on the hub, the path of a local checkpoint, or `random` / `random:NAME` (that architecture with
seeded random values, for timing only). Nothing here imports torch; `lab.engine.loading` turns a name into modules, inside a worker.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import hf_hub_url, try_to_load_from_cache
from huggingface_hub.file_download import get_hf_file_metadata

from lab import texts
from lab.engine.device import Device
from lab.engine.patching import installed_package
from lab.errors import LabError

DEMO_DIR = Path(__file__).resolve().parents[1] / "data" / "demo"
VOCODER_REPO = "charactr/vocos-mel-24khz"
VOCODER_FILES = ("config.yaml", "pytorch_model.bin")
#: Upstream's published checkpoints: repository and file, as `f5_tts.api.F5TTS` asks for them.
HUB: dict[str, tuple[str, str]] = {
    "F5TTS_v1_Base": ("SWivid/F5-TTS", "F5TTS_v1_Base/model_1250000.safetensors"),
    "F5TTS_Base": ("SWivid/F5-TTS", "F5TTS_Base/model_1200000.safetensors"),
    "E2TTS_Base": ("SWivid/E2-TTS", "E2TTS_Base/model_1200000.safetensors"),
}
#: Architectures that `random:` can fill; upstream publishes no weights for the small ones.
ARCHITECTURES = (*HUB, "F5TTS_v1_Small", "F5TTS_Small", "E2TTS_Small", "demo")
FULL_DEFAULT = "F5TTS_v1_Base"
_REACH_SECONDS = 4.0


class WeightsError(LabError):
    """The weights are unknown, incomplete, or cannot be fetched."""


@dataclass(frozen=True)
class Weights:
    """One set of weights, by the name a person gives it."""

    name: str  # as given: "demo", "F5TTS_v1_Base", "random", "random:demo", or a path
    kind: str  # "demo", "hub", "path" or "random"
    architecture: str  # name of the architecture's config: upstream's, "demo", or the path's own

    @property
    def audible(self) -> bool:
        """Whether the audio may be played, saved and rated: that of random values never."""
        return self.kind != "random"

    @property
    def licence(self) -> str:
        """What a page that shares the audio has to say."""
        if self.kind == "hub":
            return "weights CC-BY-NC-4.0 (SWivid/F5-TTS), code MIT"
        return {"demo": "trained for this lab on free synthesizers' speech", "random": "random values, for timing only"}.get(
            self.kind, "a local checkpoint; its licence is its owner's to say"
        )


@dataclass(frozen=True)
class Choice:
    """The weights a machine starts with, and why."""

    weights: Weights
    reason: str


def resolve(name: str) -> Weights:
    """Read a weights name.

    Raises:
        WeightsError: it is neither a known name nor the path of a checkpoint.
    """
    if name == "demo":
        return Weights("demo", "demo", "demo")
    if name in HUB:
        return Weights(name, "hub", name)
    if name == "random" or name.startswith("random:"):
        architecture = name.partition(":")[2] or FULL_DEFAULT
        if architecture not in ARCHITECTURES:
            raise WeightsError(f"random:{architecture[:60]}: no such architecture. There are {', '.join(ARCHITECTURES)}.")
        return Weights(name, "random", architecture)
    path = Path(name).expanduser()
    if name.strip() and path.exists():
        return Weights(str(path.resolve()), "path", config_of(path).get("model", {}).get("name", FULL_DEFAULT))
    raise WeightsError(
        f"There are no weights {name[:80]!r}. Use demo, {', '.join(HUB)}, random, random:ARCHITECTURE, or the path of a checkpoint"
        " (a .safetensors or .pt file, or a folder with config.yaml)."
    )


def config_of(path: Path) -> dict[str, Any]:
    """The config, in the shape of upstream's, that belongs to a checkpoint folder or file; a bare file is taken for F5TTS_v1_Base.

    Raises:
        WeightsError: the folder has no readable config.yaml, or the file is no checkpoint.
    """
    folder = path if path.is_dir() else path.parent
    file = folder / "config.yaml"
    if path.is_file() and path.suffix not in (".safetensors", ".pt"):
        raise WeightsError(f"{path} is not a checkpoint: it has to end in .safetensors or .pt.")
    if not file.is_file():
        if path.is_dir():
            raise WeightsError(f"{folder} has no config.yaml. It needs one in the shape of upstream's src/f5_tts/configs/*.yaml.")
        file = installed_package() / "configs" / f"{FULL_DEFAULT}.yaml"
    try:
        config = yaml.safe_load(file.read_text(encoding="utf-8"))
        config["model"]["arch"], config["model"]["backbone"], config["model"]["mel_spec"]
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{file} is not a config in the shape of upstream's (model: backbone, arch, mel_spec): {error}.") from None
    return dict(config)


def config_for(weights: Weights) -> tuple[dict[str, Any], Path]:
    """The config of `weights` and the folder that its relative paths start from."""
    if weights.kind == "path":
        path = Path(weights.name)
        return config_of(path), path if path.is_dir() else path.parent
    if weights.architecture == "demo":
        return config_of(DEMO_DIR), DEMO_DIR
    file = installed_package() / "configs" / f"{weights.architecture}.yaml"
    return dict(yaml.safe_load(file.read_text(encoding="utf-8"))), file.parent


def vocab_file(weights: Weights) -> Path:
    """The vocabulary, one symbol a line: the config's own where it names one, otherwise upstream's."""
    config, folder = config_for(weights)
    named = config["model"].get("tokenizer_path")
    if config["model"].get("tokenizer") == "custom" and named and (folder / named).is_file():
        return folder / str(named)
    return installed_package() / "infer" / "examples" / "vocab.txt"


@cache
def vocabulary(weights: Weights) -> frozenset[str]:
    """What `weights` can speak: the symbols of their vocabulary, and the characters that upstream turns into them."""
    symbols = vocab_file(weights).read_text(encoding="utf-8").splitlines(keepends=True)
    return texts.speakable(frozenset(symbol.rstrip("\n") for symbol in symbols))


def cached(weights: Weights) -> bool:
    """Whether all hub files of `weights` are in the local cache."""
    files = [HUB[weights.name], *((VOCODER_REPO, name) for name in VOCODER_FILES)] if weights.kind == "hub" else []
    return all(isinstance(try_to_load_from_cache(repo, file), str) for repo, file in files)


def answers(repo: str, file: str) -> bool:
    """Whether the hub answers for one file, within a few seconds; its own client would try again for half a minute."""
    try:
        get_hf_file_metadata(hf_hub_url(repo, file), timeout=_REACH_SECONDS, retry_on_errors=False)
    except Exception:  # whatever a closed network raises, the answer is the same
        return False
    return True


def reachable(weights: Weights) -> bool:
    """Whether the hub answers for the checkpoint."""
    return answers(*HUB[weights.name])


def choose(asked: str, device: Device) -> Choice:
    """The weights to start with: what was asked for, or for "auto" the full model where CUDA and its weights are there, otherwise `demo`."""
    if asked != "auto":
        return Choice(resolve(asked), "asked for with --weights")
    full = resolve(FULL_DEFAULT)
    if device.kind != "cuda":
        return Choice(resolve("demo"), f"there is no CUDA device, and {FULL_DEFAULT} is far from real time on a CPU")
    if cached(full):
        return Choice(full, f"{device.name} is here and the weights are in the local cache")
    if reachable(full):
        return Choice(full, f"{device.name} is here and the weights can be downloaded (about 1.3 GB, once)")
    return Choice(resolve("demo"), f"{FULL_DEFAULT} is not in the local cache and the hub cannot be reached")
