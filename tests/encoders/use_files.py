"""Makes small files of the multilingual Universal Sentence Encoder: random weights, a vocabulary of a few pieces."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from penstock.records import Float32

PIECES = ("<unk>", "<s>", "</s>", "▁", "▁red", "▁green", "▁tea", "▁bicycle", "s", "茶", "自転車")
DIM, FEATURES, HIDDEN, OUTPUT = 6, 4, 5, 7


def write_vocabulary(path: Path, pieces: Iterable[str] = PIECES) -> None:
    """Writes a model file of SentencePiece; the first piece is the unknown one, the next two are control pieces."""
    messages = []
    for number, piece in enumerate(pieces):
        text, kind = piece.encode(), {0: 2, 1: 3, 2: 3}.get(number, 1)
        score = struct.pack("<f", 0.0 if number < 3 else -float(number))
        body = b"\x0a" + bytes([len(text)]) + text + b"\x15" + score + b"\x18" + bytes([kind])
        messages.append(b"\x0a" + bytes([len(body)]) + body)
    path.write_bytes(b"".join(messages) + b"\x1a\x02\x0a\x00")


def random_arrays(words: int = 17, seed: int = 0) -> Mapping[str, Float32]:
    """Returns weights as the package has them, drawn at random; `words` is a multiple of 17."""
    random = np.random.default_rng(seed)

    def floats(*shape: int) -> Float32:
        return random.normal(size=shape).astype(np.float32)

    arrays: dict[str, Float32] = {
        f"q{number}": random.integers(0, 256, (words // 17, DIM), dtype=np.uint8) for number in range(1, 18)
    }
    arrays |= {"scale": floats(17) / 100, "lo": floats(17), "eps": np.float32(1e-6)}
    for width in (2, 3, 5):
        arrays |= {f"proj{width}": floats(DIM, FEATURES), f"proj_b{width}": floats(FEATURES)}
        arrays |= {f"ln_g{width}": floats(FEATURES), f"ln_b{width}": floats(FEATURES)}
        for step in (1, 2):
            arrays |= {f"w{step}_{width}": floats(width * FEATURES, FEATURES), f"b{step}_{width}": floats(FEATURES)}
    joined = DIM + 3 * FEATURES
    arrays |= {"ln_g": floats(joined), "ln_b": floats(joined), "cnn_W": floats(joined, DIM), "cnn_b": floats(DIM)}
    arrays |= {"d0": floats(DIM, HIDDEN), "d1": floats(HIDDEN, HIDDEN), "p1": floats(DIM, HIDDEN)}
    arrays |= {"d2": floats(HIDDEN, OUTPUT), "d3": floats(OUTPUT, OUTPUT), "p3": floats(HIDDEN, OUTPUT)}
    return arrays


def write_use(folder: Path) -> Path:
    """Writes both files into a folder, and returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    write_vocabulary(folder / "sp.model")
    np.savez(folder / "weights.npz", **random_arrays())
    return folder
