"""Every metric once: name → (kind, help, label names). `app.telemetry` registers them; dashboards are tested against them.

Labels are bounded: topics, roles, reasons, rules, integrations; tenants and features only on the table gauges.
"""

from __future__ import annotations

from typing import Literal, NamedTuple


class Metric(NamedTuple):
    """One metric's declaration."""

    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()


METRICS: dict[str, Metric] = {
    # METER
    "uptake_rows_total": Metric(
        "counter",
        "Rows read, by what became of them: accepted, duplicate, dead, control, unclaimed (no source), forgotten. Late and "
        "expired rows are accepted ones, counted once more in uptake_late_rows_total.",
        ("topic", "outcome"),
    ),
    "uptake_forgotten_total": Metric(
        "counter",
        "What was erased, or dropped on its way, because its subject is to be forgotten: users, rows, commands, deliveries.",
        ("step",),
    ),
    "uptake_late_rows_total": Metric(
        "counter",
        "Accepted rows behind the watermark: late, expired. Of `signals`, what no rule remembers: late, full.",
        ("topic", "kind"),
    ),
    "uptake_rows_ahead_total": Metric(
        "counter",
        "Accepted rows whose event time is more than 5 s ahead of the broker's clock.",
        ("topic",),
    ),
    "uptake_decoded_rows_total": Metric(
        "counter",
        "Rows of the two hot topics that took the slow way: CloudEvents, text beyond ASCII, escapes, rows that are not good.",
        ("topic",),
    ),
    "uptake_batch_rows": Metric("histogram", "Rows in a batch handed to a task.", ("topic",)),
    "uptake_key_mismatch_total": Metric(
        "counter", "Sampled rows whose key does not belong to their partition or user.", ("topic",)
    ),
    "uptake_watermark_seconds": Metric(
        "gauge", "Event time up to which a partition is complete.", ("topic", "partition")
    ),
    "uptake_dedupe_ids": Metric("gauge", "Ids remembered against duplicates.", ("partition",)),
    "uptake_dedupe_shortened_total": Metric("counter", "Times the duplicate horizon was cut for memory.", ()),
    "uptake_users": Metric("gauge", "Users known to a partition.", ("partition",)),
    "uptake_signals_total": Metric("counter", "Rows sent on because a definition waits for them.", ("kind",)),
    # transport, all roles
    "uptake_dead_letters_total": Metric("counter", "Rows set aside.", ("step", "reason")),
    "uptake_poison_total": Metric(
        "counter",
        "Batches on which a task raised: raised (each time, also of pieces), set_aside or stopped (more than half of its rows).",
        ("role", "topic", "outcome"),
    ),
    "uptake_lag_rows": Metric(
        "gauge", "Rows between the position and the end of the log.", ("role", "topic", "partition")
    ),
    "uptake_open_transaction_seconds": Metric(
        "gauge",
        "How long a producer's open transaction has held back the rows behind the position; 0: none does.",
        ("role", "topic", "partition"),
    ),
    "uptake_checkpoints_total": Metric("counter", "Checkpoints: committed, failed, fenced.", ("role", "outcome")),
    "uptake_checkpoint_seconds": Metric("histogram", "From begin to committed.", ("role",)),
    "uptake_checkpoint_bytes_total": Metric("counter", "State written by checkpoints.", ("role",)),
    "uptake_checkpoint_last_seconds": Metric(
        "gauge", "Unix time of the last committed checkpoint.", ("role", "partition")
    ),
    "uptake_recovery_seconds": Metric("histogram", "Recovery of one partition, first fetch to ready.", ("role",)),
    "uptake_clock_ahead_seconds": Metric(
        "gauge",
        "By how much a worker's clock is ahead of the broker's (behind: negative), as far as it is certain; 0 is well.",
        ("role",),
    ),
    "uptake_log_range_lost_total": Metric(
        "counter", "Rows between a checkpoint and a log that no longer has them.", ("role", "topic")
    ),
    # DECIDE
    "uptake_ends_judged_total": Metric("counter", "Window ends judged.", ("window",)),
    "uptake_judging_behind_seconds": Metric(
        "gauge",
        "Event time by which the source farthest ahead is ahead of what is judged, of the product where it is most; what lies "
        "between waits.",
        ("partition",),
    ),
    "uptake_judging_waiting_bytes": Metric(
        "gauge",
        "Figures that wait to be judged, or for corrections, in a process: in memory up to "
        "UPTAKE_DECIDE_WAITING_MB, beyond it on disk.",
        ("where",),
    ),
    "uptake_detections_total": Metric("counter", "Detections published.", ("kind",)),
    "uptake_matches_total": Metric("counter", "Rule matches.", ("rule",)),
    "uptake_commands_total": Metric("counter", "Commands issued.", ("domain", "rule")),
    "uptake_suppressed_total": Metric("counter", "Matches and commands not acted on, by reason.", ("step", "reason")),
    "uptake_failed_total": Metric("counter", "Matches that could not be turned into a command.", ("step", "reason")),
    "uptake_accounting_difference": Metric(
        "gauge",
        "What a balance leaves unaccounted for, signs apart, computed from state; zero. matched: matches less commands, "
        "suppressions and failures. commanded: commands less suppressed, left and routed ones. deliveries: those received less "
        "delivered, suppressed, rejected and waiting ones.",
        ("balance",),
    ),
    "uptake_event_to_command_seconds": Metric(
        "histogram", "Event time judged to the broker time of the record that decided it; replays aside.", ()
    ),
    "uptake_adoption_rate": Metric("gauge", "Adoption rate in the stage window.", ("tenant", "product", "feature")),
    "uptake_adoption_users": Metric(
        "gauge", "Users of a feature in the stage window.", ("tenant", "product", "feature")
    ),
    "uptake_health_score": Metric("gauge", "Health score.", ("tenant", "product")),
    "uptake_health_component": Metric("gauge", "Health component score.", ("tenant", "product", "component")),
    "uptake_revisions_total": Metric(
        "counter", "Commands that late data corrected (revised) or took back (undo).", ("rule", "step")
    ),
    "uptake_outcome_uplift": Metric(
        "gauge",
        "Uplift of a measured rule: treated less held out, or a figure after commands less before.",
        ("tenant", "product", "rule"),
    ),
    "uptake_outcome_verdicts_total": Metric("counter", "Verdicts on rules: working, harmful.", ("rule", "verdict")),
    "uptake_prediction_calibration_error": Metric(
        "gauge",
        "Calibration error of a prediction as measured last, by what came true (until a horizon has passed: on folds).",
        ("tenant", "product", "prediction", "partition"),
    ),
    "uptake_prediction_auc": Metric(
        "gauge", "Area under the ROC curve of the same measure.", ("tenant", "product", "prediction", "partition")
    ),
    "uptake_prediction_days_total": Metric(
        "counter", "Days of predictions that ended: judged, gate_closed, too_few_users.", ("outcome",)
    ),
    # ORCHESTRATE
    "uptake_runs": Metric("gauge", "Runs of workflows that go on.", ("partition",)),
    "uptake_workflows": Metric("gauge", "Workflows in force."),
    "uptake_workflow_runs": Metric("gauge", "Runs that go on, by workflow.", ("workflow", "partition")),
    "uptake_run_jobs_total": Metric(
        "counter", "Jobs that runs took: start, event, timer, receipt, approval, cancel, pause, resume, move.", ("job",)
    ),
    "uptake_runs_ended_total": Metric("counter", "Runs that ended, by how.", ("status",)),
    "uptake_runs_refused_total": Metric("counter", "Triggers that began no run, by reason.", ("reason",)),
    "uptake_runs_moved_total": Metric(
        "counter", "Runs that were to move to another version: moved, or why they keep theirs.", ("outcome",)
    ),
    "uptake_timer_late_seconds": Metric(
        "histogram", "From a timer's time to the clock at which it fired; replays aside.", ()
    ),
    # DELIVER
    "uptake_deliveries_total": Metric(
        "counter", "Deliveries ended: delivered, rejected, expired.", ("integration", "outcome")
    ),
    "uptake_attempts_total": Metric("counter", "Attempts: delivered, retry, rejected.", ("integration", "outcome")),
    "uptake_attempt_seconds": Metric("histogram", "One attempt.", ("integration",)),
    "uptake_breaker_state": Metric(
        "gauge", "Breaker of a connection (`owner|name`): 0 closed, 1 half-open (one probe), 2 open.", ("connection",)
    ),
    "uptake_breaker_opened_total": Metric("counter", "Times a breaker opened.", ("integration", "connection")),
    "uptake_parked": Metric("gauge", "Deliveries waiting for their next attempt.", ("integration", "partition")),
    # backup
    "uptake_backups_total": Metric("counter", "Backups that ended: whole, failed.", ("outcome",)),
    "uptake_backup_last_seconds": Metric("gauge", "Unix time of the cut of the last whole backup."),
    "uptake_backup_seconds": Metric("histogram", "One backup, begin to manifest."),
    "uptake_backup_bytes_total": Metric("counter", "Bytes that backups wrote."),
    # gateway, read model
    "uptake_http_requests_total": Metric("counter", "Requests answered.", ("method", "route", "status")),
    "uptake_gateway_events_total": Metric(
        "counter",
        "Events that came in over HTTP: accepted, rejected (a row that does not hold), refused (over a rate). The first 100 tenants "
        "by name, the others together as `other tenants`.",
        ("tenant", "outcome"),
    ),
    "uptake_gateway_refused_total": Metric(
        "counter",
        "Requests answered with 429, by which bound they met: key_requests, tenant_requests, key_events, tenant_events.",
        ("tenant", "bound"),
    ),
    "uptake_http_seconds": Metric("histogram", "Time to answer.", ("method", "route")),
    "uptake_spooled_total": Metric(
        "counter", "Events while Kafka was away: kept on the gateway's disk, sent from there, refused.", ("outcome",)
    ),
    "uptake_spool_events": Metric("gauge", "Events that wait in a gateway's spool."),
    "uptake_spool_full_ratio": Metric("gauge", "How full a gateway's spool is, 0 to 1."),
    "uptake_archive_rows_total": Metric("counter", "Rows read for the archive; not all are kept.", ("topic",)),
    "uptake_archive_files_total": Metric("counter", "Files written into the archive."),
    "uptake_archive_bytes_total": Metric("counter", "Bytes written into the archive."),
    "uptake_archive_up": Metric("gauge", "Whether the archive took what it was last given: 1, 0."),
    "uptake_read_model_up": Metric("gauge", "Whether the read model took what a role last gave it: 1, 0.", ("role",)),
    "uptake_project_rows_total": Metric("counter", "Rows written to the read model.", ("table",)),
}
