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
print([name for name in ("transformers.modeling_utils", "einx._src", "torch._dynamo", "matplotlib.pyplot") if name in sys.modules])
try:
    utils_infer.pipeline("no-such-task")
except KeyError as error:
    print("no-such-task" in str(error))
print("transformers.pipelines" in sys.modules)
import transformers
print(transformers.__version__ > "4")
import einx, torch
print(einx.sum("a [b]", torch.ones(2, 3)).tolist())
utils_infer.save_spectrogram(torch.ones(10, 20), sys.argv[1])
print(open(sys.argv[1], "rb").read(4)[1:])
"""


@pytest.mark.engine
def test_what_inference_does_not_need_is_loaded_when_it_is_used_and_not_before(tmp_path):
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path / "mel.png")], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == ["[]", "True", "True", "True", "[3.0, 3.0]", "b'PNG'"], done.stderr
