"""The query plane: searches by status and time, their steps and channels, caches, answers, and HTTP by route."""

from __future__ import annotations

from collections.abc import Sequence

from ops.panels import Board, Panel, Query, Row, quantile, rate, recorded, selected

_LATENCY_PAGES = ("PenstockQueryLatencyBudgetBurns",)
_ERROR_PAGES = ("PenstockQueryErrorBudgetBurns",)


def query_board() -> Board:
    """Returns the dashboard of the query plane."""
    return Board(
        "penstock-query",
        "Penstock query",
        "Searches by status and time, their steps and channels, caches, answers, and HTTP by route.",
        (
            Row("Searches", _searches()),
            Row("Steps and channels", _parts()),
            Row("Answers", _answers()),
            Row("Watches", _watches()),
            Row("HTTP", _http()),
        ),
    )


def _searches() -> Sequence[Panel]:
    return (
        Panel(
            "Searches by status",
            "429: the queue is full. 503: the store or an encoder did not answer.",
            "reqps",
            [Query(rate("penstock_query_seconds_count", "status"), "{{status}}")],
            kind="area",
            runbooks=_ERROR_PAGES,
        ),
        Panel(
            "Errors, refusals and partial answers",
            "Shares over five minutes: 5xx and 429 of searches, missing ones of the channels that were searched.",
            "percentunit",
            [Query(recorded("penstock:query_error:ratio_rate5m"), "{{kind}}")],
            warn=0.001,
            alarm=0.01,
            runbooks=(*_ERROR_PAGES, "PenstockPartialAnswers"),
        ),
        Panel(
            "Time of answered searches",
            "In the replica, status 200.",
            "s",
            [
                Query(quantile(share, "penstock_query_seconds", "", 'status="200"'), f"p{share * 100:g}")
                for share in (0.5, 0.95, 0.99)
            ],
            warn=0.15,
            alarm=0.2,
            runbooks=_LATENCY_PAGES,
        ),
        Panel(
            "Distribution of answered searches",
            "Searches per second by the time that they took.",
            "s",
            [Query(rate("penstock_query_seconds_bucket", "le", 'status="200"'), "{{le}}")],
            kind="heatmap",
            runbooks=_LATENCY_PAGES,
        ),
    )


def _parts() -> Sequence[Panel]:
    hits = rate("penstock_cache_requests_total", "cache", 'result="hit"')
    every = rate("penstock_cache_requests_total", "cache")
    return (
        Panel(
            "Time of a step, p95",
            "Of answered searches. A step that grew alone is the reason.",
            "s",
            [Query(quantile(0.95, "penstock_query_step_seconds", "step"), "{{step}}")],
            runbooks=_LATENCY_PAGES,
        ),
        Panel(
            "Time of a channel, p95",
            "From the moment its query vector is ready; answered ones.",
            "s",
            [
                Query(
                    quantile(0.95, "penstock_query_channel_seconds", "channel", 'result="answered"'),
                    "{{channel}}",
                )
            ],
            runbooks=_LATENCY_PAGES,
        ),
        Panel(
            "Missing answers of channels",
            "Per second. An answer without a channel is partial.",
            "eps",
            [Query(rate("penstock_query_channel_seconds_count", "channel", 'result="missing"'), "{{channel}}")],
            without_data="no channel was missing yet",
            runbooks=("PenstockPartialAnswers",),
        ),
        Panel(
            "Words of questions and of the index",
            "Per second: corrected, rewritten or widened questions, and counts of the index's words.",
            "reqps",
            [Query(rate("penstock_understanding_total", "part, result"), "{{part}}: {{result}}")],
        ),
        Panel(
            "Steps left out for the load",
            "Searches of an overloaded replica leave out rewriting, reranking, deeper searches and the channels that "
            "weigh least, in this order.",
            "reqps",
            [Query(rate("penstock_query_shed_total", "step"), "{{step}}")],
        ),
        Panel(
            "Requests beyond the limits",
            "Per second, by whose limit it is and kind. Callers get 429 with the time to wait.",
            "reqps",
            [Query(rate("penstock_requests_limited_total", "scope, kind"), "{{scope}}: {{kind}}")],
            without_data="no request was beyond a limit, or there are none",
        ),
        Panel(
            "Hits of caches",
            "The share of look-ups that a cache answered: of results, of the embeddings of queries, and of those of an "
            "encoder of ingest.",
            "percentunit",
            [Query(f"({hits}\n  or 0 * {every})\n/ ({every} > 0)", "{{cache}}")],
        ),
        Panel(
            "Size of caches",
            "Estimated bytes of cached results, of all replicas. Each keeps at most `query.result_cache_bytes`.",
            "bytes",
            [Query(f"sum by (cache) ({selected('penstock_cache_bytes')})", "{{cache}}")],
        ),
    )


def _answers() -> Sequence[Panel]:
    return (
        Panel(
            "Answers by what wrote them",
            "Per second: by the generator, by quotation (extractive), or none, as the sources do not answer.",
            "reqps",
            [Query(rate("penstock_answers_total", "generator, result"), "{{generator}}: {{result}}")],
            without_data="no question was answered yet",
        ),
        Panel(
            "Sentences of answers",
            "Per second, by what the sources say about them. Dropped ones were not shown.",
            "reqps",
            [Query(rate("penstock_answer_sentences_total", "support, result"), "{{support}}: {{result}}")],
            without_data="no question was answered yet",
        ),
        Panel(
            "Time of a step of an answer, p95",
            "The first token of the generator, all of its text, and the check of the sentences together.",
            "s",
            [Query(quantile(0.95, "penstock_answer_step_seconds", "step"), "{{step}}")],
            without_data="no question was answered yet",
        ),
    )


def _watches() -> Sequence[Panel]:
    return (
        Panel(
            "Events by HTTP",
            "Events of requests to /v1/events per second. `unacknowledged`: Kafka did not take them in time.",
            "short",
            [Query(rate("penstock_received_events_total", "result"), "{{result}}")],
            without_data="nothing was sent to /v1/events",
        ),
        Panel(
            "Feedback",
            "Events per second by their outcome. Dead letters: docs/feedback.md says what to do.",
            "short",
            [Query(rate("penstock_feedback_events_total", "outcome"), "{{outcome}}")],
        ),
        Panel(
            "Watches",
            "Those that are evaluated, and those whose search is invalid under the present settings.",
            "short",
            [Query(f"max by (state) ({selected('penstock_watches')})", "{{state}}")],
        ),
        Panel(
            "Matches of watches",
            "Per second: written to their topic, or dropped as the topic refuses them.",
            "short",
            [Query(rate("penstock_watch_matches_total", "result"), "{{result}}")],
        ),
        Panel(
            "Delay of matches, p95",
            "From the write of an entry to the acknowledgement of its match. Above a few seconds the evaluator is too "
            "slow.",
            "s",
            [Query(quantile(0.95, "penstock_watch_delay_seconds", "collection"), "{{collection}}")],
        ),
    )


def _http() -> Sequence[Panel]:
    return (
        Panel(
            "Requests by route and status",
            "All routes, those of media and health included.",
            "reqps",
            [Query(rate("penstock_http_seconds_count", "route, status"), "{{route}} {{status}}")],
            kind="area",
            runbooks=_ERROR_PAGES,
        ),
        Panel(
            "Time by route, p95",
            "In the replica, over all statuses.",
            "s",
            [Query(quantile(0.95, "penstock_http_seconds", "route"), "{{route}}")],
            runbooks=_LATENCY_PAGES,
        ),
    )
