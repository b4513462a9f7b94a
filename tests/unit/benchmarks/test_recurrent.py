from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest

from benchmarks.zoo.audio import SPEECH_RATE_HZ, Turn
from benchmarks.zoo.base import only, ort_run
from benchmarks.zoo.recurrent import batch, build, mel_frames, pieces
from dioe.types import Array, ModelError

RNG = np.random.default_rng(23)


def test_network_does_what_pytorch_does_with_packed_sequences(tmp_path: Path) -> None:
    import torch
    from torch.nn.utils.rnn import pack_padded_sequence

    generator = torch.Generator().manual_seed(5)
    lstm = torch.nn.LSTM(6, 8, 2, batch_first=True)
    linear = torch.nn.Linear(8, 5)
    mels = torch.rand(3, 9, 6, generator=generator)
    lengths = [9, 4, 7]
    with torch.no_grad():
        packed = pack_padded_sequence(mels, lengths, batch_first=True, enforce_sorted=False)
        _, (hidden, _) = lstm(packed)
        raw = torch.relu(linear(hidden[-1]))
        expected = (raw / torch.norm(raw, dim=1, keepdim=True)).numpy()
    weights: dict[str, Array] = {
        f"{name}.{key}": tensor.numpy()
        for name, module in (("lstm", lstm), ("linear", linear))
        for key, tensor in module.state_dict().items()
    }
    model = build(weights, layers=2)
    onnx.checker.check_model(model, full_check=True)
    feeds = {"mels": mels.numpy(), "lengths": np.array(lengths, dtype=np.int32)}
    onnx.save(model, tmp_path / "m.onnx")
    found = only(ort_run(tmp_path / "m.onnx")(feeds))  # onnx.reference ignores lengths
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    assert np.ptp(found) > 0


def test_checkpoint_without_a_weight_is_refused() -> None:
    with pytest.raises(ModelError, match="weight_ih_l0"):
        build({})


@pytest.mark.parametrize("hertz", [300, 1000, 3000])
def test_tone_is_loudest_in_its_band(hertz: int) -> None:
    seconds = np.arange(SPEECH_RATE_HZ) / SPEECH_RATE_HZ
    frames = mel_frames(np.sin(2 * np.pi * hertz * seconds).astype(np.float32))
    assert frames.shape == (101, 40)
    assert frames.dtype == np.float32
    assert (frames >= 0).all()
    # 40 bands up to 8 kHz, 45.25 mel: 3 mel each kHz below 1 kHz are 15, then logarithmic
    mel = hertz * 3 / 200 if hertz < 1000 else 15 + np.log(hertz / 1000) * 27 / np.log(6.4)
    top_mel = 15 + np.log(8) * 27 / np.log(6.4)
    assert abs(frames[50].argmax() + 1 - mel / top_mel * 41) <= 1


def test_power_grows_with_the_square_of_the_sound() -> None:
    sound = RNG.normal(0, 0.1, 4000).astype(np.float32)
    np.testing.assert_allclose(mel_frames(2 * sound), 4 * mel_frames(sound), rtol=1e-5)


def test_turns_are_cut_and_short_rests_left_out() -> None:
    found = pieces([Turn(1.0, 1.5, "a"), Turn(2.0, 2.9, "b"), Turn(3.0, 6.0, "a")])
    assert [piece.speaker for piece in found][:1] == ["b"]
    assert all(0.8 <= piece.end_s - piece.start_s <= 1.28 for piece in found)
    mine = [piece for piece in found if piece.speaker == "a"]
    assert mine[0].start_s == 3.0
    assert all(a.end_s == b.start_s for a, b in pairwise(mine))


def test_utterances_are_padded_to_one_length() -> None:
    utterances = [RNG.uniform(1, 2, (n, 40)).astype(np.float32) for n in (100, 90)]
    feed = batch(utterances)
    assert feed["lengths"].tolist() == [100, 90]
    assert feed["lengths"].dtype == np.int32
    for row, utterance in zip(feed["mels"], utterances, strict=True):
        np.testing.assert_array_equal(row[: len(utterance)], utterance)
        assert not row[len(utterance) :].any()
