"""From a weights name to modules on a device, through upstream's own classes. Runs inside a worker."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from hydra.utils import get_class
from tqdm.auto import tqdm

from lab.config import EngineConfig
from lab.engine.weights import HUB, VOCODER_FILES, VOCODER_REPO, Weights, WeightsError, answers, config_for, vocab_file

Report = Callable[..., None]  # report(stage, done, total): progress of long work

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
#: The sizes of charactr/vocos-mel-24khz, for random values.
_VOCOS_MEL_24K = {
    "feature_extractor": {
        "class_path": "vocos.feature_extractors.MelSpectrogramFeatures",
        "init_args": {"sample_rate": 24000, "n_fft": 1024, "hop_length": 256, "n_mels": 100, "padding": "center"},
    },
    "backbone": {
        "class_path": "vocos.models.VocosBackbone",
        "init_args": {"input_channels": 100, "dim": 512, "intermediate_dim": 1536, "num_layers": 8},
    },
    "head": {"class_path": "vocos.heads.ISTFTHead", "init_args": {"dim": 512, "n_fft": 1024, "hop_length": 256, "padding": "center"}},
}


def _hub_file(repo: str, file: str, report: Report) -> str:
    """Fetch one file of the hub (or find it in the cache), reporting bytes."""
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    found = try_to_load_from_cache(repo, file)
    if isinstance(found, str):
        return found

    class Reporting(tqdm):  # type: ignore[misc]
        def update(self, n: float | None = 1) -> Any:
            shown = super().update(n)
            report(f"downloading {file}", int(self.n), int(self.total or 0))
            return shown

    try:
        if not answers(repo, file):
            raise ConnectionError("the hub does not answer")
        return str(hf_hub_download(repo, file, tqdm_class=Reporting))
    except Exception as error:  # the hub's client raises a dozen kinds; for a person they are one
        raise WeightsError(
            f"{repo}/{file} is not in the local cache and cannot be downloaded ({type(error).__name__}: {str(error)[:120]})."
            " Connect to the hub once, or use --weights demo."
        ) from None


def _build_cfm(weights: Weights) -> torch.nn.Module:
    """Upstream's CFM around the backbone that the config names, as `f5_tts.infer.utils_infer.load_model` builds it."""
    from f5_tts.infer import utils_infer
    from f5_tts.model import CFM
    from f5_tts.model.utils import get_tokenizer

    model = config_for(weights)[0]["model"]
    mel = model["mel_spec"]
    if mel["mel_spec_type"] != "vocos":
        raise WeightsError(
            f"{weights.name} needs the {mel['mel_spec_type']} vocoder, which the lab does not have; use weights made for vocos."
        )
    symbols, size = get_tokenizer(str(vocab_file(weights)), "custom")
    return CFM(  # type: ignore[no-any-return]
        transformer=get_class(f"f5_tts.model.{model['backbone']}")(**model["arch"], text_num_embeds=size, mel_dim=mel["n_mel_channels"]),
        mel_spec_kwargs=mel,
        odeint_kwargs={"method": utils_infer.ode_method},
        vocab_char_map=symbols,
    )


def _randomise(module: torch.nn.Module) -> None:
    """Give zero-initialised parameters values too: with upstream's zeros whole branches would be multiplied away, and timing would flatter."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            if not parameter.any():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.02)


def _vocoder(weights: Weights, report: Report) -> torch.nn.Module:
    from vocos import Vocos
    from vocos.pretrained import instantiate_class

    config, folder = config_for(weights)
    local = config["model"].get("vocoder", {})
    if weights.kind == "random" and weights.architecture != "demo":
        vocoder: torch.nn.Module = Vocos(
            *(instantiate_class((), _VOCOS_MEL_24K[part]) for part in ("feature_extractor", "backbone", "head"))
        )
        _randomise(vocoder)
        return vocoder
    if local.get("is_local") and local.get("local_path"):
        place = folder / str(local["local_path"])
        files = [place / "config.yaml", place / "model.safetensors"]
        if not files[1].is_file():
            files[1] = place / "pytorch_model.bin"
    else:
        files = [Path(_hub_file(VOCODER_REPO, name, report)) for name in VOCODER_FILES]
    if not all(file.is_file() for file in files):
        raise WeightsError(f"The vocoder of {weights.name} is incomplete: {files[0].parent} needs config.yaml and model.safetensors.")
    vocoder = Vocos.from_hparams(str(files[0]))
    vocoder.load_state_dict(_state(files[1]))
    return vocoder


def vocoder_of(weights: Weights) -> torch.nn.Module:
    """The vocoder of `weights` alone, FP32 on the CPU, in evaluation mode.

    Raises:
        WeightsError: a file is missing, cannot be fetched, or does not fit.
    """
    with _naming(f"The vocoder of {weights.name}"):
        return _vocoder(weights, lambda *_: None).float().eval()


def _state(file: Path) -> dict[str, torch.Tensor]:
    if file.suffix == ".safetensors":
        from safetensors.torch import load_file

        return dict(load_file(str(file)))
    return dict(torch.load(file, map_location="cpu", weights_only=True))


def rotary_frequencies(weights: Weights) -> torch.Tensor | None:
    """The rotary frequencies that the checkpoint holds, (head size / 2,) as they were stored; None where it holds none.

    Upstream's loading casts them with the model, which moves positions; whoever computes them in FP32 wants them as they were.
    """
    if weights.kind == "random":
        return None
    file = _checkpoint(weights, lambda *_: None)
    if file.suffix != ".safetensors":
        return None
    from safetensors import safe_open

    with safe_open(str(file), framework="pt") as stored:
        name = next((name for name in stored.keys() if name.endswith("rotary_embed.inv_freq")), None)  # noqa: SIM118 - not a dictionary
        return None if name is None else stored.get_tensor(name)


def _checkpoint(weights: Weights, report: Report) -> Path:
    config, folder = config_for(weights)
    if weights.kind == "hub":
        return Path(_hub_file(*HUB[weights.name], report))
    path = Path(weights.name)
    if weights.kind == "path" and path.is_file():
        return path
    file = folder / str(config.get("ckpts", {}).get("file", "model.safetensors"))
    if not file.is_file():
        raise WeightsError(f"{folder} has no {file.name}: put the checkpoint there, or name it in config.yaml under ckpts: file.")
    return file


def load(weights: Weights, config: EngineConfig, device: str, report: Report) -> tuple[Any, Any]:
    """Load model and vocoder for `config` onto `device` ("cuda" or "cpu"), in evaluation mode, dtypes applied.

    Raises:
        WeightsError: a file is missing, cannot be fetched, or does not fit the architecture.
    """
    report("loading the model", 0, 0)
    torch.manual_seed(0)
    with _naming(f"The model of {weights.name}"):
        model = _model(weights, DTYPES.get(config.model_dtype), device, report)
    report("loading the vocoder", 0, 0)
    with _naming(f"The vocoder of {weights.name}"):
        vocoder = _vocoder(weights, report).float().to(device)
    if config.vocoder_dtype in DTYPES:
        _set_vocoder_dtype(vocoder, DTYPES[config.vocoder_dtype])
    return model.eval(), vocoder.eval()


@contextlib.contextmanager
def _naming(what: str) -> Iterator[None]:
    """Files that do not fit raise a dozen kinds of errors; a person wants to know which file it was, and in what it does not fit."""
    try:
        yield
    except (WeightsError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise WeightsError(f"{what} cannot be loaded, it is no checkpoint of this architecture: {' '.join(lines[:2])[:300]}") from None


def upstream_dtype(device: str) -> torch.dtype:
    """What `f5_tts.infer.utils_infer.load_checkpoint` casts to when it is told nothing: FP16 on CUDA from compute capability 7, otherwise FP32."""
    half = device == "cuda" and torch.cuda.get_device_properties(0).major >= 7
    return torch.float16 if half else torch.float32


def _model(weights: Weights, dtype: torch.dtype | None, device: str, report: Report) -> torch.nn.Module:
    """The CFM with its values; a `dtype` of None is upstream's own choice."""
    from f5_tts.infer import utils_infer

    model = _build_cfm(weights)
    if weights.kind != "random":
        loaded: torch.nn.Module = utils_infer.load_checkpoint(
            model.to(device), str(_checkpoint(weights, report)), device, dtype=dtype, use_ema=True
        )
        return loaded
    _randomise(model)
    return model.to(device=device, dtype=dtype or upstream_dtype(device))


def _set_vocoder_dtype(vocoder: Any, dtype: torch.dtype) -> None:
    """Run the backbone in `dtype`, whatever autocast is on outside, and the Fourier head in FP32."""
    vocoder.backbone.to(dtype)
    backbone, head = vocoder.backbone, vocoder.head

    def decode(features: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        with torch.inference_mode(), torch.autocast(features.device.type, enabled=False):
            return head(backbone(features.to(dtype), **kwargs).float())  # type: ignore[no-any-return]

    vocoder.decode = decode
