"""Made alignment data with a known fault of the encoder, from a seed: no model runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from penstock.encoders.profiles import load_profile
from penstock.evaluate.judgements import Judgements
from penstock.evaluate.vectors import VectorFiles
from penstock.records import Field, Float32
from penstock.train.alignment_data import AlignmentData

DIM = 32
DOCUMENTS = 320
# The encoder understands English, and turns Japanese in the same wrong way each time.
FAULTS = {"en": 0.0, "ja": 1.2}
WORDS = {"en": "what does the library say about number {}", "ja": "ばんごう {} について"}


def planted(*, faults: Mapping[str, float] | None = None, noise: float = 0.7, seed: int = 0) -> AlignmentData:
    """Returns a question in each language for each document, of which a half is train and a quarter dev."""
    faults = FAULTS if faults is None else faults
    rng = np.random.default_rng(seed)
    bank = _unit(rng.normal(size=(DOCUMENTS, DIM)))
    wrong = rng.normal(size=(DIM, DIM)) / np.sqrt(DIM)
    questions: list[Float32] = []
    texts: list[str] = []
    languages: list[str] = []
    pairs: list[tuple[int, int, float]] = []
    for language, fault in faults.items():
        turned = bank @ (np.eye(DIM) + fault * wrong)
        questions.append(_unit(_unit(turned) + noise * _unit(rng.normal(size=turned.shape))))
        pairs += [(len(texts) + row, row, 1.0) for row in range(DOCUMENTS)]
        texts += [WORDS[language].format(row) for row in range(DOCUMENTS)]
        languages += [language] * DOCUMENTS
    documents = np.tile(np.arange(DOCUMENTS), len(faults))
    splits = np.array(["train", "dev", "train", "test"])[documents % 4]
    return AlignmentData(
        name="planted",
        hash="0" * 16,
        role="passage.text",
        field=Field.PASSAGE,
        texts=tuple(texts),
        questions=np.concatenate(questions),
        bank=bank,
        judgements=Judgements.of_pairs(pairs, queries=len(texts)),
        groups=documents,
        splits=splits,
        dimensions={"lang": languages, "kind": [""] * len(texts), "modality": ["text"] * len(texts)},
    )


def _unit(vectors: np.ndarray) -> Float32:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


def write_planted(folder: Path, vectors: Path, data: AlignmentData, profile: str = f"null:{DIM}") -> Path:
    """Writes the data as an evaluation set, and its vectors as those of a profile's sentence encoder."""
    documents = [f"document {row}" for row in range(len(data.bank))]
    folder.mkdir(parents=True, exist_ok=True)
    corpus = [{"_id": f"d{row}", "text": text} for row, text in enumerate(documents)]
    queries = [
        {"_id": f"q{row}", "text": text, "lang": data.dimensions["lang"][row]} for row, text in enumerate(data.texts)
    ]
    split_of = {f"d{row}": str(data.splits[place]) for place, row in enumerate(data.judgements.documents.tolist())}
    for name, rows in (("corpus", corpus), ("queries", queries)):
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(lines, "utf-8")
    pairs = [
        f"q{query}\td{row}\t1"
        for query, row in zip(data.judgements.query_of_pair, data.judgements.documents, strict=True)
    ]
    (folder / "qrels.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *pairs]) + "\n", "utf-8")
    (folder / "split.json").write_text(json.dumps(split_of), "utf-8")
    stored = VectorFiles(vectors, load_profile(profile))
    stored.put_texts("passage.text", documents, data.bank)
    stored.put_texts("passage.text", data.texts, data.questions)
    return folder
