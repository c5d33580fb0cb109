"""The statistics of listening tests: pure functions over numbers, each with its source. Knows nothing about studies, sessions or pages."""
