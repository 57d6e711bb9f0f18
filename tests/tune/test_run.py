"""Tests of tuning with the double, whose cells miss vectors as those of a server do."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from penstock.config import VectorIndexSettings, load_settings
from penstock.errors import PermanentError, UsageError
from penstock.store.memory_trials import MemoryTrials
from penstock.tune.choice import IndexCandidate, candidates, cheapest, pareto_front
from penstock.tune.grid import builds
from penstock.tune.measure import DirectionFigures, Point
from penstock.tune.plot import draw
from penstock.tune.run import TuneOptions, TuneResult, tune
from penstock.tune.settings_file import write_settings
from tests.tune.made_banks import made_bank


@pytest.fixture(scope="module")
def result() -> TuneResult:
    banks = [made_bank(), made_bank(700, channel="frame.joint", seed=8)]
    return tune(MemoryTrials(), banks, TuneOptions(target_recall=0.9, limit=10))


def by_name(result: TuneResult) -> dict[str, IndexCandidate]:
    return {candidate.name: candidate for candidate in result.candidates}


def test_flat_finds_everything_and_one_cell_does_not(result: TuneResult) -> None:
    tried = by_name(result)
    assert tried["FLAT"].least_recall == 1.0
    assert tried["IVF_FLAT nlist 16 nprobe 1"].least_recall < 0.9


def test_words_need_more_cells_than_images(result: TuneResult) -> None:
    recalls = by_name(result)["IVF_FLAT nlist 16 nprobe 1"].recalls()
    assert recalls["words → image.joint"] < recalls["images → image.joint"] - 0.05


def test_recall_grows_with_the_cells_that_are_read(result: TuneResult) -> None:
    recalls = [by_name(result)[f"IVF_FLAT nlist 16 nprobe {probes}"].least_recall for probes in (1, 4, 8)]
    assert recalls == sorted(recalls)


def test_the_choice_meets_the_target_in_every_direction_of_every_channel(result: TuneResult) -> None:
    assert result.chosen is not None
    recalls = result.chosen.recalls()
    assert len(recalls) == 4
    assert min(recalls.values()) >= 0.9


def test_filters_and_a_cold_start_are_measured_for_the_choice(result: TuneResult) -> None:
    of_words = [row for row in result.conditions if row.direction == "words → image.joint"]
    conditions = ["1 % allowed", "10 % allowed", "50 % allowed", "first search after a start"]
    assert [row.condition for row in of_words] == conditions
    assert all(0 <= row.figures.recall <= 1 and row.figures.p50_ms > 0 for row in result.conditions)


def test_the_result_is_json_that_names_the_settings(result: TuneResult) -> None:
    document = json.loads(json.dumps(result.to_json()))
    assert document["settings"]["type"] == result.chosen.index.type  # type: ignore[union-attr]
    assert "FLAT" in {point["name"] for point in document["points"]}


def test_only_the_wanted_types_that_the_server_has_are_tried() -> None:
    options = TuneOptions(target_recall=0.9, limit=10, index_types=("IVF_SQ8", "SCANN"), conditions=False)
    kinds = {point.index.type for point in tune(MemoryTrials(), [made_bank()], options).points}
    assert kinds == {"FLAT", "IVF_SQ8"}, "FLAT is the base"


# --- choice ----------------------------------------------------------------------------------------------------------


def candidate(name: str, recall: float, cost_ms: float, size: int, **settings: object) -> IndexCandidate:
    figures = {"words": DirectionFigures(recall, recall, cost_ms, cost_ms, 1.0)}
    index = VectorIndexSettings.model_validate({"type": name, **settings})
    return IndexCandidate(index, [Point("text.passage", index, 100, 1.0, size, figures)])


FLAT = candidate("FLAT", 1.0, 40.0, 400)
FAST = candidate("HNSW", 0.96, 5.0, 500)
SMALL = candidate("HNSW_SQ", 0.955, 5.3, 150)
LOSSY = candidate("IVF_SQ8", 0.9, 2.0, 100)
SLOW = candidate("IVF_FLAT", 0.95, 12.0, 400)
ALL = [FLAT, FAST, SMALL, LOSSY, SLOW]


def test_of_about_equal_time_the_smaller_index_is_chosen() -> None:
    assert cheapest(ALL, 0.95) is SMALL
    assert cheapest(ALL, 0.96) is FAST
    assert cheapest(ALL, 0.5) is LOSSY
    assert cheapest([FAST, LOSSY], 0.99) is None


def test_the_front_has_what_no_other_beats_in_both() -> None:
    assert pareto_front(ALL) == [LOSSY, FAST, FLAT]


def test_a_setting_that_one_channel_lacks_cannot_be_chosen() -> None:
    elsewhere = replace(FLAT.points[0], channel="image.joint")
    assert [tried.name for tried in candidates([*FLAT.points, *FAST.points, elsewhere])] == ["FLAT"]


def test_no_beam_is_narrower_than_what_is_wanted() -> None:
    tried = [index for build in builds(("FLAT", "HNSW"), 50_000, limit=50) for index in build.searches]
    assert min(index.ef for index in tried if index.type == "HNSW") == 50
    assert tried[0].type == "FLAT"
    quick = list(builds(("FLAT", "HNSW", "IVF_FLAT"), 50_000, limit=10, quick=True))
    assert [build.index.type for build in quick] == ["FLAT", "HNSW", "IVF_FLAT"]


def test_the_double_refuses_an_index_that_it_lacks() -> None:
    trials = MemoryTrials()
    trials.load(made_bank().vectors)
    with pytest.raises(PermanentError, match="memory has no index HNSW"):
        trials.build(VectorIndexSettings(type="HNSW"))


# --- plot and settings --------------------------------------------------------------------------------------------


def test_the_plot_has_every_candidate_the_target_and_the_choice() -> None:
    root = ElementTree.fromstring(draw(ALL, 0.95, SMALL, title="a <store> & more"))
    titles = [element.text or "" for element in root.iter("{http://www.w3.org/2000/svg}title")]
    assert titles[0] == "a <store> & more"
    assert len([title for title in titles if "recall@10" in title]) == len(ALL)
    texts = [element.text or "" for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "target 0.95" in texts
    assert f"○ {SMALL.name}" in texts
    rings = [element for element in root.iter("{http://www.w3.org/2000/svg}circle") if element.get("fill") == "none"]
    assert len(rings) == 1


def test_the_settings_that_are_written_are_those_that_are_read(no_settings: Path) -> None:
    file = no_settings / "penstock.toml"
    file.write_text(
        'profile = "small"  # kept\n\n[store]\nuri = "http://one:19530"\n\n[query]\ncandidates = 40\n', "utf-8"
    )
    chosen = candidate("HNSW_SQ", 0.96, 1.0, 1, m=32, ef_construction=400, ef=128).index
    for _ in range(2):
        write_settings(chosen, file, reason="measured")
    text = file.read_text("utf-8")
    assert text.count("[store.index]") == 1
    assert "# kept" in text
    settings = load_settings()
    assert (settings.store.index.type, settings.store.index.m, settings.store.index.ef) == ("HNSW_SQ", 32, 128)
    assert (settings.store.uri, settings.query.candidates) == ("http://one:19530", 40)


def test_a_file_that_has_the_index_in_another_form_stays_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "penstock.toml"
    for text in ("[store]\nindex = { ef = 200 }\n", "[store]\nuri = \n"):
        file.write_text(text, "utf-8")
        with pytest.raises(UsageError):
            write_settings(VectorIndexSettings(type="HNSW"), file, reason="measured")
        assert file.read_text("utf-8") == text
