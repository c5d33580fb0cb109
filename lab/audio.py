"""The form of all audio that f5-tts makes: what the estimates, the engine, the voices and the metrics have to agree on."""

SAMPLE_RATE = 24_000  # Hz (`utils_infer.target_sample_rate`)
HOP = 256  # samples per mel frame (`utils_infer.hop_length`)
CROSS_FADE_SAMPLES = int(0.15 * SAMPLE_RATE)  # that each join of two chunks takes away (`infer_batch_process(cross_fade_duration=...)`)
