"""One file per step, in order; a published step is never edited."""
