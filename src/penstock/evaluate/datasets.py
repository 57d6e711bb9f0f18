"""Reads evaluation sets in the folder layout of BEIR (Thakur et al., 2021), extended by images, audio and splits.

corpus.jsonl    {"_id", "title", "text"}; instead of or beside the text "image" or "audio", a path in the folder
queries.jsonl   {"_id", "text", "lang", "kind"}
qrels.tsv       query-id, corpus-id, score; a document with a score above 0 is relevant
split.json      document → train, dev or test; optional
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from penstock.errors import UsageError
from penstock.evaluate.evaluation_set import SPLITS, Document, EvaluationSet, LabelledQuery
from penstock.evaluate.judgements import Judgements


def read_set(folder: Path) -> EvaluationSet:
    """Reads the evaluation set of a folder.

    Raises:
        UsageError: a file is missing or wrong; one line with its name, the line and what is expected.
    """
    documents = tuple(_read_documents(folder))
    queries = tuple(_read_queries(folder))
    judgements = _read_judgements(folder, documents, queries)
    labelled = [row for row, rows in enumerate(judgements.rows()) if len(rows)]
    return EvaluationSet(
        name=folder.resolve().name,
        documents=documents,
        queries=tuple(queries[row] for row in labelled),
        judgements=judgements.take(np.array(labelled, dtype=np.int64)),
        splits=_read_splits(folder, documents),
    )


def _read_documents(folder: Path) -> Iterator[Document]:
    ids: set[str] = set()
    for where, row in _rows(folder / "corpus.jsonl"):
        image, audio = _file(folder, row, "image", where), _file(folder, row, "audio", where)
        document = Document(
            id=_unique_id(row, ids, where),
            title=_text(row, "title", where),
            text=_text(row, "text", where),
            image=image,
            audio=audio,
            style=_text(row, "style", where),
            group=_text(row, "group", where),
        )
        if image and audio:
            raise UsageError(f"{where}: a document has an image or an audio file, not both")
        if not (image or audio or document.text.strip()):
            raise UsageError(f"{where}: document {document.id!r} has none of text, image and audio")
        yield document


def _read_queries(folder: Path) -> Iterator[LabelledQuery]:
    ids: set[str] = set()
    for where, row in _rows(folder / "queries.jsonl"):
        query = LabelledQuery(
            id=_unique_id(row, ids, where),
            text=_text(row, "text", where),
            lang=_text(row, "lang", where) or "en",
            kind=_text(row, "kind", where),
            image=_file(folder, row, "image", where),
        )
        if bool(query.text.strip()) == bool(query.image):
            raise UsageError(f"{where}: query {query.id!r} needs a text or an image, and not both")
        yield query


def _read_judgements(folder: Path, documents: Sequence[Document], queries: Sequence[LabelledQuery]) -> Judgements:
    document_rows = {document.id: row for row, document in enumerate(documents)}
    query_rows = {query.id: row for row, query in enumerate(queries)}
    gains: dict[tuple[int, int], float] = {}
    path = folder / "qrels.tsv"
    for number, line in enumerate(_read(path).split("\n"), start=1):
        if not line.strip() or (number == 1 and line.startswith("query-id")):
            continue
        where = f"{path} line {number}"
        cells = line.rstrip("\r").split("\t")
        if len(cells) != 3 or not re.fullmatch(r"-?\d+(\.\d+)?", cells[2]):
            raise UsageError(f"{where}: expected query-id, corpus-id and a number, separated by tabs")
        if cells[0] not in query_rows:
            raise UsageError(f"{where}: there is no query {cells[0]!r} in queries.jsonl")
        if cells[1] not in document_rows:
            raise UsageError(f"{where}: there is no document {cells[1]!r} in corpus.jsonl")
        if float(cells[2]) > 0:
            gains[query_rows[cells[0]], document_rows[cells[1]]] = float(cells[2])
    return Judgements.of_pairs(((query, row, gain) for (query, row), gain in gains.items()), queries=len(queries))


def _read_splits(folder: Path, documents: Sequence[Document]) -> tuple[str, ...]:
    path = folder / "split.json"
    if not path.exists():
        return ("",) * len(documents)
    try:
        split_of = json.loads(_read(path))
    except json.JSONDecodeError as exc:
        raise UsageError(f"{path} line {exc.lineno}: not JSON: {exc.msg}") from exc
    if not isinstance(split_of, dict):
        raise UsageError(f"{path}: expected an object of document → {', '.join(SPLITS)}")
    for document in documents:
        if split_of.get(document.id) not in SPLITS:
            given = split_of.get(document.id)
            raise UsageError(f"{path}: document {document.id!r} has split {given!r}; expected {', '.join(SPLITS)}")
    return tuple(split_of[document.id] for document in documents)


def _rows(path: Path) -> Iterator[tuple[str, Mapping[str, object]]]:
    """Yields where each line stands, for messages, and its object."""
    for number, line in enumerate(_read(path).split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path} line {number}"
        try:
            row = json.loads(line)
        except json.JSONDecodeError as exc:
            raise UsageError(f"{where}: not JSON: {exc.msg}") from exc
        if not isinstance(row, dict):
            raise UsageError(f"{where}: expected a JSON object")
        yield where, row


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise UsageError(f"{path} cannot be read: {exc}. An evaluation set needs it (docs/evaluate.md)") from exc


def _unique_id(row: Mapping[str, object], ids: set[str], where: str) -> str:
    identity = row.get("_id")
    if not isinstance(identity, str) or not identity:
        raise UsageError(f"{where}: `_id` must be a text that is not empty, got {identity!r}")
    if identity in ids:
        raise UsageError(f"{where}: `_id` {identity!r} occurs twice")
    ids.add(identity)
    return identity


def _text(row: Mapping[str, object], name: str, where: str) -> str:
    value = row.get(name)
    if value is not None and not isinstance(value, str):
        raise UsageError(f"{where}: `{name}` must be a text, got {value!r}")
    return value or ""


def _file(folder: Path, row: Mapping[str, object], name: str, where: str) -> Path | None:
    relative = _text(row, name, where)
    if not relative:
        return None
    if not (folder / relative).is_file():
        raise UsageError(f"{where}: there is no {name} file {relative} in {folder}")
    return folder / relative
