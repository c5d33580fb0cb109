"""How much arithmetic a step is, so that a time can be put against what the card can do."""

from __future__ import annotations

from lab.engine.turbo.reading import Flow


def flop_per_step(flow: Flow, frames: int, guided: bool = True) -> float:
    """FLOP of one solver step over `frames` frames as upstream computes it, both branches if `guided`.

    For F5TTS_v1_Base with guidance this is 2 · frames · (378.9e6 + 90,112 · frames). What turbo computes once instead of at each step is counted as
    if it were done, so that the share of the card's limit says how near the same work comes to it.
    """
    dim, inner = flow.shape.dim, flow.shape.heads * flow.shape.head_dim
    weights = sum(
        block.qkv_weight.numel() + block.out_weight.numel() + block.up_weight.numel() + block.down_weight.numel() for block in flow.blocks
    )
    weights += sum(weight.numel() for weight in flow.position.weights)
    # noise, condition and text come in, the flow goes out; weights that are filled up on a card count as what they are
    weights += dim * (3 * flow.shape.mel + int(flow.text_embed.text_embed.embedding_dim))
    attention = 2 * inner * len(flow.blocks) * frames
    return 2.0 * frames * (weights + attention) * (2 if guided else 1)
