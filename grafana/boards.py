"""The dashboards: how the system runs, and what it finds and does."""

from __future__ import annotations

from grafana.panels import Dashboard, Panel, Row


def _quantiles(metric: str, by: str = "", legend: str = "") -> list[tuple[str, str]]:
    group = f"le, {by}" if by else "le"
    return [
        (f"histogram_quantile({q}, sum by ({group}) (rate({metric}_bucket[1m])))", f"p{int(q * 100)} {legend}".strip())
        for q in (0.5, 0.99)
    ]


RUNNING = Dashboard(
    uid="uptake-running",
    title="Uptake: running",
    says="Throughput, lag, checkpoints, latency: is the system keeping up, and is its state safe?",
    rows=(
        Row(
            "At a glance",
            (
                Panel(
                    "Events a second",
                    "Rows of events topics read by METER.",
                    [("sum(rate(uptake_rows_total[1m]))", "")],
                    unit="rowsps",
                    kind="stat",
                    width=4,
                    height=5,
                ),
                Panel(
                    "Rows waiting",
                    "Lag of all roles. Normal: near zero, or falling after a backlog.",
                    [("sum(uptake_lag_rows)", "")],
                    kind="stat",
                    width=4,
                    height=5,
                    red_above=100_000,
                ),
                Panel(
                    "Event to command, p99",
                    "From the broker's time of the causing row to the decision.",
                    [("histogram_quantile(0.99, sum by (le) (rate(uptake_event_to_command_seconds_bucket[5m])))", "")],
                    unit="s",
                    kind="stat",
                    width=4,
                    height=5,
                    red_above=1,
                ),
                Panel(
                    "Oldest checkpoint",
                    "Age of the least recent partition among roles that have rows waiting, else 0.",
                    [
                        (
                            "max(time() - max by (role, partition) (uptake_checkpoint_last_seconds) and on (role, partition) "
                            "sum by (role, partition) (uptake_lag_rows) > 0) or vector(0)",
                            "",
                        )
                    ],
                    unit="s",
                    kind="stat",
                    width=4,
                    height=5,
                    red_above=60,
                ),
                Panel(
                    "Unaccounted",
                    "Matches and commands that are neither done, refused nor waiting. Always 0.",
                    [("sum(abs(uptake_accounting_difference))", "")],
                    kind="stat",
                    width=4,
                    height=5,
                    red_above=1,
                ),
                Panel(
                    "Rows lost from the log",
                    "Gone before they were read, in the last day. Always 0.",
                    [("sum(increase(uptake_log_range_lost_total[1d])) or vector(0)", "")],
                    kind="stat",
                    width=4,
                    height=5,
                    red_above=1,
                ),
            ),
        ),
        Row(
            "Throughput",
            (
                Panel(
                    "Rows by outcome",
                    "Accepted, duplicate, dead, control.",
                    [("sum by (topic, outcome) (rate(uptake_rows_total[1m]))", "{{topic}} {{outcome}}")],
                    unit="rowsps",
                    stacked=True,
                ),
                Panel(
                    "Late rows",
                    "Behind the watermark; expired ones count in no window any more.",
                    [("sum by (topic, kind) (rate(uptake_late_rows_total[1m])) or vector(0)", "{{topic}} {{kind}}")],
                    unit="rowsps",
                ),
                Panel(
                    "Rows a batch",
                    "Small batches are live traffic, large ones catching up.",
                    _quantiles("uptake_batch_rows", "topic", "{{topic}}"),
                ),
            ),
        ),
        Row(
            "Lag",
            (
                Panel(
                    "Rows waiting, by role",
                    "Rows between the position and the end of the log.",
                    [("sum by (role) (uptake_lag_rows)", "{{role}}")],
                ),
                Panel(
                    "Trend of the lag",
                    "Above zero for long: the role does not keep up. Below: it catches up.",
                    [("deriv(sum by (role) (uptake_lag_rows)[5m:15s])", "{{role}}")],
                    unit="rowsps",
                ),
                Panel(
                    "Watermark behind the clock",
                    "Event time not complete yet, the slowest partition. Large in a replay of old data.",
                    [("time() - min by (topic) (uptake_watermark_seconds)", "{{topic}}")],
                    unit="s",
                ),
            ),
        ),
        Row(
            "Latency",
            (
                Panel(
                    "Event to command",
                    "From the broker's time of the causing row to the decision.",
                    _quantiles("uptake_event_to_command_seconds"),
                    unit="s",
                ),
                Panel(
                    "One attempt",
                    "How long destinations take to answer.",
                    _quantiles("uptake_attempt_seconds", "integration", "{{integration}}"),
                    unit="s",
                ),
                Panel(
                    "Gateway",
                    "Time to answer, by route.",
                    [
                        (
                            "histogram_quantile(0.99, sum by (le, route) (rate(uptake_http_seconds_bucket[5m])))",
                            "p99 {{route}}",
                        )
                    ],
                    unit="s",
                ),
            ),
        ),
        Row(
            "Checkpoints",
            (
                Panel(
                    "Checkpoints by outcome",
                    "One Kafka transaction each. Failed and fenced ones are thrown away and recovered.",
                    [("sum by (role, outcome) (rate(uptake_checkpoints_total[1m]))", "{{role}} {{outcome}}")],
                    unit="ops",
                ),
                Panel(
                    "Time to commit",
                    "From begin to committed.",
                    _quantiles("uptake_checkpoint_seconds", "role", "{{role}}"),
                    unit="s",
                ),
                Panel(
                    "State written",
                    "Bytes of state topics.",
                    [("sum by (role) (rate(uptake_checkpoint_bytes_total[1m]))", "{{role}}")],
                    unit="Bps",
                ),
                Panel(
                    "Age of the last checkpoint",
                    "The least recent partition. Grows where nothing happens; alarming only while rows wait.",
                    [("max by (role) (time() - uptake_checkpoint_last_seconds)", "{{role}}")],
                    unit="s",
                ),
                Panel(
                    "Recovery",
                    "Time from the first fetch to ready, one partition.",
                    [
                        (
                            "sum by (role) (uptake_recovery_seconds_sum) / sum by (role) (uptake_recovery_seconds_count)",
                            "mean {{role}}",
                        )
                    ],
                    unit="s",
                ),
                Panel(
                    "Memory of the workers",
                    "Resident.",
                    [("sum by (role, worker) (process_resident_memory_bytes)", "{{role}} {{worker}}")],
                    unit="bytes",
                ),
            ),
        ),
        Row(
            "State and edges",
            (
                Panel(
                    "Users known",
                    "Over all partitions.",
                    [("sum(uptake_users)", "users")],
                ),
                Panel(
                    "Ids remembered against duplicates",
                    "Bounded; a shortened horizon is an alert.",
                    [("sum(uptake_dedupe_ids)", "ids")],
                ),
                Panel(
                    "Gateway requests",
                    "By status.",
                    [("sum by (status) (rate(uptake_http_requests_total[1m]))", "{{status}}")],
                    unit="reqps",
                    stacked=True,
                ),
                Panel(
                    "Read model",
                    "Rows written.",
                    [("sum by (table) (rate(uptake_project_rows_total[1m]))", "{{table}}")],
                    unit="rowsps",
                    stacked=True,
                ),
                Panel(
                    "CPU",
                    "Seconds a second.",
                    [("sum by (role, worker) (rate(process_cpu_seconds_total[1m]))", "{{role}} {{worker}}")],
                ),
            ),
        ),
    ),
)

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
                    width=12,
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
                    width=12,
                    red_above=0.01,
                ),
            ),
        ),
    ),
)

DASHBOARDS: tuple[Dashboard, ...] = (RUNNING, ACTING)
