"""How the embedded demo voice is made: corpus, training, vocoder, evaluation, export. `python -m lab demo-voice --help` does each.

```
texts (sources, sentences) ─► synthesizers ─► corpus ─┬─► training (DiT) ──┬─► export ─► lab/data/demo
                                                      └─► vocoder (Vocos) ─┘      evaluation ─► model card
```

Nothing here is used when the lab runs: it renders with what was exported.
"""
