"""The ingest plane: lag and freshness, what lanes do, and where the time of a batch goes."""

from __future__ import annotations

from collections.abc import Sequence

from ops.panels import Board, Panel, Query, Row, mean, quantile, rate, selected

_FRESHNESS_PAGES = ("PenstockFreshnessBudgetBurns",)


def ingest_board() -> Board:
    """Returns the dashboard of the ingest plane."""
    return Board(
        "penstock-ingest",
        "Penstock ingest",
        "Lag and freshness, what lanes do, and where the time of a batch goes.",
        (
            Row("Lag and freshness", (*_lag(), *_freshness())),
            Row("Lanes", _lanes()),
            Row("Steps", _steps()),
            Row("Re-index", _reindex()),
        ),
    )


def _lag() -> Sequence[Panel]:
    return (
        Panel(
            "Lag by topic",
            "Offsets that are not committed yet, as the broker reports them.",
            "short",
            [Query(f"sum by (topic) (max by (topic, partition) ({selected('penstock_lag_records')}))", "{{topic}}")],
            runbooks=("PenstockIngestStalled", *_FRESHNESS_PAGES),
        ),
        Panel(
            "Lag by partition, the ten largest",
            "A single partition that grows alone is halted, or works on long media.",
            "short",
            [
                Query(
                    f"topk(10, max by (topic, partition) ({selected('penstock_lag_records')}))",
                    "{{topic}} {{partition}}",
                )
            ],
            runbooks=("PenstockPartitionHalted",),
        ),
        Panel(
            "Age of the oldest unsettled event",
            "From its timestamp to now, by topic. Compare it with the retention of the topic.",
            "s",
            [Query(f"max by (topic) ({selected('penstock_oldest_unsettled_seconds')})", "{{topic}}")],
            warn=60,
            alarm=900,
            runbooks=("PenstockOldestUnsettled",),
        ),
        Panel(
            "Items of penstock produce",
            "Per second, of commands that run on these nodes. The others are in what they print.",
            "short",
            [Query(rate("penstock_produced_items_total", "result"), "{{result}}")],
            without_data="no `penstock produce` runs on these nodes",
        ),
        Panel(
            "Held lanes and halted partitions",
            "Lanes that receive nothing, by cause, and halted partitions. `budget` is normal at full load.",
            "short",
            [Query(f"sum by (why) ({selected('penstock_held')})", "{{why}}")],
            warn=0.5,
            alarm=1,
            runbooks=("PenstockIngestHeld", "PenstockPartitionHalted"),
        ),
    )


def _freshness() -> Sequence[Panel]:
    return (
        Panel(
            "Freshness, median and p95",
            "From produced to acknowledged by the store, of indexed events.",
            "s",
            [
                Query(quantile(0.5, "penstock_freshness_seconds", "modality"), "{{modality}} p50"),
                Query(quantile(0.95, "penstock_freshness_seconds", "modality"), "{{modality}} p95"),
            ],
            warn=2,
            alarm=5,
            runbooks=_FRESHNESS_PAGES,
        ),
        Panel(
            "Freshness, distribution",
            "Indexed events per second by the time that they took.",
            "s",
            [Query(rate("penstock_freshness_seconds_bucket", "le"), "{{le}}")],
            kind="heatmap",
            runbooks=_FRESHNESS_PAGES,
        ),
        Panel(
            "Events by tenant, the ten most active",
            "Settled events per second.",
            "eps",
            [Query(f"topk(10, {rate('penstock_tenant_events_total', 'tenant')})", "{{tenant}}")],
        ),
        Panel(
            "Events that wait for a quota",
            "Events that lanes have received of a tenant at its quota. Those of no other tenant wait.",
            "short",
            [
                Query(
                    f"sum by (tenant) ({selected('penstock_tenant_waiting_events')})",
                    "{{tenant}}",
                    "no tenant has a quota, or none has reached it",
                )
            ],
        ),
        Panel(
            "Canary, produced to found",
            "p50 and p95 of the canaries that were found.",
            "s",
            [
                Query(quantile(0.5, "penstock_canary_seconds", "modality"), "{{modality}} p50"),
                Query(quantile(0.95, "penstock_canary_seconds", "modality"), "{{modality}} p95"),
            ],
            warn=2,
            alarm=5,
            runbooks=("PenstockCanaryLate",),
        ),
        Panel(
            "Changes for the change feed",
            "Changes of the index that the change feed took, or that it never will. Dropped ones leave results cached "
            "that are outdated for their time to live, and watches without matches.",
            "short",
            [Query(rate("penstock_index_changes_total", "result"), "{{result}}")],
        ),
        Panel(
            "Sweeps of the asset store",
            "Sweeps that ended, since the counters began. One that is held removed nothing, as the index is empty, not "
            "the owner of the store, or would have too much removed.",
            "short",
            [
                Query(
                    f"sum by (result) ({selected('penstock_asset_sweeps_total')})",
                    "{{result}}",
                    "the first sweep comes after assets.sweep_interval_s",
                )
            ],
        ),
        Panel(
            "Age of the last backup",
            "Since the last complete backup began. What came after it is replayed from Kafka by a restore.",
            "s",
            [
                Query(
                    f"max by (index_version) ({selected('penstock_backup_age_seconds')})",
                    "version {{index_version}}",
                    "no backup was made of this index",
                )
            ],
            warn=90_000,
            alarm=129_600,
            runbooks=("PenstockBackupOld",),
        ),
        Panel(
            "Lost offsets",
            "Offsets that retention removed before they were committed, since the counters began.",
            "short",
            [
                Query(
                    f"sum by (topic) ({selected('penstock_lost_offsets_total')})",
                    "{{topic}}",
                    "nothing is lost unless retention is shorter than lag",
                )
            ],
            warn=0.5,
            alarm=1,
            runbooks=("PenstockOffsetsLost",),
        ),
    )


def _lanes() -> Sequence[Panel]:
    return (
        Panel(
            "Bytes in flight",
            "Records in each lane. At `ingest.max_in_flight_bytes` for minutes, later steps are too slow.",
            "bytes",
            [Query(f"sum by (instance, lane) ({selected('penstock_in_flight_bytes')})", "{{instance}} {{lane}}")],
            width=8,
        ),
        Panel(
            "Events in a batch",
            "Means. Far below `ingest.batch_events` under load: `ingest.linger_ms` is too short.",
            "short",
            [Query(mean("penstock_batch_events", "modality"), "{{modality}}")],
            width=8,
        ),
        Panel(
            "Bytes in a batch",
            "Means of the records of a batch.",
            "bytes",
            [Query(mean("penstock_batch_bytes", "modality"), "{{modality}}")],
            width=8,
        ),
        Panel(
            "Commits",
            "By result. `fenced` repeatedly: the group keeps rebalancing.",
            "eps",
            [Query(rate("penstock_commits_total", "result"), "{{result}}")],
            runbooks=("PenstockCommitsFenced",),
        ),
        Panel(
            "Retries",
            "Attempts that failed transiently and are repeated, by cause.",
            "eps",
            [Query(rate("penstock_retries_total", "cause"), "{{cause}}")],
            without_data="nothing was repeated yet",
            runbooks=("PenstockWorkersLost", "PenstockDependencyDown"),
        ),
        Panel(
            "Refused logins",
            "Logins that Kafka or the store refused, and certificates that do not fit.",
            "eps",
            [Query(rate("penstock_auth_failures_total", "service"), "{{service}}")],
            without_data="no login was refused",
        ),
    )


def _steps() -> Sequence[Panel]:
    seconds = rate("penstock_step_seconds_sum", "step")
    return (
        Panel(
            "Share of each step",
            "Of the time of all steps. The largest is the bottleneck.",
            "percentunit",
            [Query(f"{seconds}\n/ on () group_left () (sum({seconds}) > 0)", "{{step}}")],
            kind="area",
            width=8,
            runbooks=_FRESHNESS_PAGES,
        ),
        Panel(
            "Time of a step, p95",
            "For one batch, over all attempts.",
            "s",
            [Query(quantile(0.95, "penstock_step_seconds", "step, modality"), "{{step}} {{modality}}")],
            width=8,
        ),
        Panel(
            "Image texts",
            "Images that a model read or described, by result. Those that failed are indexed without.",
            "eps",
            [
                Query(
                    rate("penstock_image_texts_total", "role, result"),
                    "{{role}} {{result}}",
                    "only profiles with the roles ocr or caption count",
                )
            ],
            width=8,
        ),
    )


def _reindex() -> Sequence[Panel]:
    none = "no re-index is under way"
    return (
        Panel(
            "Assets of the new version",
            "Done and missing of all that the old version has. Missing ones block the switch.",
            "short",
            [Query(f"max by (version, state) ({selected('penstock_reindex_assets')})", "v{{version}} {{state}}", none)],
            width=8,
            runbooks=("PenstockReindexStuck",),
        ),
        Panel(
            "Pace of the re-index",
            "Assets that come to the new version, per second. It yields while live events are settled late.",
            "short",
            [Query(f"max by (version) ({selected('penstock_reindex_assets_per_second')})", "v{{version}}", none)],
            width=4,
            runbooks=("PenstockReindexStuck",),
        ),
        Panel(
            "Time left of the re-index",
            "At the pace of the last minute.",
            "s",
            [Query(f"max by (version) ({selected('penstock_reindex_left_seconds')})", "v{{version}}", none)],
            width=4,
        ),
        Panel(
            "Lag of the new version",
            "Records that its group has not committed. After the fill it should be near 0.",
            "short",
            [Query(f"max by (version) ({selected('penstock_reindex_lag_records')})", "v{{version}}", none)],
            width=8,
        ),
    )
