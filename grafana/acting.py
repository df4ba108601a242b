"""What the system finds and does: adoption, health, decisions, deliveries."""

from __future__ import annotations

from grafana.panels import Dashboard, Panel, Row

ACTING = Dashboard(
    uid="uptake-acting",
    title="Uptake: adoption, health, acting",
    says="What people do with the products, how the products are, and what was done about it.",
    variables=(
        ("tenant", "label_values(uptake_health_score, tenant)"),
        ("product", 'label_values(uptake_health_score{tenant=~"$tenant"}, product)'),
    ),
    rows=(
        Row(
            "Adoption and health",
            (
                Panel(
                    "Adoption rate by feature",
                    "In the stage window. Stages: low < 20 %, growth to 60 %, market above.",
                    [('uptake_adoption_rate{tenant=~"$tenant", product=~"$product"}', "{{product}} {{feature}}")],
                    unit="percentunit",
                    kind="bargauge",
                    width=12,
                    height=12,
                    most=1,
                ),
                Panel(
                    "Health score",
                    "0–100. Bands: critical < 40, declining < 60, stable to 80, optimal above.",
                    [('uptake_health_score{tenant=~"$tenant", product=~"$product"}', "{{tenant}} {{product}}")],
                    width=12,
                    height=6,
                    most=100,
                    red_below=40,
                ),
                Panel(
                    "Health components",
                    "What the score is made of; a missing component is left out and re-weighted.",
                    [('uptake_health_component{tenant=~"$tenant", product=~"$product"}', "{{product}} {{component}}")],
                    width=12,
                    height=6,
                    most=100,
                ),
                Panel(
                    "Adoption rate",
                    "Over time.",
                    [('uptake_adoption_rate{tenant=~"$tenant", product=~"$product"}', "{{product}} {{feature}}")],
                    unit="percentunit",
                    width=12,
                    most=1,
                ),
                Panel(
                    "Users of a feature",
                    "In the stage window.",
                    [('uptake_adoption_users{tenant=~"$tenant", product=~"$product"}', "{{product}} {{feature}}")],
                    width=12,
                ),
            ),
        ),
        Row(
            "Deciding",
            (
                Panel(
                    "Window ends judged",
                    "By window.",
                    [("sum by (window) (rate(uptake_ends_judged_total[1m]))", "{{window}}")],
                    unit="ops",
                ),
                Panel(
                    "Detections", "By kind.", [("sum by (kind) (uptake_detections_total)", "{{kind}}")], stacked=True
                ),
                Panel(
                    "Commands by rule",
                    "Since the workers started.",
                    [("sum by (rule) (uptake_commands_total)", "{{rule}}")],
                    kind="bargauge",
                ),
                Panel(
                    "Matches: commanded or not",
                    "Every match becomes a command or has a reason not to.",
                    [
                        ("sum(uptake_matches_total)", "matched"),
                        ("sum(uptake_commands_total)", "commanded"),
                        ('sum(uptake_suppressed_total{step="decide"}) or vector(0)', "suppressed"),
                        ("sum(uptake_failed_total) or vector(0)", "failed"),
                    ],
                ),
                Panel(
                    "Suppressed, by reason",
                    "Cool-down, ceiling, paused, backfill, expired, duplicate …",
                    [("sum by (step, reason) (uptake_suppressed_total) or vector(0)", "{{step}} {{reason}}")],
                    stacked=True,
                ),
                Panel(
                    "Commands by domain",
                    "A second.",
                    [("sum by (domain) (rate(uptake_commands_total[5m]))", "{{domain}}")],
                    unit="ops",
                    stacked=True,
                ),
            ),
        ),
        Row(
            "Outcomes",
            (
                Panel(
                    "Uplift by rule",
                    "Treated less held out (shares), or a figure after commands less before. `uptake outcomes` shows intervals.",
                    [('uptake_outcome_uplift{tenant=~"$tenant", product=~"$product"}', "{{product}} {{rule}}")],
                    width=12,
                ),
                Panel(
                    "Verdicts",
                    "Working, harmful (then the rule is paused), since the workers started.",
                    [("sum by (rule, verdict) (uptake_outcome_verdicts_total) or vector(0)", "{{rule}} {{verdict}}")],
                    width=6,
                ),
                Panel(
                    "Held out",
                    "Subjects left alone to compare with, an hour.",
                    [('sum(increase(uptake_suppressed_total{reason="hold_out"}[1h])) or vector(0)', "held out")],
                    width=6,
                ),
                Panel(
                    "Revised or taken back",
                    "Commands that late data corrected, and those that undo one.",
                    [("sum by (rule, step) (uptake_revisions_total) or vector(0)", "{{rule}} {{step}}")],
                    width=12,
                ),
                Panel(
                    "Event to command",
                    "From the event time judged to the record that decided it (trigger response).",
                    [
                        (
                            "histogram_quantile(0.99, sum by (le) (rate(uptake_event_to_command_seconds_bucket[5m]))) or vector(0)",
                            "p99",
                        )
                    ],
                    unit="s",
                    width=12,
                ),
            ),
        ),
        Row(
            "Workflows",
            (
                Panel("Runs", "That go on.", [("sum(uptake_runs)", "runs")]),
                Panel(
                    "Jobs",
                    "Events, receipts, answers and timers that runs took, a second.",
                    [("sum by (job) (rate(uptake_run_jobs_total[5m])) or vector(0)", "{{job}}")],
                    unit="ops",
                    stacked=True,
                ),
                Panel(
                    "Runs that ended",
                    "By how: completed, goal, exited, expired, cancelled, failed.",
                    [("sum by (status) (uptake_runs_ended_total) or vector(0)", "{{status}}")],
                    stacked=True,
                ),
                Panel(
                    "Triggers that began no run",
                    "By reason: the re-entry policy, a pause, a backfill.",
                    [("sum by (reason) (uptake_runs_refused_total) or vector(0)", "{{reason}}")],
                    stacked=True,
                ),
                Panel(
                    "Runs that were to move to another version",
                    "moved, or why they keep theirs.",
                    [("sum by (outcome) (uptake_runs_moved_total) or vector(0)", "{{outcome}}")],
                    stacked=True,
                ),
                Panel(
                    "Timers, late by",
                    "From a timer's time to the moment it fired, 99 % within.",
                    [
                        (
                            "histogram_quantile(0.99, sum by (le) (rate(uptake_timer_late_seconds_bucket[5m]))) or vector(0)",
                            "p99",
                        )
                    ],
                    unit="s",
                ),
            ),
        ),
        Row(
            "Insight",
            (
                Panel(
                    "Workflows",
                    "In force, and active: with a run that goes on.",
                    [
                        ("max(uptake_workflows) or vector(0)", "in force"),
                        ("count(sum by (workflow) (uptake_workflow_runs) > 0) or vector(0)", "active"),
                    ],
                    width=6,
                ),
                Panel(
                    "Events a second",
                    "Accepted rows.",
                    [('sum(rate(uptake_rows_total{outcome="accepted"}[1m]))', "events")],
                    unit="rowsps",
                    width=6,
                ),
                Panel(
                    "Completion rate",
                    "Runs that were completed or reached their goal, of those that ended.",
                    [
                        (
                            'sum(uptake_runs_ended_total{status=~"completed|goal"}) / sum(uptake_runs_ended_total)',
                            "completed",
                        )
                    ],
                    unit="percentunit",
                    width=6,
                    most=1,
                ),
                Panel(
                    "Action success rate",
                    "Deliveries that arrived, of those that ended.",
                    [
                        (
                            'sum(uptake_deliveries_total{outcome="delivered"}) / sum(uptake_deliveries_total)',
                            "delivered",
                        )
                    ],
                    unit="percentunit",
                    width=6,
                    most=1,
                ),
                Panel(
                    "Predictions: calibration error",
                    "As measured last, the worst partition. Above a prediction's `max_error` its gate is closed.",
                    [
                        (
                            'max by (product, prediction) (uptake_prediction_calibration_error{product=~"$product"})',
                            "{{product}} {{prediction}}",
                        )
                    ],
                    unit="percentunit",
                ),
                Panel(
                    "Predictions: area under the curve",
                    "Of the same measure; 0.5 tells nobody apart.",
                    [
                        (
                            'min by (product, prediction) (uptake_prediction_auc{product=~"$product"})',
                            "{{product}} {{prediction}}",
                        )
                    ],
                    most=1,
                ),
                Panel(
                    "Predictions: days",
                    "judged; gate_closed: nothing crosses or clears; too_few_users: nothing was learnt.",
                    [("sum by (outcome) (uptake_prediction_days_total) or vector(0)", "{{outcome}}")],
                    stacked=True,
                ),
            ),
        ),
        Row(
            "Delivering",
            (
                Panel(
                    "Commands by outcome",
                    "Deliveries that ended, by integration.",
                    [("sum by (integration, outcome) (uptake_deliveries_total)", "{{integration}} {{outcome}}")],
                    stacked=True,
                ),
                Panel(
                    "Attempts",
                    "A second; retries are the destination's trouble, rejections ours.",
                    [
                        (
                            "sum by (integration, outcome) (rate(uptake_attempts_total[5m]))",
                            "{{integration}} {{outcome}}",
                        )
                    ],
                    unit="ops",
                ),
                Panel(
                    "Waiting for another attempt",
                    "Parked rows, by integration.",
                    [("sum by (integration) (uptake_parked) or vector(0)", "{{integration}}")],
                ),
            ),
        ),
        Row(
            "Degraded",
            (
                Panel(
                    "Breakers",
                    "By connection: 0 closed, 1 half-open (one probe is out), 2 open (its deliveries wait).",
                    [("max by (connection) (uptake_breaker_state) or vector(0)", "{{connection}}")],
                    width=8,
                ),
                Panel(
                    "Breakers opened",
                    "Each time that a destination stopped working, probes that failed included.",
                    [
                        (
                            "sum by (connection) (increase(uptake_breaker_opened_total[15m])) or vector(0)",
                            "{{connection}}",
                        )
                    ],
                    width=8,
                ),
                Panel(
                    "Read model",
                    "1: it took what PROJECT last gave it. 0: PROJECT waits and catches up later; nobody else does.",
                    [("min(uptake_read_model_up)", "up"), ("min(uptake_archive_up)", "archive")],
                    width=8,
                ),
                Panel(
                    "Spool",
                    "Events that wait on the gateway's disk for Kafka.",
                    [("sum(uptake_spool_events) or vector(0)", "waiting")],
                    width=12,
                ),
                Panel(
                    "Spooled",
                    "kept: taken while Kafka was away; sent: written out since; refused: no room.",
                    [("sum by (outcome) (rate(uptake_spooled_total[5m])) or vector(0)", "{{outcome}}")],
                    unit="rowsps",
                    width=12,
                ),
            ),
        ),
        Row(
            "Set aside",
            (
                Panel(
                    "Dead letters",
                    "By step and reason, a second.",
                    [
                        (
                            "sum by (step, reason) (rate(uptake_dead_letters_total[5m])) or vector(0)",
                            "{{step}} {{reason}}",
                        )
                    ],
                    unit="rowsps",
                    stacked=True,
                    width=8,
                ),
                Panel(
                    "Batches on which a task raised",
                    "raised: each time, while the rows are looked for; set_aside, stopped: more than half of a batch.",
                    [
                        (
                            "sum by (role, outcome) (increase(uptake_poison_total[5m])) or vector(0)",
                            "{{role}} {{outcome}}",
                        )
                    ],
                    width=8,
                ),
                Panel(
                    "Share of dead rows",
                    "Of all rows read by METER.",
                    [
                        (
                            '(sum(rate(uptake_rows_total{outcome="dead"}[5m])) or vector(0)) / sum(rate(uptake_rows_total[5m]))',
                            "share",
                        )
                    ],
                    unit="percentunit",
                    width=8,
                    red_above=0.01,
                ),
            ),
        ),
    ),
)
