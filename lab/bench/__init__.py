"""Benchmarks: a schedule of paired samples, the immutable run that records them, and the statistics that decide."""
