"""`penstock bench`: how fast it is on this machine, beside the loops and the parts that it is made of."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from penstock.cli.common import JsonFlag
from penstock.cli.render import print_json, print_table, say

app = typer.Typer(no_args_is_help=True, help="Measure speed on this machine; starts what it needs, and stops it.")

_INGEST_ROWS = (
    ("bare_per_s", "(a) the bare loop: batches of 32, decode beside encode", "images/s"),
    ("naive_per_s", "(b) poll one, decode, encode, upsert, commit", "images/s"),
    ("naive_batched_per_s", "(c) the same in batches of 32", "images/s"),
    ("pipeline_per_s", "(d) Penstock, from Kafka to searchable", "images/s"),
    ("efficiency", "(d) / (a)", ""),
    ("transport_per_s", "transport alone: 1 kB events, 512-d, no model", "events/s"),
    ("store_alone_per_s", "one writer and the store with nothing before them", "events/s"),
    ("freshness_p50_s", "produced → searchable at half of (d)'s rate, p50", "s"),
    ("freshness_p95_s", "the same, p95", "s"),
    ("freshness_p99_s", "the same, p99", "s"),
    ("hearing_across_per_s", "speech of short clips, windows of all in one batch", "clips/s"),
    ("hearing_by_file_per_s", "the same by faster-whisper's batched pipeline, file by file", "clips/s"),
    ("hearing_ratio", "the one over the other, median of the rounds", ""),
    ("clips_alone_p95_s", "clips of 3 s, produced → searchable, p95", "s"),
    ("clips_beside_p95_s", "the same while a long recording is indexed", "s"),
    ("clips_ratio", "the one over the other", ""),
    ("long_took_s", "the long recording, produced → searchable", "s"),
    ("long_peak_mb", "ingest plane's memory with it (sum of PSS), peak", "MB"),
    ("peak_rss_mb", "ingest plane's memory (sum of PSS), peak", "MB"),
    ("memory_growth", "growth of it from event 2,000 to 20,000 of 100 kB", ""),
)


# The ingest plane has a row of its own.
_PARTS = {"store": "the store", "broker": "the broker", "query": "the query plane"}


def _ingest_rows(figures: Mapping[str, Any]) -> list[dict[str, str]]:
    """Returns a table row for each figure that was measured."""
    rows = [(_figure(figures.get(name)), description, unit) for name, description, unit in _INGEST_ROWS]
    if figures.get("memory_bound_mb") is not None:
        rows.append((_figure(figures["memory_peak_mb"]["ingest"]), _within(figures), "MB"))
    for part, megabytes in (figures.get("peak_by_part_mb") or {}).items():
        if part in _PARTS:
            rows.append((_figure(megabytes), f"beside it, memory of {_PARTS[part]}, peak", "MB"))
    return [{"what": description, "figure": figure, "unit": unit} for figure, description, unit in rows if figure]


def _within(figures: Mapping[str, Any]) -> str:
    """Describes the bound of the ingest plane's memory, and whether it was kept."""
    bound, constant = figures["memory_bound_mb"], figures["memory_constant_mb"]
    kept = "kept" if figures["memory_within_bound"] else "exceeded"
    return (
        f"ingest plane's memory at most, bound {_figure(bound)} MB ({_figure(bound - constant)} of budget and "
        f"{_figure(constant)} beside it): {kept}"
    )


@app.command("ingest")
def ingest(
    *,
    model: Annotated[
        str, typer.Option(help="An architecture of open_clip (random weights), reference, null, or a profile.")
    ] = "ViT-B-32",
    measure: Annotated[
        list[str] | None,
        typer.Option(
            help="rounds, freshness, transport, memory, transcription or long; repeatable. Default: the first three."
        ),
    ] = None,
    images: Annotated[int, typer.Option(min=1, help="Images of a round.")] = 512,
    rounds: Annotated[int, typer.Option(min=1, help="Interleaved rounds; medians are reported.")] = 5,
    events: Annotated[int, typer.Option(min=1, help="Events of a round of the transport.")] = 10_000,
    long_minutes: Annotated[float, typer.Option(min=5, help="Minutes of the long recording.")] = 120.0,
    freshness_s: Annotated[float, typer.Option(min=1, help="Seconds of events at half the rate.")] = 30.0,
    store_uri: Annotated[
        str | None,
        typer.Option(
            metavar="URI", help="An empty Milvus to measure with, which is written to; default: embedded Lite."
        ),
    ] = None,
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16 or fp16.")] = "auto",
    encoder_threads: Annotated[int, typer.Option(min=0, help="CPU threads of the encoders; 0: every core.")] = 0,
    as_json: JsonFlag = False,
) -> None:
    """Measure images per second from Kafka to searchable, beside the loops that people write.

    Starts a whole Penstock on a temporary folder and stops it. Run nothing else on the machine during that time.
    """
    from benchmarks.ingest import IngestMeasure, IngestPlan, bench_ingest
    from penstock.errors import ConfigError

    try:
        measures = frozenset(map(IngestMeasure, measure or ("rounds", "freshness", "transport")))
    except ValueError as exc:
        raise ConfigError(f"--measure: {exc}; take {', '.join(IngestMeasure)}") from exc
    plan = IngestPlan(
        model=model,
        measures=measures,
        images=images,
        rounds=rounds,
        freshness_s=freshness_s,
        transport_events=events,
        long_minutes=long_minutes,
        store_uri=store_uri,
        precision=precision,
        encoder_threads=encoder_threads,
    )
    with _stopped_in_order():
        figures = bench_ingest(plan, say)
    if as_json:
        print_json(figures)
        return
    _say_machine(figures["machine"])
    print_table(_ingest_rows(figures))


@app.command("query")
def query(
    context: typer.Context,
    *,
    entries: Annotated[int, typer.Option(min=2, help="Entries of the index, half texts and half images.")] = 20_000,
    clients: Annotated[list[int] | None, typer.Option(min=1, help="Repeatable. Default: 1, 8 and 32.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of all; medians are reported.")] = 3,
    seconds: Annotated[float, typer.Option(min=0.1, help="Of each measurement in each round.")] = 6.0,
    store_uri: Annotated[
        str | None,
        typer.Option(
            metavar="URI", help="An empty Milvus to measure with, which is written to; default: embedded Lite."
        ),
    ] = None,
    steps: Annotated[
        bool, typer.Option("--steps", help="Measure the steps of a search on and off, instead of its parts.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Measure POST /v1/search beside the store's search of the same channels, the encoder and an empty route.

    Starts a whole Penstock on a temporary folder and stops it. Run nothing else on the machine during that time.
    """
    from benchmarks.query import QueryPlan, bench_query

    plan = QueryPlan(
        profile=context.obj.overrides.get("profile", "reference"),
        entries=entries,
        clients=clients or (1, 8, 32),
        rounds=rounds,
        seconds=seconds,
        store_uri=store_uri,
        steps=steps,
    )
    with _stopped_in_order():
        figures = bench_query(plan, say)
    if as_json:
        print_json(figures)
        return
    _say_machine(figures["machine"])
    typer.echo(f"{figures['entries']:,} entries in {figures['store']}, channels {', '.join(figures['channels'])}")
    print_table(query_table(figures["rows"], steps=steps))


def query_table(rows: Sequence[Mapping[str, Any]], *, steps: bool) -> list[dict[str, str]]:
    """Returns the rows of `bench_query` as text."""
    columns = _STEP_COLUMNS if steps else _QUERY_COLUMNS
    return [{name: _figure(row[name]) if name != "request" else row[name] for name in columns} for row in rows]


_STEP_COLUMNS = ("request", "clients", "p50_ms", "p95_ms", "per_s", "of_steps_off", "above_steps_off_ms",
                 "above_route_ms", "query_cpu_ms")  # fmt: skip
_QUERY_COLUMNS = ("clients", "api_p50_ms", "api_p95_ms", "api_per_s", "store_p50_ms", "store_per_s",
                  "encoder_p50_ms", "encoder_per_s", "route_p50_ms", "above_parts_ms", "above_route_ms", "parts_per_s",
                  "share_of_parts", "api_query_cpu_ms")  # fmt: skip


@app.command("ask")
def ask(
    context: typer.Context,
    *,
    half: Annotated[
        str, typer.Option(help="Of the questions: report, or tune, by which constants were chosen.")
    ] = "report",
    generator: Annotated[
        str, typer.Option(help="smollm2 (runs it), none, or the base URL of an endpoint of chat completions.")
    ] = "smollm2",
    model: Annotated[str, typer.Option(help="The model of that endpoint.")] = "default",
    timed: Annotated[int, typer.Option(min=1, help="Questions by which the first token is measured.")] = 10,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Questions with and without an answer; default: all 40 each.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Measure answers: which are right, which questions get none, and the first token beside the bare generator's.

    The index is that of the demo, with notes of planted facts; answers are judged by strings.
    """
    from benchmarks.answers import AnswersPlan, bench_answers

    profile = context.obj.overrides.get("profile", "reference")
    plan = AnswersPlan(profile=profile, half=half, generator=generator, model=model, timed=timed, limit=limit)
    figures = bench_answers(plan, say)
    if as_json:
        print_json(figures)
        return
    _say_machine(figures["machine"])
    print_table(_answer_rows(figures))
    for name in ("extractive", "model"):
        for example in figures.get(name, {}).get("not_right", ()):
            say(f"{name}: {example}")
    if "speed" in figures:
        speed = figures["speed"]
        say(
            f"The first token comes after the search and {_figure(speed['first_token_less_search_by_bare'])} of the "
            f"time of the bare generator's, tokens at {_figure(speed['tokens_per_s_by_bare'])} of its rate."
        )


def _answer_rows(figures: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for name in ("extractive", "model"):
        if name not in figures:
            continue
        quality = figures[name]
        rows.append(
            {
                "answers": name,
                "right (model)": quality["right"].get("model", 0),
                "right (quoted)": quality["right"].get("extractive", 0),
                "of": quality["answerable"],
                "wrong": sum(quality["wrong"].values()),
                "missed": quality["missed"],
                "abstained": quality["abstained"],
                "of ": quality["unanswerable"],
                "sentences": quality["sentences_shown"],
                "unsupported": len(quality["unsupported_shown"]),
                "check ms": quality["check_ms_per_sentence"].get("p95"),
            }
        )
    return rows


@app.command("faults")
def faults(
    context: typer.Context,
    *,
    entries: Annotated[int, typer.Option(min=2, help="Entries of the index, half texts and half images.")] = 400,
    searches: Annotated[int, typer.Option(min=1, help="Searches of each measurement.")] = 200,
    deadline_ms: Annotated[int, typer.Option(min=1, help="Deadline of searches with dead parts.")] = 50,
    budget_ms: Annotated[int, typer.Option(min=1, help="Budget of reranking.")] = 50,
    clients: Annotated[list[int] | None, typer.Option(min=1, help="Of reranking; repeatable. Default: 1, 8.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Measure whether searches keep their deadlines with dead parts, and reranking its budget.

    Dead are a channel of the store, the encoder of questions, the reranking model, the generator, and all together.
    """
    from benchmarks.query_faults import FaultsPlan, bench_faults

    plan = FaultsPlan(
        profile=context.obj.overrides.get("profile", "reference"),
        entries=entries,
        searches=searches,
        deadline_ms=deadline_ms,
        budget_ms=budget_ms,
        clients=clients or (1, 8),
    )
    figures = bench_faults(plan, say)
    if as_json:
        print_json(figures)
        return
    _say_machine(figures["machine"])
    for rows in (figures["faults"], figures["rerank"]):
        print_table(
            [{name: value if isinstance(value, str) else _figure(value) for name, value in row.items()} for row in rows]
        )


@app.command("encode")
def encode(
    context: typer.Context,
    *,
    model: Annotated[
        str | None, typer.Option(help="An architecture of open_clip with random weights, instead of --profile.")
    ] = None,
    batch: Annotated[list[int] | None, typer.Option(min=1, help="Repeatable. Default: 1, 8, 32, 128.")] = None,
    precision: Annotated[
        list[str] | None, typer.Option(help="auto, fp32, bf16 or fp16; repeatable. Default: auto.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0: every core.")] = 0,
    seconds: Annotated[float, typer.Option(min=0.1, help="Of each measurement; three calls at least.")] = 2.0,
    as_json: JsonFlag = False,
) -> None:
    """Measure every encoder of the profile alone: items per second, and its share of what the device can do.

    Needs no Kafka, Milvus or Ray.
    """
    from benchmarks.encode import EncodePlan, bench_encode

    plan = EncodePlan(
        profile=f"random:{model}" if model else context.obj.overrides.get("profile", "reference"),
        batches=batch or (1, 8, 32, 128),
        precisions=precision or ("auto",),
        device=device,
        threads=threads,
        seconds=seconds,
    )
    figures = bench_encode(plan, say)
    if as_json:
        print_json(figures)
        return
    _say_machine(figures["machine"])
    for name, peak in figures["peak_gflop_per_s"].items():
        typer.echo(f"peak in {name}: {peak:,.0f} GFLOP/s, by a large matrix product")
    print_table([{name: _shown(row[name]) for name in row if name != "no_share"} for row in figures["rows"]])
    for line in dict.fromkeys((*_reasons(figures["rows"]), *figures["left_out"])):
        typer.echo(line)


@app.command("words")
def words(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="An evaluation set whose corpus.jsonl has `audio` and `text`.")],
    *,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first recordings.")] = None,
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0: every core.")] = 0,
    as_json: JsonFlag = False,
) -> None:
    """Measure the word error rate of the profile's speech model on recordings of English whose words are known.

    Texts are normalised as in the paper on Whisper: case, punctuation and the writing of numbers do not count.
    """
    from benchmarks.word_errors import bench_word_errors
    from penstock.encoders.profiles import load_profile

    profile = load_profile(context.obj.overrides.get("profile", "reference"))
    figures = bench_word_errors(profile, folder, limit=limit, threads=threads)
    if as_json:
        print_json(figures)
        return
    typer.echo(
        f"word error rate {figures['word_error_rate']:.1%}: {figures['errors']} errors in {figures['words']} words of "
        f"{figures['recordings']} recordings, {figures['audio_s']:.0f} s"
    )
    typer.echo(
        f"{figures['times_real_time']:.1f} × real time; {figures['times_real_time_by_cpu']:.1f} × by CPU time; "
        f"windows by language: {figures['languages']}"
    )


def _reasons(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Why a row has no share of the peak."""
    for row in rows:
        if row["no_share"]:
            yield f"{row['role']} {row['precision']}: no share of the peak, as {row['no_share']}"


def _shown(value: float | str | None) -> str:
    return value if isinstance(value, str) else _figure(value)


@contextmanager
def _stopped_in_order() -> Iterator[None]:
    """SIGTERM ends a measurement as Ctrl-C does: all that was started is stopped, and its folder deleted."""

    def leave(number: int, _frame: object) -> None:
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _figure(value: float | None) -> str:
    """Three digits that say something."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _say_machine(machine: Mapping[str, Any]) -> None:
    load = machine["load_before"][0]
    typer.echo(
        f"{machine['cores']} cores of {machine['cpu']} ({', '.join(machine['flags'])}), {machine['memory_gb']} GB, "
        f"{machine['precision']} on {machine['device']}, load before {load}"
    )
