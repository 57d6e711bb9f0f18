"""`penstock search` against an HTTP server that answers as the query plane does."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from penstock.cli import main as cli
from penstock.observability import tracing
from penstock.observability.open_telemetry import OpenTelemetryTracing

HIT = {
    "id": "0" * 32,
    "collection": "image",
    "score": 0.0164,
    "tenant": "default",
    "topic": "media.image",
    "key": "photos/heron.jpg",
    "part": 0,
    "title": "heron.jpg",
    "text": "",
    "uri": "asset:" + "a" * 64,
    "mime": "image/jpeg",
    "attributes": {},
    "start_ms": 0,
    "end_ms": 0,
    "start_char": 0,
    "end_char": 0,
    "event_time": "2026-03-01T12:00:00.000Z",
    "indexed_at": "2026-03-01T12:00:01.000Z",
    "origin": {"topic": "media.image", "partition": 0, "offset": 7},
    "media_url": "/v1/media/" + "a" * 64,
    "found_by": [{"channel": "image.joint", "rank": 1, "score": 0.31}],
    "moment": None,
}
MEMBER: dict[str, Any] = {"id": "1" * 32, "part": 0, "text": "", "start_ms": 0, "end_ms": 0, "found_by": []}
MOMENT: dict[str, Any] = {
    "start_ms": 65_900,
    "end_ms": 3_675_000,
    "transcript": "The heron came back.",
    "frame": {"id": "1" * 32, "start_ms": 65_900, "end_ms": 70_000},
    "members": [{**MEMBER, "collection": "frame"}, {**MEMBER, "collection": "speech", "text": "The heron came back."}],
}
ANSWER: dict[str, Any] = {
    "hits": [HIT],
    "transcript": None,
    "partial": False,
    "missing": {},
    "took_ms": {"total": 12.6},
    "profile": "reference",
    "notice": "These are tiny models.",
    "notices": ["These are tiny models."],
    "query": {"language": "en"},
}


class QueryPlane(ThreadingHTTPServer):
    """Records its requests, and responds with what the test sets."""

    status = 200
    answer: Any = ANSWER

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.bodies: list[dict[str, Any]] = []
        self.traceparents: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: QueryPlane

    def do_POST(self) -> None:
        self.server.traceparents.append(self.headers["traceparent"])
        self.server.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        body = json.dumps(self.server.answer).encode()
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def plane() -> Iterator[QueryPlane]:
    with QueryPlane() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def search(plane: QueryPlane, *arguments: str) -> int:
    return cli.main(["search", "--url", plane.url, *arguments])


def test_a_hit_is_shown_with_its_place_and_its_channels(plane: QueryPlane, capsys: pytest.CaptureFixture[str]) -> None:
    assert search(plane, "a heron") == 0
    output = capsys.readouterr()
    for shown in ("heron.jpg", "0.0164", "image.joint #1 (0.31)", plane.url + "/v1/media/" + "a" * 64):
        assert shown in output.out
    assert "tiny models" in output.err


def test_a_moment_is_shown_with_its_times_and_its_transcript(
    plane: QueryPlane, capsys: pytest.CaptureFixture[str]
) -> None:
    video = {**HIT, "collection": "frame", "title": "Isar", "moment": MOMENT}
    plane.answer = {**ANSWER, "hits": [video, HIT]}
    assert search(plane, "a heron") == 0
    header, shown, beside = capsys.readouterr().out.splitlines()
    assert "when" in header.split()
    for part in ("frame + speech", "1:05–1:01:15", "Isar The heron came back."):
        assert part in shown
    assert "–" not in beside


def test_a_hit_in_a_document_is_shown_with_its_page(plane: QueryPlane, capsys: pytest.CaptureFixture[str]) -> None:
    page = {**HIT, "collection": "text", "title": "Report", "text": "Sales grew.", "page": 12, "page_label": None}
    plane.answer = {**ANSWER, "hits": [page, {**page, "page": 4, "page_label": "iv"}, HIT]}
    assert search(plane, "sales") == 0
    header, numbered, labelled, other = capsys.readouterr().out.splitlines()
    assert "when" in header.split()
    assert "p. 12 " in numbered
    assert "p. iv (4)" in labelled
    assert "p. " not in other


def test_the_column_of_times_is_left_out_if_no_hit_has_times(
    plane: QueryPlane, capsys: pytest.CaptureFixture[str]
) -> None:
    assert search(plane, "a heron") == 0
    assert "when" not in capsys.readouterr().out.splitlines()[0].split()


def test_relevance_is_shown_where_it_is_known(plane: QueryPlane, capsys: pytest.CaptureFixture[str]) -> None:
    plane.answer = {**ANSWER, "hits": [{**HIT, "relevance": 0.834, "below_floor": False}]}
    assert search(plane, "a heron") == 0
    output = capsys.readouterr()
    assert "83%" in output.out
    assert "Nothing in the index" not in output.err


def test_a_query_without_an_answer_says_so_above_the_nearest_hits(
    plane: QueryPlane, capsys: pytest.CaptureFixture[str]
) -> None:
    hit = {**HIT, "relevance": 0.04, "below_floor": True}
    why = "the best hit has a relevance of 0.04, and the floor is 0.30 (query.relevance_floor)"
    plane.answer = {**ANSWER, "hits": [hit], "nothing_found": True, "why": why}
    assert search(plane, "a submarine") == 0
    output = capsys.readouterr()
    assert "4% (below the floor)" in output.out
    assert f"Nothing in the index answers this well: {why}. The hits above are the nearest there are." in output.err


def test_a_hit_that_is_first_for_its_kind_is_marked(plane: QueryPlane, capsys: pytest.CaptureFixture[str]) -> None:
    plane.answer = {**ANSWER, "hits": [{**HIT, "relevance": 0.04, "below_floor": True, "promoted": True}]}
    assert search(plane, "a submarine") == 0
    assert "4% (below the floor, first for its kind)" in " ".join(capsys.readouterr().out.split())


def test_min_relevance_is_in_the_request(plane: QueryPlane) -> None:
    assert search(plane, "a heron", "--min-relevance", "0.5") == 0
    assert plane.bodies[-1]["min_relevance"] == 0.5


def test_the_file_a_hit_came_from_is_shown_where_it_is_known(
    plane: QueryPlane, capsys: pytest.CaptureFixture[str]
) -> None:
    plane.answer = {**ANSWER, "hits": [{**HIT, "attributes": {"path": "/photos/heron.jpg"}}]}
    assert search(plane, "a heron") == 0
    assert "/photos/heron.jpg" in capsys.readouterr().out


def test_every_option_is_in_the_request(plane: QueryPlane) -> None:
    arguments = ["--modality", "image", "--modality", "text", "--filter", '{"mime": "image/png"}', "--tenant", "acme"]
    arguments += ["--where", "attributes.camera=x100", "--where", "part=0", "--limit", "3", "--deadline-ms", "500"]
    assert search(plane, "a heron", *arguments) == 0
    assert plane.bodies == [
        {
            "text": "a heron",
            "modalities": ["image", "text"],
            "filter": {"and": [{"mime": "image/png"}, {"attributes.camera": "x100"}, {"part": 0}]},
            "tenant": "acme",
            "limit": 3,
            "deadline_ms": 500,
        }
    ]


@pytest.mark.parametrize(
    ("arguments", "fuse"),
    [
        (["--fusion", "rrf"], {"method": "rrf"}),
        (["--normalise", "robust"], {"method": "weighted", "normalise": "robust"}),
        (["--fusion", "rrf", "--normalise", "robust"], {"method": "rrf", "normalise": "robust"}),
    ],
)
def test_the_fusion_is_in_the_request(plane: QueryPlane, arguments: list[str], fuse: dict[str, str]) -> None:
    assert search(plane, "a heron", *arguments) == 0
    assert plane.bodies == [{"text": "a heron", "tenant": "default", "fuse": fuse}]


@pytest.mark.parametrize(
    ("arguments", "body"),
    [
        (["--rerank", "off"], {"rerank": {"model": "off"}}),
        (["--rerank-ms", "50", "--rerank-top", "20"], {"rerank": {"budget_ms": 50, "top": 20}}),
        (["--route", "all"], {"route": "all"}),
        (["--route", "image=2", "--route", "text.lexical=0.5"], {"route": {"image": 2.0, "text.lexical": 0.5}}),
    ],
)
def test_reranking_and_route_are_in_the_request(plane: QueryPlane, arguments: list[str], body: dict[str, Any]) -> None:
    assert search(plane, "a heron", *arguments) == 0
    assert plane.bodies == [{"text": "a heron", "tenant": "default", **body}]


@pytest.mark.parametrize("route", ["some", "image=", "image=much"])
def test_a_route_that_is_no_weight_is_a_usage_error(
    plane: QueryPlane, route: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert search(plane, "a heron", "--route", route) == 2
    assert "is none of auto, all and NAME=WEIGHT" in capsys.readouterr().err


def test_reasons_and_a_proposed_filter_are_shown(plane: QueryPlane, capsys: pytest.CaptureFixture[str]) -> None:
    proposed = {"attributes.camera": "x100"}
    plane.answer = {**ANSWER, "query": {"because": ["The request sets weights."], "proposed_filter": proposed}}
    assert search(plane, "a heron by camera x100") == 0
    captured = capsys.readouterr()
    output = captured.out + captured.err
    assert "The request sets weights." in output
    assert '{"attributes.camera": "x100"}' in output


def test_an_image_is_sent_as_base64(plane: QueryPlane, tmp_path: Path) -> None:
    (tmp_path / "q.jpg").write_bytes(b"\xff\xd8\xff image")
    assert search(plane, "--image", str(tmp_path / "q.jpg")) == 0
    assert base64.b64decode(plane.bodies[0]["image"]) == b"\xff\xd8\xff image"


def test_audio_is_sent_as_base64_and_its_transcript_is_shown(
    plane: QueryPlane, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "q.ogg").write_bytes(b"OggS audio")
    plane.answer = {**ANSWER, "transcript": "a heron in the rain"}
    assert search(plane, "--audio", str(tmp_path / "q.ogg")) == 0
    assert base64.b64decode(plane.bodies[0]["audio"]) == b"OggS audio"
    assert "text" not in plane.bodies[0]
    assert "Transcript of the query: a heron in the rain" in capsys.readouterr().err


def test_an_unreadable_file_or_no_query_is_refused_without_a_request(plane: QueryPlane, tmp_path: Path) -> None:
    assert search(plane, "--audio", str(tmp_path / "none.ogg")) == 2
    assert search(plane) == 2
    assert search(plane, "--not-text", "fog") == 2
    assert plane.bodies == []


def test_an_image_that_is_too_large_is_refused_without_a_request(
    plane: QueryPlane, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (tmp_path / "q.jpg").open("wb") as sink:
        sink.truncate(2 * 1024**3)
    assert search(plane, "--image", str(tmp_path / "q.jpg")) == 2
    assert "2,147,483,648 bytes" in capsys.readouterr().err
    assert plane.bodies == []


def test_all_parts_are_in_one_request(plane: QueryPlane, tmp_path: Path) -> None:
    (tmp_path / "q.jpg").write_bytes(b"\xff\xd8\xff")
    arguments = ["--image", str(tmp_path / "q.jpg"), "--like", "a1", "--like", "b2", "--not-text", "fog"]
    arguments += ["--not-like", "c3", "--frame", "d4", "--compose", "text=0.3, image=0.7,not=1"]
    assert search(plane, "a heron", *arguments) == 0
    assert plane.bodies == [
        {
            "text": "a heron",
            "image": base64.b64encode(b"\xff\xd8\xff").decode(),
            "like": ["a1", "b2"],
            "not": {"text": ["fog"], "like": ["c3"]},
            "frame": {"id": "d4"},
            "compose": {"text": 0.3, "image": 0.7, "not": 1.0},
            "tenant": "default",
        }
    ]


def test_a_region_is_in_the_request(plane: QueryPlane) -> None:
    assert search(plane, "--frame", "d4", "--region", "0.25,0,0.5,1") == 0
    assert plane.bodies[0]["region"] == {"x": 0.25, "y": 0.0, "w": 0.5, "h": 1.0}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["a heron", "--text", "a swan"], "given twice"),
        (["--frame", "d4", "--region", "0,0,1"], "X,Y,W,H"),
        (["--frame", "d4", "--region", "left"], "X,Y,W,H"),
        (["a heron", "--compose", "text"], "PART=WEIGHT"),
        (["a heron", "--compose", "text=much"], "PART=WEIGHT"),
    ],
)
def test_a_malformed_part_is_refused_in_words_without_a_request(
    plane: QueryPlane, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert search(plane, *arguments) == 2
    assert words in capsys.readouterr().err
    assert plane.bodies == []


def test_the_text_may_be_an_option(plane: QueryPlane) -> None:
    assert search(plane, "--text", "a heron") == 0
    assert plane.bodies == [{"text": "a heron", "tenant": "default"}]


def test_the_reasons_of_the_answer_are_shown(plane: QueryPlane, capsys: pytest.CaptureFixture[str]) -> None:
    plane.answer = {**ANSWER, "query": {"because": ["The part image was left out."]}}
    assert search(plane, "a heron") == 0
    assert capsys.readouterr().err.count("The part image was left out.") == 1


def test_what_was_probably_meant_is_shown(plane: QueryPlane, capsys: pytest.CaptureFixture[str]) -> None:
    plane.answer = {**ANSWER, "query": {"did_you_mean": "anchor silver"}}
    assert search(plane, "ancor silvr", "--spelling", "suggest") == 0
    assert "Did you mean: anchor silver" in capsys.readouterr().err
    assert plane.bodies == [{"text": "ancor silvr", "tenant": "default", "understand": {"spelling": "suggest"}}]


def test_options_say_what_is_made_of_the_words(plane: QueryPlane) -> None:
    options = ["--no-synonyms", "--rewrite", "--after", "who built the mill", "--after", "when"]
    assert search(plane, "and the bridge", *options) == 0
    assert plane.bodies == [
        {
            "text": "and the bridge",
            "tenant": "default",
            "understand": {"synonyms": False, "rewrite": True},
            "messages": [{"role": "user", "content": "who built the mill"}, {"role": "user", "content": "when"}],
        }
    ]


def test_a_partial_result_lists_the_missing_channels(plane: QueryPlane, capsys: pytest.CaptureFixture[str]) -> None:
    plane.answer = {**ANSWER, "partial": True, "missing": {"text.lexical": "did not answer within the deadline"}}
    assert search(plane, "a heron") == 0
    output = capsys.readouterr().err
    assert "partial" in output
    assert "text.lexical: did not answer within the deadline" in output


def test_json_is_the_response_itself(plane: QueryPlane, capsys: pytest.CaptureFixture[str]) -> None:
    assert search(plane, "a heron", "--json") == 0
    assert json.loads(capsys.readouterr().out) == ANSWER


@pytest.mark.parametrize(("status", "code"), [(400, 2), (413, 2), (422, 2), (429, 3), (503, 3), (500, 1)])
def test_a_problem_document_becomes_one_line_and_an_exit_code(
    status: int, code: int, plane: QueryPlane, capsys: pytest.CaptureFixture[str]
) -> None:
    plane.status = status
    plane.answer = {"title": "t", "status": status, "detail": "unknown field 'colour'", "field": "/filter/colour"}
    assert search(plane, "a heron") == code
    output = capsys.readouterr().err
    assert "unknown field 'colour'" in output
    assert output.count("\n") == 1


@pytest.mark.parametrize(("status", "outcome"), [(200, "answered"), (503, "failed")])
def test_a_search_begins_a_trace_that_the_query_plane_continues(
    status: int, outcome: str, plane: QueryPlane, capsys: pytest.CaptureFixture[str]
) -> None:
    assert search(plane, "a heron") == 0
    plane.status, exporter = status, InMemorySpanExporter()
    with tracing.using(OpenTelemetryTracing(SimpleSpanProcessor(exporter), sample_rate=1.0)):
        search(plane, "a heron")
    (span,) = exporter.get_finished_spans()
    context = span.get_span_context()
    assert context is not None
    assert plane.traceparents == [None, f"00-{context.trace_id:032x}-{context.span_id:016x}-01"]
    assert span.attributes == {
        "http.request.method": "POST",
        "url.template": "/v1/search",
        "penstock.outcome": outcome,
    }


def test_another_server_on_the_port_is_no_traceback(plane: QueryPlane, capsys: pytest.CaptureFixture[str]) -> None:
    plane.status = 404
    plane.answer = ["not", "a", "problem"]
    assert search(plane, "a heron") == 2
    assert "404" in capsys.readouterr().err
