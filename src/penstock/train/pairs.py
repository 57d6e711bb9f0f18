"""Reads pairs of questions and what was right for them, one JSON object a line.

{"question": "…", "text": "…"}                 or "image": a path, relative to the file
optional: "lang", "tenant", "time" (seconds since the epoch), "split" (train, dev or test)
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from penstock.errors import UsageError
from penstock.evaluate.evaluation_set import SPLITS, Document, EvaluationSet, LabelledQuery, fold
from penstock.evaluate.judgements import Judgements
from penstock.evaluate.vectors import VectorFiles
from penstock.train.alignment_data import FIT, GATE, AlignmentData, read_alignment

_FIT_SHARE = 0.6
LEFT_OUT = "left out"


@dataclass(frozen=True, slots=True)
class TrainingPair:
    """A question, and a text or an image that was right for it.

    Attributes:
        question: in words.
        text: of the document; empty for an image.
        image: the file; None for a text.
        lang: of the question.
        tenant: whose pair it is; empty: not known.
        time_s: when it was chosen, seconds since the epoch; None: not known.
        split: train, dev or test; empty: by time or by group.
    """

    question: str
    text: str = ""
    image: Path | None = None
    lang: str = ""
    tenant: str = ""
    time_s: float | None = None
    split: str = ""


def read_pairs(file: Path) -> list[TrainingPair]:
    """Reads a file of pairs.

    Raises:
        UsageError: it cannot be read, or a line is not a pair; with the line.
    """
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as exc:
        raise UsageError(f"the pairs {file} cannot be read: {exc}") from exc
    return list(_parse(lines, file))


def parse_pairs(rows: Iterable[Mapping[str, object]], name: str) -> list[TrainingPair]:
    """Returns the pairs of rows with the fields of a file's lines; images are paths from here.

    Raises:
        UsageError: a row is not a pair; with its number.
    """
    return [_pair(row, Path(), f"{name} {number}") for number, row in enumerate(rows, start=1)]


def align_pairs(pairs: Sequence[TrainingPair], vectors: VectorFiles, name: str) -> AlignmentData:
    """Returns the data of pairs; all documents together are the bank.

    Where all pairs have a time, the earlier 60 % are fitted to. A later pair that repeats an earlier one, in the same
    words, is left out: it would be judged by what was fitted.

    Raises:
        UsageError: there is no pair, or they mix texts and images.
    """
    if not pairs or len({pair.image is None for pair in pairs}) > 1:
        raise UsageError(f"{name} needs pairs with texts, or pairs with images, and not both")
    dataset = _as_set(pairs, name)
    data = read_alignment(dataset, vectors)
    if any(pair.tenant for pair in pairs):
        data = data.with_dimension("tenant", [pair.tenant for pair in pairs])
    if all(pair.split for pair in pairs):
        return _with_splits(data, np.array([pair.split for pair in pairs], dtype=np.str_))
    times = [pair.time_s for pair in pairs if pair.time_s is not None]
    return data if len(times) < len(pairs) else _with_splits(data, _by_time(pairs, times))


def _as_set(pairs: Sequence[TrainingPair], name: str) -> EvaluationSet:
    """Returns the pairs as an evaluation set: one question for each pair, one document for each distinct one."""
    rows: dict[str, int] = {}
    documents: list[Document] = []
    for pair in pairs:
        key = str(pair.image) if pair.image else fold(pair.text)
        if key not in rows:
            rows[key] = len(documents)
            documents.append(Document(f"d{len(documents)}", text=pair.text, image=pair.image))
    queries = tuple(LabelledQuery(f"q{number}", pair.question, pair.lang) for number, pair in enumerate(pairs))
    right = [rows[str(pair.image) if pair.image else fold(pair.text)] for pair in pairs]
    judgements = Judgements.of_pairs(((number, row, 1.0) for number, row in enumerate(right)), queries=len(pairs))
    return EvaluationSet(name, tuple(documents), queries, judgements, ("",) * len(documents))


def _with_splits(data: AlignmentData, splits: npt.NDArray[np.str_]) -> AlignmentData:
    return replace(data, splits=splits)


def _by_time(pairs: Sequence[TrainingPair], times: Sequence[float]) -> npt.NDArray[np.str_]:
    order = np.argsort(np.array(times), kind="stable")
    splits = np.full(len(pairs), GATE, dtype="<U8")
    splits[order[: round(_FIT_SHARE * len(pairs))]] = FIT
    fitted = {_identity(pair) for pair, split in zip(pairs, splits, strict=True) if split == FIT}
    repeated = [split == GATE and _identity(pair) in fitted for pair, split in zip(pairs, splits, strict=True)]
    splits[np.array(repeated, dtype=np.bool_)] = LEFT_OUT
    return splits


def _identity(pair: TrainingPair) -> str:
    """Returns the same text for pairs of equal words and an equal document."""
    content = f"{fold(pair.question)}\0{pair.image or fold(pair.text)}"
    return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()


def _parse(lines: Iterable[str], file: Path) -> Iterator[TrainingPair]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{file} line {number}"
        try:
            row = json.loads(line)
        except json.JSONDecodeError as exc:
            raise UsageError(f"{where}: not JSON: {exc.msg}") from exc
        if not isinstance(row, dict):
            raise UsageError(f"{where}: expected a JSON object")
        yield _pair(row, file.parent, where)


def _pair(row: Mapping[str, object], folder: Path, where: str) -> TrainingPair:
    texts = {name: _text(row, name, where) for name in ("question", "text", "image", "lang", "tenant", "split")}
    if not texts["question"].strip() or bool(texts["text"].strip()) == bool(texts["image"]):
        raise UsageError(f'{where}: a pair has a "question", and either "text" or "image"')
    if texts["split"] and texts["split"] not in SPLITS:
        raise UsageError(f"{where}: split {texts['split']!r} is none of {', '.join(SPLITS)}")
    time_s = row.get("time")
    if time_s is not None and (isinstance(time_s, bool) or not isinstance(time_s, int | float)):
        raise UsageError(f'{where}: "time" is seconds since the epoch, got {time_s!r}')
    image = folder / texts["image"] if texts["image"] else None
    if image is not None and not image.is_file():
        raise UsageError(f"{where}: there is no image {texts['image']} in {folder}")
    return TrainingPair(
        texts["question"],
        texts["text"],
        image,
        texts["lang"],
        texts["tenant"],
        None if time_s is None else float(time_s),
        texts["split"],
    )


def _text(row: Mapping[str, object], name: str, where: str) -> str:
    value = row.get(name, "")
    if not isinstance(value, str):
        raise UsageError(f'{where}: "{name}" must be a text, got {value!r}')
    return value
