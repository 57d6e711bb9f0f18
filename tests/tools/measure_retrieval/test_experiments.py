"""Tests of the blocks of experiments: their record, their page, and what the short section has of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.measure_retrieval.experiment_blocks import EXPERIMENTS, run_experiment
from tools.measure_retrieval.experiment_tables import Sources
from tools.measure_retrieval.experiments import Experiment, Table, experiment_page, read_experiment
from tools.measure_retrieval.page import RESULTS
from tools.measure_retrieval.two_minutes import two_minutes

ROWS = [
    ["whole", "384", "fp32", "1,536", "50.0", "53.2", "+0.0", "1.0000"],
    ["whole", "384", "int8", "384", "50.0", "53.1", "-0.1 [-0.2, +0.1]", "1.0000"],
]
COLUMNS = ("vectors", "dimensions", "values", "bytes", "MRR@10", "nDCG@10", "Δ nDCG@10", "p (Holm)")
MADE = Experiment(
    "I", "Compression", "What it is.", "make measure", 12.3, [Table("made", COLUMNS, ROWS)], "abc", "a machine"
)


def test_a_block_is_read_as_it_was_written(tmp_path: Path) -> None:
    read = read_experiment(MADE.write(tmp_path))
    assert experiment_page(read) == experiment_page(MADE)
    assert (read.letter, read.seconds, read.commit) == ("I", 12.3, "abc")


def test_the_page_of_a_block_has_every_cell_and_its_provenance() -> None:
    page = "\n".join(experiment_page(MADE))
    assert "## I. Compression" in page
    assert "Commit abc; a machine; 12 s by `make measure`." in page
    assert "| whole | 384 | int8 | 384 | 50.0 | 53.1 | -0.1 [-0.2, +0.1] | 1.0000 |" in page


def test_the_short_section_takes_its_figures_from_the_blocks() -> None:
    section = "\n".join(two_minutes([], [MADE]))
    assert "Δ nDCG@10 -0.1 [-0.2, +0.1] (made)" in section
    assert "penstock tune" not in section, "indexes were not measured"


def test_a_block_without_its_sets_is_left_out(tmp_path: Path) -> None:
    sources = Sources(tmp_path, tmp_path, ("reference", "shelf"))
    for letter in EXPERIMENTS:
        assert run_experiment(letter, sources, command="make measure") is None


@pytest.mark.parametrize("file", sorted(RESULTS.glob("experiment-*.json")), ids=lambda file: file.stem)
def test_committed_blocks_are_complete(file: Path) -> None:
    experiment = read_experiment(file)
    assert experiment.letter in EXPERIMENTS
    for table in experiment.tables:
        assert table.rows
        assert {len(row) for row in table.rows} == {len(table.columns)}


def committed(letter: str) -> Experiment:
    return read_experiment(RESULTS / f"experiment-{letter}.json")


def test_a_byte_a_dimension_costs_at_most_a_fifth_of_a_point() -> None:
    costs = [
        float(row[6].split()[0])
        for table in committed("I").tables
        for row in table.rows
        if (row[0], row[2]) == ("whole", "int8")
    ]
    assert len(costs) >= 3
    assert min(costs) >= -0.2


def test_a_trained_head_keeps_more_than_pca_at_a_third_of_the_dimensions() -> None:
    (table,) = (table for table in committed("I").tables if "wordnet" in table.title)
    kept = {row[0]: float(row[5].split()[0]) for row in table.rows if (row[1], row[2]) == ("128", "fp32")}
    assert kept["matryoshka head"] > kept["pca of documents and queries"] > kept["prefix, untrained"]


def test_words_find_less_than_images_in_the_same_index() -> None:
    recalls = {(row[0], row[3]): float(row[4]) for row in committed("J").tables[0].rows}
    narrowest = "HNSW m 16 ef_construction 200 ef 10"
    assert recalls[narrowest, "words → image.joint"] < recalls[narrowest, "images → image.joint"] - 0.1
