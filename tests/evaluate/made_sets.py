"""Made evaluation sets for tests: every text and image is generated here, from a seed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

_COLOURS = ("red", "green", "blue", "yellow", "purple", "orange", "pink", "brown")
_SHAPES = ("square", "stripe", "corner", "frame", "bar", "dot")
_PLACES = ("harbour", "garden", "station", "market", "library", "bridge")


def write_texts(folder: Path, *, concepts: int = 40, seed: int = 3) -> Path:
    """Writes a set of texts: each concept has a text, a query with its words and one with fewer of them."""
    rng = np.random.default_rng(seed)
    words = [f"{rng.choice(list('bdfgklmnprst'))}{rng.choice(list('aeiou'))}{n:03}" for n in range(concepts * 3)]
    corpus, queries, qrels, split = [], [], [], {}
    for n in range(concepts):
        own = words[3 * n : 3 * n + 3]
        corpus.append({"_id": f"t{n}", "title": "", "text": f"the {own[0]} of {own[1]} near {own[2]} and {words[0]}"})
        queries.append({"_id": f"full{n}", "text": f"{own[0]} {own[1]}", "lang": "en", "kind": "full"})
        queries.append({"_id": f"short{n}", "text": own[2], "lang": ("en", "de")[n % 2], "kind": "short"})
        qrels += [(f"full{n}", f"t{n}"), (f"short{n}", f"t{n}")]
        split[f"t{n}"] = ("train", "dev", "test", "test")[n % 4]
    return _write(folder, corpus, queries, qrels, split)


def write_images(folder: Path, *, seed: int = 4) -> Path:
    """Writes a set of images and texts: each colour has images, a text, and a query for all of them."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    corpus, queries, qrels, split = [], [], [], {}
    for n, colour in enumerate(_COLOURS):
        part = ("train", "dev", "test", "test")[n % 4]
        ids = [f"i{n}-{m}" for m in range(2)] + [f"t{n}"]
        for m, image in enumerate(ids[:2]):
            pixels = np.full((48, 48, 3), rng.integers(0, 256, 3), dtype=np.uint8)
            pixels[: 12 + 12 * m] = rng.integers(0, 256, 3)
            Image.fromarray(pixels).save(folder / f"{image}.png")
            style = ("photo", "drawn")[m]
            corpus.append({"_id": image, "title": f"{colour} {_SHAPES[m]}", "image": f"{image}.png", "style": style})
        place = _PLACES[n % len(_PLACES)]
        corpus.append({"_id": ids[2], "title": "", "text": f"a {colour} {place}, number {n}"})
        queries.append({"_id": f"q{n}", "text": colour, "lang": "en", "kind": "name"})
        qrels += [(f"q{n}", document) for document in ids]
        split |= dict.fromkeys(ids, part)
    return _write(folder, corpus, queries, qrels, split)


def _write(
    folder: Path,
    corpus: list[dict[str, str]],
    queries: list[dict[str, str]],
    qrels: list[tuple[str, str]],
    split: dict[str, str],
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in corpus), "utf-8")
    (folder / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in queries), "utf-8")
    lines = ["query-id\tcorpus-id\tscore", *(f"{query}\t{document}\t1" for query, document in qrels)]
    (folder / "qrels.tsv").write_text("\n".join(lines) + "\n", "utf-8")
    (folder / "split.json").write_text(json.dumps(split), "utf-8")
    return folder
