"""Write down what is said in a clip, with Whisper as upstream does it, where its weights are in the local cache. Nothing is ever downloaded.

A process of its own (`python -m lab.engine.transcribe FILE LANGUAGE`), because Whisper's 1.6 GB must not stay in the server.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from lab.engine.process import EngineError, python_path

_SECONDS = 300
_MARK = "LAB-TRANSCRIPT "


def transcribe(clip: Path, language: str) -> str:
    """What is said in `clip` (a WAV file), in `language` ("en" or "zh").

    Raises:
        EngineError: Whisper's weights are not here, or it failed.
    """
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": python_path()}
    command = [sys.executable, "-m", "lab.engine.transcribe", str(clip), language]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=_SECONDS)
    except subprocess.TimeoutExpired:
        raise EngineError("Whisper took too long. Write the transcript by hand.") from None
    line = next((line for line in done.stdout.splitlines() if line.startswith(_MARK)), "")
    if not line:
        raise EngineError(
            "Whisper could not be run: its weights (openai/whisper-large-v3-turbo) are not in the local cache. Write the transcript by hand."
        )
    return str(json.loads(line.removeprefix(_MARK))).strip()


def main(clip: str, language: str) -> None:
    """Transcribe through upstream's own function and print the result on a marked line."""
    from lab.engine.compat import prepare_imports

    prepare_imports()
    import soundfile
    from f5_tts.infer import utils_infer

    samples, rate = soundfile.read(clip, dtype="float32")
    # as an array: given a path, the pipeline would look for ffmpeg
    print(
        _MARK + json.dumps(utils_infer.transcribe({"raw": samples, "sampling_rate": rate}, {"en": "english", "zh": "chinese"}[language])),
        flush=True,
    )


if __name__ == "__main__":
    main(*sys.argv[1:3])
