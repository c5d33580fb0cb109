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
