"""Listening tests: the stimuli and their gate, the designs and their blinding, and what may be concluded. Knows no pages."""
