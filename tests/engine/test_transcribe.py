import subprocess
import sys
from pathlib import Path

import pytest

from lab import voices
from lab.engine.process import EngineError
from lab.engine.transcribe import transcribe


@pytest.mark.engine
@pytest.mark.skipif(voices.transcriber_available(), reason="Whisper's weights are in the local cache, so that the refusal cannot be shown")
def test_without_whispers_weights_a_person_is_told_to_write_the_transcript(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(EngineError, match="Write the transcript by hand"):
        transcribe(voices.find_voice("demo-male").path, "en")


ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import sys
from lab.engine.compat import prepare_imports
prepare_imports()
from f5_tts.infer import utils_infer
print("transformers.modeling_utils" in sys.modules)
try:
    utils_infer.pipeline("no-such-task")
except KeyError as error:
    print("no-such-task" in str(error))
print("transformers.pipelines" in sys.modules)
import transformers
print(transformers.__version__ > "4")
"""


@pytest.mark.engine
def test_transformers_is_loaded_when_a_clip_is_transcribed_and_not_before():
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["False", "True", "True", "True"], done.stderr
