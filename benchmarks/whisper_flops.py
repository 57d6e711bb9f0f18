"""Calculates the operations of Whisper from the shapes of its weights, as CTranslate2 has no counter."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

_VERSIONS = range(4, 7)  # of CTranslate2's files with headers that `_shapes` can read; 6 since 2021
_KERNEL = 3  # of both convolutions; the second has a stride of 2


@dataclass(frozen=True, slots=True)
class WhisperSize:
    """The dimensions of a Whisper that determine its number of operations.

    Attributes:
        mels: of a frame of features.
        width: of both halves.
        inner: width between the two matrices of an MLP.
        encoder_layers, decoder_layers: number of layers.
        vocabulary: tokens.
    """

    mels: int
    width: int
    inner: int
    encoder_layers: int
    decoder_layers: int
    vocabulary: int

    def encoder_flops(self, frames: int) -> int:
        """Returns the encoder's operations for one window: twice the multiply-adds of all matrix products.

        With w = width and p = frames / 2 positions::

            convolutions   2 · 3 · frames · mels · w  +  2 · 3 · p · w²
            a layer        2 · 4 · p · w²             queries, keys, values and the output projection
                         + 2 · 2 · p² · w             queries by keys, weights by values
                         + 2 · 2 · p · w · inner      MLP
        """
        positions = frames // 2
        convolutions = 2 * _KERNEL * self.width * (frames * self.mels + positions * self.width)
        projections = 2 * 4 * positions * self.width**2
        attention = 2 * 2 * positions**2 * self.width
        mlp = 2 * 2 * positions * self.width * self.inner
        return convolutions + self.encoder_layers * (projections + attention + mlp)

    def decoder_flops(self, positions: int, *, prompt: int, tokens: int, beams: int) -> int:
        """Returns the decoder's operations for one window: twice the multiply-adds of all matrix products.

        The prompt goes through once, each token after it once a beam; the encoder's keys and values are computed
        once. With w = width and p = positions::

            a layer, once      2 · 2 · p · w²        keys and values of the encoder
            a layer, a token   2 · 4 · w²            queries, keys, values and the output projection
                             + 2 · 2 · t · w         attention to the t tokens so far, itself among them
                             + 2 · 2 · w²            queries to the encoder and the output projection
                             + 2 · 2 · p · w         attention to the encoder's positions
                             + 2 · 2 · w · inner     MLP
            a token            2 · w · vocabulary    its logits

        It is a lower bound: dropped hypotheses, and steps after the best one has ended, are not known.
        """
        passes = prompt + beams * tokens
        so_far = _sum_to(prompt) + beams * (_sum_to(prompt + tokens) - _sum_to(prompt))
        once = 2 * 2 * positions * self.width**2
        a_token = 2 * self.width * (6 * self.width + 2 * positions + 2 * self.inner)
        layer = once + passes * a_token + 2 * 2 * so_far * self.width
        return self.decoder_layers * layer + passes * 2 * self.width * self.vocabulary


class CountedWhisper:
    """Wraps a `ctranslate2.models.Whisper` and adds up the operations of all calls, those of retries included.

    Args:
        model: to which the calls go.
        size: of the model.
    """

    def __init__(self, model: Any, size: WhisperSize) -> None:
        self._model = model
        self._size = size
        self.flops = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def encode(self, features: Any, **options: Any) -> Any:
        """Encodes features, and counts."""
        windows, _, frames = features.shape
        self.flops += windows * self._size.encoder_flops(frames)
        return self._model.encode(features, **options)

    def detect_language(self, encoded: Any) -> Any:
        """Detects languages, and counts."""
        windows, positions, _ = encoded.shape
        self.flops += windows * self._size.decoder_flops(positions, prompt=1, tokens=0, beams=1)
        return self._model.detect_language(encoded)

    def generate(self, encoded: Any, prompts: Sequence[Sequence[Any]], *, beam_size: int, **options: Any) -> Any:
        """Decodes, and counts the tokens of the best hypotheses."""
        results = self._model.generate(encoded, prompts, beam_size=beam_size, **options)
        for prompt, result in zip(prompts, results, strict=True):
            self.flops += self._size.decoder_flops(
                encoded.shape[1], prompt=len(prompt), tokens=len(result.sequences_ids[0]), beams=beam_size
            )
        return results


def whisper_size(weights: Path) -> WhisperSize:
    """Reads the dimensions of a Whisper in CTranslate2's format from the shapes of its weights, not the weights.

    Args:
        weights: its `model.bin`.

    Raises:
        ValueError: it is no such model, or of a version that is not supported.
    """
    try:
        with weights.open("rb") as file:
            shapes = dict(_shapes(file))
        width, mels, _ = shapes["encoder/conv1/weight"]
        return WhisperSize(
            mels=mels,
            width=width,
            inner=shapes["encoder/layer_0/ffn/linear_0/weight"][0],
            encoder_layers=_layers("encoder", shapes),
            decoder_layers=_layers("decoder", shapes),
            vocabulary=shapes["decoder/embeddings/weight"][0],
        )
    except (struct.error, UnicodeDecodeError) as exc:
        raise ValueError(f"{weights.name} is no model of CTranslate2") from exc
    except KeyError as exc:
        raise ValueError(f"{weights.name} is no Whisper: it has no {exc.args[0]}") from exc


def computes_in(number_format: str, device: str) -> bool:
    """Returns whether CTranslate2 computes in a number format, given by its own name, on a device here."""
    import ctranslate2

    kind, _, index = device.partition(":")
    return number_format in ctranslate2.get_supported_compute_types(kind, int(index or 0))


def _sum_to(last: int) -> int:
    return last * (last + 1) // 2


def _layers(half: str, shapes: dict[str, tuple[int, ...]]) -> int:
    count = 0
    while f"{half}/layer_{count}/self_attention/linear_0/weight" in shapes:
        count += 1
    return count


def _shapes(file: BinaryIO) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yields name and shape of each variable, as CTranslate2's model_spec.py writes them (`ModelSpec._serialize`)."""

    def number(code: str) -> int:
        (value,) = struct.unpack(f"<{code}", file.read(struct.calcsize(f"<{code}")))
        return int(value)

    def text() -> str:
        return file.read(number("H"))[:-1].decode()

    version = number("I")
    if version not in _VERSIONS:
        raise ValueError(
            f"{Path(file.name).name} is of version {version} of CTranslate2's format, which is not supported"
        )
    text(), number("I")  # the kind of model and its revision
    for _ in range(number("I")):
        name = text()
        shape = tuple(number("I") for _ in range(number("B")))
        number("B")  # the type of its numbers
        file.seek(number("I"), 1)
        yield name, shape
