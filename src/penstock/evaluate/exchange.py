"""Reads and writes runs in the formats of trec_eval and BEIR, so that other tools can check the figures.

trec    RUN.trec: query-id Q0 document-id rank score tag; RUN.qrels: query-id 0 document-id gain
beir    RUN.json: query → document → score; RUN.tsv: query-id, corpus-id, score
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from penstock.errors import UsageError
from penstock.evaluate.evaluation_set import EvaluationSet
from penstock.evaluate.judgements import Judgements
from penstock.evaluate.metrics import Run, order_against

FORMATS = ("trec", "beir")
_TAG = "penstock"


def export_run(
    dataset: EvaluationSet, queries: npt.NDArray[np.int64], run: Run, folder: Path, *, form: str
) -> tuple[Path, Path]:
    """Writes the run and the judgements of some queries, and returns the paths of the two files.

    Documents of equal score are written in the order in which they count, with scores that fall from rank to rank, so
    that tools with another rule for ties compute the same figures.

    Args:
        dataset: the set.
        queries: int64[n], rows of queries.
        run: its rows are those of `queries`.
        folder: the files are named after the set.
        form: trec or beir.

    Raises:
        UsageError: the files cannot be written.
    """
    judgements = dataset.judgements.take(queries)
    ranked = order_against(run, judgements)
    ids = [dataset.queries[query].id for query in queries.tolist()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if form == "trec":
            return _export_trec(dataset, ids, ranked, judgements, folder)
        return _export_beir(dataset, ids, ranked, judgements, folder)
    except OSError as exc:
        raise UsageError(f"the run cannot be written to {folder}: {exc.strerror}") from exc


def import_run(dataset: EvaluationSet, path: Path) -> Run:
    """Reads a run in the format of trec_eval for all queries of a set. Those that it lacks found nothing.

    Raises:
        UsageError: a line is wrong or names an unknown document; with file and line.
    """
    query_rows = {query.id: row for row, query in enumerate(dataset.queries)}
    document_rows = {document.id: row for row, document in enumerate(dataset.documents)}
    scores: list[dict[int, float]] = [{} for _ in dataset.queries]
    for where, cells in _lines(path):
        query, _, document, _, score, *_ = cells
        if document not in document_rows:
            raise UsageError(f"{where}: set {dataset.name} has no document {document!r}")
        if query in query_rows:  # the run may be of all splits
            scores[query_rows[query]][document_rows[document]] = _number(score, where)
    depth = max(1, *(len(of_query) for of_query in scores))
    documents = np.full((len(scores), depth), -1, dtype=np.int64)
    values = np.full((len(scores), depth), -np.inf)
    for row, of_query in enumerate(scores):
        documents[row, : len(of_query)] = list(of_query)
        values[row, : len(of_query)] = list(of_query.values())
    return Run(documents, values)


def _lines(path: Path) -> Iterator[tuple[str, list[str]]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise UsageError(f"the run {path} cannot be read: {exc}") from exc
    for number, line in enumerate(lines, start=1):
        cells = line.split()
        if cells and len(cells) != 6:
            raise UsageError(f"{path} line {number}: expected query-id Q0 document-id rank score tag")
        if cells:
            yield f"{path} line {number}", cells


def _number(text: str, where: str) -> float:
    try:
        return float(text)
    except ValueError as exc:
        raise UsageError(f"{where}: the score {text!r} is no number") from exc


def _export_trec(
    dataset: EvaluationSet, ids: list[str], ranked: npt.NDArray[np.int64], judgements: Judgements, folder: Path
) -> tuple[Path, Path]:
    run_file, qrels_file = folder / f"{dataset.name}.trec", folder / f"{dataset.name}.qrels"
    lines = [
        f"{query} Q0 {dataset.documents[row].id} {rank} {len(rows) - rank + 1} {_TAG}\n"
        for query, rows in zip(ids, ranked.tolist(), strict=True)
        for rank, row in enumerate(rows, start=1)
        if row >= 0
    ]
    run_file.write_text("".join(lines), encoding="utf-8")
    qrels = [f"{ids[query]} 0 {document} {gain:g}\n" for query, document, gain in _pairs(dataset, judgements)]
    qrels_file.write_text("".join(qrels), encoding="utf-8")
    return run_file, qrels_file


def _export_beir(
    dataset: EvaluationSet, ids: list[str], ranked: npt.NDArray[np.int64], judgements: Judgements, folder: Path
) -> tuple[Path, Path]:
    run_file, qrels_file = folder / f"{dataset.name}.json", folder / f"{dataset.name}.tsv"
    run = {
        query: {dataset.documents[row].id: float(len(rows) - rank) for rank, row in enumerate(rows) if row >= 0}
        for query, rows in zip(ids, ranked.tolist(), strict=True)
    }
    run_file.write_text(json.dumps(run, ensure_ascii=False), encoding="utf-8")
    qrels = [f"{ids[query]}\t{document}\t{gain:g}\n" for query, document, gain in _pairs(dataset, judgements)]
    qrels_file.write_text("".join(["query-id\tcorpus-id\tscore\n", *qrels]), encoding="utf-8")
    return run_file, qrels_file


def _pairs(dataset: EvaluationSet, judgements: Judgements) -> Iterator[tuple[int, str, float]]:
    pairs = zip(
        judgements.query_of_pair.tolist(), judgements.documents.tolist(), judgements.gains.tolist(), strict=True
    )
    return ((query, dataset.documents[row].id, gain) for query, row, gain in pairs)
