"""What the host does before and behind the sampler: it changes no result."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from lab.engine.turbo import Piece, Settings, Speaker, Turbo, Voice, speaking
from lab.engine.turbo.loop import Inputs, Sampler, Staging
from lab.engine.turbo.speaking import plain, spelled
from lab.engine.turbo.text import spread
from tests.engine.turbo import models

ASCII = st.text(st.characters(max_codepoint=127), max_size=40)
# what texts are made of, and what jieba keeps together in other ways than words
PARTS = [
    "hello",
    "T",
    "x9",
    "50",
    "3.14",
    "1,000",
    "C#",
    "c++",
    "AT&T",
    "U.S.A.",
    "e.g.",
    "well-kept",
    "a_b",
    "...",
    "--",
    ".net",
    "-5",
    "50%",
    "don't",
]
MARKS = [
    " ",
    "  ",
    ". ",
    ", ",
    "; ",
    ": ",
    ";",
    ":",
    "'",
    '"',
    "(",
    ")",
    "[",
    "!",
    "?",
    "-",
    ".",
    "%",
    "/",
    "$",
    "\n",
    "\r\n",
    "\r",
    "\t",
    "\x00",
    "\x7f",
]
WRITTEN = st.lists(st.sampled_from(PARTS + MARKS), max_size=12).map("".join)


@given(st.one_of(ASCII, WRITTEN))
@example("a\r\nb")
@example('"Stop at once!" he cried; but the well-kept engine went on: slowly, calmly.')
@example("word.another (aside) x-ray a%1b .5 a..b")
def test_a_plain_text_is_spelled_as_upstream_spells_it(text):
    from f5_tts.infer import utils_infer

    if plain(text):
        assert [spelled(letter) for letter in text] == utils_infer.convert_char_to_pinyin([text])[0]


def test_upstream_is_asked_only_where_it_might_do_more_than_take_the_characters():
    from f5_tts.infer import utils_infer

    asked = []

    def convert(texts):
        asked.extend(texts)
        return utils_infer.convert_char_to_pinyin(texts)

    turbo = Turbo(models.small(), models.vocos())
    speaker = Speaker(turbo, SimpleNamespace(convert_char_to_pinyin=convert))
    quiet = "Good day; it's \"quiet\" here: isn't it? The well-kept clock, 3.14 hours."
    others = ["今天", "café", "(aside)", "wait...", "C#", "1,000", "line\nbreak"]
    for text in (quiet, *others):
        assert list(speaker._ids(text)) == turbo.tokens(utils_infer.convert_char_to_pinyin([text]))[0]
    assert asked == others


def filled(turbo, pieces, rows, guidance=2.0):
    made = Inputs.empty(len(pieces), rows, 100, torch.device("cpu"))
    made.packed.fill_(-7)  # what an utterance before left
    turbo.owned(turbo._fill, made, Staging(made), pieces, Settings(4, guidance))
    return made


@pytest.mark.parametrize("upsampled", [False, True])
def test_a_batch_is_filled_in_with_what_its_pieces_say(upsampled):
    turbo = Turbo(models.small(text_embedding_average_upsampling=upsampled))
    some = torch.arange(20) % 3 > 0
    pieces = [
        Piece(torch.randn(30, 100), [3, 0, 27], 90, torch.randn(90, 100)),
        Piece(torch.randn(20, 100), tuple(range(25)) * 4, 61, torch.randn(61, 100), some),  # more letters than frames
        Piece(torch.zeros(0, 100), (), 5, torch.randn(5, 100)),
    ]
    made = filled(turbo, pieces, 96, 0.7)
    assert made.frames.tolist() == [90, 61, 5]
    assert made.guidance == torch.tensor(0.7)
    for line, piece in enumerate(pieces):
        ids, index, given = (made.part(number)[line].tolist() for number in range(3))
        count = min(len(piece.ids), piece.frames)
        assert ids == [number + 1 for number in piece.ids[:count]] + [0] * (96 - count)
        want = np.zeros(96, np.int32)
        if upsampled:
            spread(want[: piece.frames], count)
        assert index == want.tolist()
        kept = [1] * len(piece.reference) if piece.given is None else piece.given.int().tolist()
        assert given == kept + [0] * (96 - len(kept))
        assert torch.equal(made.noise[line, : piece.frames], piece.noise)
        assert torch.equal(made.reference[line, : len(piece.reference)], piece.reference)
    turbo.close()


def test_one_copy_fills_in_numbers_and_guidance_and_both_begin_where_kernels_want_it():
    made = Inputs.empty(3, 64, 100, torch.device("cpu"))
    assert {part.untyped_storage().data_ptr() for part in (made.numbers, made.guidance)} == {made.packed.untyped_storage().data_ptr()}
    assert [(part.data_ptr() - made.packed.data_ptr()) % 16 for part in (made.numbers, made.guidance)] == [0, 0]
    assert made.guidance == 1
    assert made.frames.tolist() == [1, 1, 1]


@pytest.mark.parametrize("guided", [True, False])
def test_a_table_that_is_handed_in_and_a_weight_that_is_filled_up_give_the_same(guided):
    turbo = Turbo(models.small())
    piece = Piece(torch.randn(30, 100), [1, 2, 3], 77, torch.randn(77, 100))
    schedule = turbo.schedule(Settings(4))
    more = dataclasses.replace(turbo.flow, in_rest=torch.nn.functional.pad(turbo.flow.in_rest, (0, 12)))

    def sampled(flow, *frequencies):
        inputs = Inputs.empty(1, 96, 100, torch.device("cpu"), *frequencies)
        turbo._fill(inputs, Staging(inputs), [piece], Settings(4))
        return Sampler(flow, turbo.sampler.functions, turbo.switches).sample(inputs, schedule, guided=guided, padded=True)[:, :77]

    plain = turbo.owned(sampled, turbo.flow)
    assert torch.equal(turbo.owned(sampled, turbo.flow, turbo.flow.inverse_frequencies), plain)
    assert torch.allclose(turbo.owned(sampled, more), plain, atol=1e-5)
    turbo.close()


def voiced(level=0.2):
    return Voice("a voice of old.", "a voice of old. ", 1.0, level, 39, torch.randn(40, 100, generator=torch.Generator().manual_seed(1)))


def noise(chunk, frames):
    return torch.randn(frames, 100, generator=torch.Generator().manual_seed(chunk))


@pytest.fixture(scope="module")
def speaker():
    from f5_tts.infer import utils_infer

    turbo = Turbo(models.small(), models.vocos())
    yield Speaker(turbo, utils_infer)
    turbo.close()


CHUNKS = [
    "hello there, old friend.",
    "a much longer one, which is sampled alone, and before the others: it is the longest.",
    "and one of these.",
]


def test_chunks_come_out_in_order_as_each_would_alone_and_in_memory_of_their_own(speaker):
    pieces, entered = speaker.pieces(voiced(), CHUNKS, 1.0, noise), []
    waves, mels = speaker.render(voiced(), pieces, Settings(4), enter=entered.append)
    for number, piece in enumerate(pieces):
        (wave,), (mel,) = speaker.render(voiced(), [piece], Settings(4))
        assert mels[number].shape == mel.shape == (100, piece.frames - 39)
        assert waves[number].shape == wave.shape == ((piece.frames - 40) * 256,)
        assert abs(mels[number] - mel).max() < 1e-4
        assert abs(waves[number] - wave).max() < 1e-4
    assert all(array.flags.owndata and array.flags.c_contiguous and array.dtype == np.float32 for array in waves + mels)
    groups, rest = divmod(len(entered), 4)
    assert (groups > 1, rest) == (True, 1)
    assert entered == ["sampler", "transfer", "vocoder", "transfer"] * groups + ["other"]


def test_a_quiet_voice_is_made_quiet_by_upstreams_two_operations(speaker):
    pieces = speaker.pieces(voiced(), CHUNKS[:1], 1.0, noise)
    loud, quiet = (speaker.render(voiced(level), pieces, Settings(4))[0][0] for level in (0.2, 0.037))
    assert np.array_equal(quiet, loud * np.float32(0.037) / np.float32(speaker._upstream.target_rms))
    assert np.array_equal(speaker.render(voiced(0.037), pieces, Settings(4))[0][0], quiet)


class OnCard(torch.Tensor):
    """A tensor that says it is on a card."""

    device = property(lambda _: torch.device("cuda"))


def test_an_array_is_there_before_its_tensor_and_is_written_when_that_has_arrived(monkeypatch):
    told = []
    event = SimpleNamespace(record=lambda: told.append("record"), synchronize=lambda: told.append("synchronize"))
    card = SimpleNamespace(
        empty=lambda shape, dtype, pin_memory: torch.zeros(shape, dtype=dtype), cuda=SimpleNamespace(Event=lambda: event)
    )
    monkeypatch.setattr(speaking, "torch", card)
    coming = speaking._Arriving(torch.arange(6.0).reshape(2, 3).as_subclass(OnCard))
    array = coming.array
    assert (told, array.tolist()) == (["record"], [[0.0] * 3] * 2)
    coming.wait()
    assert (told, array.tolist()) == (["record", "synchronize"], [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]])


needs_card = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA card: run pytest tests/engine/turbo on a GPU machine")


@pytest.fixture(scope="module")
def on_card():
    from f5_tts.infer import utils_infer

    turbo = Turbo(models.small(heads=4, dim=256, text_dim=128).cuda().half(), models.vocos().cuda())
    yield Speaker(turbo, utils_infer)
    turbo.close()


@needs_card
def test_on_a_card_what_is_spoken_is_what_sampler_and_vocoder_give(on_card):
    turbo, voice = on_card.turbo, dataclasses.replace(voiced(0.037), mel=voiced().mel.cuda())
    pieces = on_card.pieces(voice, CHUNKS, 1.0, lambda chunk, frames: noise(chunk, frames).cuda())
    for _ in range(3):  # the first captures, the others replay
        kept = []
        for piece in pieces:
            (wave,), (mel,) = on_card.render(voice, [piece], Settings(4))
            sampled = turbo.mels([piece], Settings(4))[0, 39 : piece.frames].clone()
            sound = turbo.audio([sampled])[0, : len(wave)] * 0.037 / on_card._upstream.target_rms
            assert torch.equal(sampled.T.cpu(), torch.from_numpy(mel))
            assert torch.allclose(sound.cpu(), torch.from_numpy(wave), rtol=1e-5, atol=1e-7)
            kept.append((wave, mel))
        waves, mels = on_card.render(voice, pieces, Settings(4))
        for (wave, mel), other, near in zip(kept, waves, mels, strict=True):
            assert wave.shape == other.shape
            assert abs(mel - near).max() < 0.05
        assert not any(torch.from_numpy(array).is_pinned() for array in waves + mels)


@needs_card
def test_on_a_card_utterances_that_follow_each_other_do_not_write_into_each_others_numbers(on_card):
    turbo = on_card.turbo
    pieces = [Piece(torch.randn(60, 100).cuda(), [1 + (n * k) % 28 for n in range(40)], 250, noise(k, 250).cuda()) for k in range(1, 9)]
    alone = []
    for piece in pieces:
        alone.append(turbo.mels([piece], Settings(4))[0, :250].clone())
        torch.cuda.synchronize()
    # as fast as they can be launched
    for _ in range(5):
        behind = turbo.owned(lambda: [turbo.mels([piece], Settings(4))[0, :250].clone() for piece in pieces])
        assert all(torch.equal(one, other) for one, other in zip(alone, behind, strict=True))


@needs_card
def test_on_a_card_a_batch_without_guidance_gives_what_each_gives_alone(on_card):
    turbo, settings = on_card.turbo, Settings(4, guidance=0.0)
    pieces = [Piece(torch.randn(60, 100).cuda(), [1, 2, 3, 4] * 8, frames, noise(frames, frames).cuda()) for frames in (250, 200)]
    together = turbo.mels(pieces, settings).clone()
    for line, piece in enumerate(pieces):
        alone = turbo.mels([piece], settings)[0, : piece.frames]
        assert (together[line, : piece.frames] - alone).abs().max() < 0.05
