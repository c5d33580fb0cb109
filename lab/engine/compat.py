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
    Others are a third of the time that the imports take, and are loaded when they are first used: transformers is there for Whisper alone, einx
    (with dynamo and sympy) for parts of x-transformers that F5-TTS has no use for, matplotlib for pictures of spectrograms.
    """
    for name in ("wandb", "datasets"):
        stub: Any = types.ModuleType(name)
        stub.__spec__ = importlib.machinery.ModuleSpec(name, None)
        stub.Dataset = object
        stub.load_from_disk = None
        sys.modules.setdefault(name, stub)
    pictures: Any = _OnFirstUse("matplotlib")
    pictures.use = lambda _backend: None  # upstream asks for Agg, which is what there is without a display
    pictures.pylab = _OnFirstUse("matplotlib.pylab")
    whisper: Any = _OnFirstUse("transformers")
    whisper.pipeline = lambda *arguments, **settings: whisper.real().pipeline(*arguments, **settings)  # imported by name
    for module in (pictures, pictures.pylab, whisper, _OnFirstUse("einx")):
        sys.modules.setdefault(module.__name__, module)
    import torch

    if torch.version.cuda is None and torch.version.hip is None:
        extension: Any = types.ModuleType("torchaudio._extension")
        extension._IS_TORCHAUDIO_EXT_AVAILABLE = False
        extension._IS_ALIGN_AVAILABLE = False
        extension.fail_if_no_align = lambda function: function
        sys.modules.setdefault("torchaudio._extension", extension)
    # pydub looks for ffmpeg when it is imported; the lab gives it WAV files only, which it reads by itself
    warnings.filterwarnings("ignore", message="Couldn't find ffmpeg")


class _OnFirstUse(types.ModuleType):
    """Stands in for a module until something of it is used, and makes way for the real one then."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__spec__ = importlib.machinery.ModuleSpec(name, None)  # `find_spec` of a module without one is an error

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.real(), name)

    def real(self) -> Any:
        """Import what this stands for; the stand-ins of its package go with it."""
        package = self.__name__.partition(".")[0]
        for name, module in list(sys.modules.items()):
            if isinstance(module, _OnFirstUse) and name.partition(".")[0] == package:
                del sys.modules[name]
        return importlib.import_module(self.__name__)
