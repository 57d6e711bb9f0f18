"""Tokenizes with a unigram vocabulary of SentencePiece, as multilingual sentence encoders do. No torch here."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

from penstock.errors import ConfigError

VOCABULARY = "sp.model"  # its usual name, beside the weights

# Fields and kinds of SentencePiece's `sentencepiece_model.proto`.
_PIECE, _NORMALIZER = 1, 3
_PIECE_TEXT, _PIECE_SCORE, _PIECE_KIND = 1, 2, 3
_NORMALIZER_CHARACTERS = 2
_ORDINARY, _UNKNOWN = 1, 2


class UnigramTokenizer:
    """A model file of SentencePiece (`sp.model`) of the kind unigram. Thread-safe.

    A text that spells a control piece (`</s>`) stays text: no input can end a sentence by itself.

    Args:
        path: of the file.

    Raises:
        ConfigError: it is missing or no such file.
    """

    def __init__(self, path: Path) -> None:
        from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

        try:
            pieces, unknown, characters = _read(path.read_bytes())
            self._rust = Tokenizer(models.Unigram(pieces, unk_id=unknown))
            steps = [normalizers.Precompiled(characters)] if characters else []
        except Exception as exc:  # the Rust side raises nothing more precise
            raise ConfigError(f"{path} cannot be read as a tokenizer ({exc}); install the model again") from exc
        single_spaces = normalizers.Replace(Regex(" {2,}"), " ")
        self._rust.normalizer = normalizers.Sequence([*steps, normalizers.Strip(), single_spaces])
        self._rust.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Returns the numbers of each text's pieces, without control pieces. No text is truncated."""
        return [encoding.ids for encoding in self._rust.encode_batch_fast(list(texts), add_special_tokens=False)]

    def count(self, texts: Sequence[str]) -> list[int]:
        """Returns the number of each text's pieces, without control pieces."""
        return [len(pieces) for pieces in self.encode(texts)]


def _read(content: bytes) -> tuple[list[tuple[str, float]], int, bytes]:
    """Returns the pieces with their scores, the number of the unknown piece, and the map of characters."""
    pieces: list[tuple[str, float]] = []
    unknown, characters = 0, b""
    for field, value in _fields(content):
        if field == _PIECE and isinstance(value, bytes):
            piece = dict(_fields(value))
            text, score, kind = piece[_PIECE_TEXT], piece.get(_PIECE_SCORE), piece.get(_PIECE_KIND, _ORDINARY)
            assert isinstance(text, bytes)
            unknown = len(pieces) if kind == _UNKNOWN else unknown
            # Spaces become U+2581 before the search, so that no text holds the name of a piece that is not ordinary.
            name = text.decode() if kind == _ORDINARY else f" {len(pieces)}"
            pieces.append((name, struct.unpack("<f", score)[0] if isinstance(score, bytes) else 0.0))
        elif field == _NORMALIZER and isinstance(value, bytes):
            charsmap = dict(_fields(value)).get(_NORMALIZER_CHARACTERS)
            characters = charsmap if isinstance(charsmap, bytes) else b""
    if not pieces:
        raise ValueError("it holds no pieces")
    return pieces, unknown, characters


def _fields(message: bytes) -> Iterator[tuple[int, bytes | int]]:
    """Yields the number and the value of each field of a message in the wire format of Protocol Buffers."""
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        match tag & 7:
            case 0:
                number, position = _varint(message, position)
                yield tag >> 3, number
                continue
            case 1:
                length = 8
            case 2:
                length, position = _varint(message, position)
            case 5:
                length = 4
            case kind:
                raise ValueError(f"field of kind {kind}")
        if position + length > len(message):
            raise ValueError("it is cut short")
        yield tag >> 3, message[position : position + length]
        position += length


def _varint(message: bytes, position: int) -> tuple[int, int]:
    """Returns a number and the position behind it."""
    number = shift = 0
    while True:
        byte = message[position]
        position += 1
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return number, position
