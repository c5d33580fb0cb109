"""What has to be in `sys.modules` before f5-tts can be imported quickly, and everywhere."""

from __future__ import annotations

import importlib
import importlib.machinery
import sys
import types
import warnings
from typing import Any


def prepare_imports() -> None:
    """Put stand-ins in place of modules that inference never uses; call it before `torchaudio` or `f5_tts` is imported.

    `f5_tts.model` imports its Trainer, and with it wandb and datasets: seconds of start-up, and absent on many GPU machines. torchaudio's Linux
    wheel links CUDA libraries, so with a CPU build of torch its native extension cannot be loaded; what the lab uses of it is plain PyTorch.
    transformers is there for Whisper alone, and a fifth of the time that the imports take: it is loaded when it is first used.
    """
    for name in ("wandb", "datasets"):
        stub: Any = types.ModuleType(name)
        stub.__spec__ = importlib.machinery.ModuleSpec(name, None)
        stub.Dataset = object
        stub.load_from_disk = None
        sys.modules.setdefault(name, stub)
    sys.modules.setdefault("transformers", _Transformers("transformers"))
    import torch

    if torch.version.cuda is None and torch.version.hip is None:
        extension: Any = types.ModuleType("torchaudio._extension")
        extension._IS_TORCHAUDIO_EXT_AVAILABLE = False
        extension._IS_ALIGN_AVAILABLE = False
        extension.fail_if_no_align = lambda function: function
        sys.modules.setdefault("torchaudio._extension", extension)
    # pydub looks for ffmpeg when it is imported; the lab gives it WAV files only, which it reads by itself
    warnings.filterwarnings("ignore", message="Couldn't find ffmpeg")


class _Transformers(types.ModuleType):
    """Stands in for transformers while `utils_infer` imports `pipeline` from it, and makes way for the real package at the first use."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._real(), name)

    def pipeline(self, *arguments: Any, **settings: Any) -> Any:
        """Call `transformers.pipeline`."""
        return self._real().pipeline(*arguments, **settings)

    def _real(self) -> Any:
        if sys.modules.get("transformers") is self:
            del sys.modules["transformers"]
        return importlib.import_module("transformers")
