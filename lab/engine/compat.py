"""What has to be in `sys.modules` before f5-tts can be imported quickly, and everywhere."""

from __future__ import annotations

import importlib.machinery
import sys
import types
import warnings
from typing import Any


def prepare_imports() -> None:
    """Put stand-ins in place of modules that inference never uses; call it before `torchaudio` or `f5_tts` is imported.

    `f5_tts.model` imports its Trainer, and with it wandb and datasets: seconds of start-up, and absent on many GPU machines. torchaudio's Linux
    wheel links CUDA libraries, so with a CPU build of torch its native extension cannot be loaded; what the lab uses of it is plain PyTorch.
    """
    for name in ("wandb", "datasets"):
        stub: Any = types.ModuleType(name)
        stub.__spec__ = importlib.machinery.ModuleSpec(name, None)
        stub.Dataset = object
        stub.load_from_disk = None
        sys.modules.setdefault(name, stub)
    import torch

    if torch.version.cuda is None and torch.version.hip is None:
        extension: Any = types.ModuleType("torchaudio._extension")
        extension._IS_TORCHAUDIO_EXT_AVAILABLE = False
        extension._IS_ALIGN_AVAILABLE = False
        extension.fail_if_no_align = lambda function: function
        sys.modules.setdefault("torchaudio._extension", extension)
    # pydub looks for ffmpeg when it is imported; the lab gives it WAV files only, which it reads by itself
    warnings.filterwarnings("ignore", message="Couldn't find ffmpeg")
