"""How the system runs: throughput, lag, latency, checkpoints."""

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
                    "Rows read the slow way",
                    "CloudEvents, escapes, rows that are not good: decoded one by one, which costs some four times as much.",
                    [("sum by (topic) (rate(uptake_decoded_rows_total[1m])) or vector(0)", "{{topic}}")],
                    unit="rowsps",
                ),
                Panel(
                    "Late rows",
                    "Behind the watermark; expired ones count in no window any more.",
                    [("sum by (topic, kind) (rate(uptake_late_rows_total[1m])) or vector(0)", "{{topic}} {{kind}}")],
                    unit="rowsps",
                ),
                Panel(
                    "Rows from the future",
                    "More than 5 s ahead of the broker's clock: a producer's clock is wrong.",
                    [("sum by (topic) (rate(uptake_rows_ahead_total[1m])) or vector(0)", "{{topic}}")],
                    unit="rowsps",
                ),
                Panel(
                    "Clocks",
                    "By how much a worker's clock is ahead of the broker's, as far as it is certain. Normal: 0.",
                    [("max by (role, worker) (uptake_clock_ahead_seconds)", "{{role}} {{worker}}")],
                    unit="s",
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
                    "Open transactions",
                    "How long one has held its readers back. Ours last milliseconds.",
                    [("max by (topic, partition) (uptake_open_transaction_seconds)", "{{topic}} {{partition}}")],
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
                    "Figures that wait",
                    "Event time between METER's partition farthest ahead and what DECIDE has judged.",
                    [("max(uptake_judging_behind_seconds)", "longest")],
                    unit="s",
                ),
                Panel(
                    "Room that they take",
                    "Memory has a bound (UPTAKE_DECIDE_WAITING_MB); beyond it they are in files.",
                    [("sum by (where) (max by (instance, where) (uptake_judging_waiting_bytes))", "{{where}}")],
                    unit="bytes",
                ),
                Panel(
                    "Ids remembered against duplicates",
                    "Bounded; a shortened horizon is an alert.",
                    [("sum(uptake_dedupe_ids)", "ids")],
                ),
                Panel(
                    "Forgotten",
                    "Erased, or dropped on its way, because its subject is to be forgotten.",
                    [("sum by (step) (rate(uptake_forgotten_total[5m])) or vector(0)", "{{step}}")],
                    unit="ops",
                ),
                Panel(
                    "Gateway requests",
                    "By status.",
                    [("sum by (status) (rate(uptake_http_requests_total[1m]))", "{{status}}")],
                    unit="reqps",
                    stacked=True,
                ),
                Panel(
                    "Events over HTTP",
                    "By what became of them; refused ones met a rate.",
                    [("sum by (outcome) (rate(uptake_gateway_events_total[1m])) or vector(0)", "{{outcome}}")],
                    unit="rowsps",
                    stacked=True,
                ),
                Panel(
                    "Refused for their rate",
                    "Requests answered with 429, by tenant and bound.",
                    [
                        (
                            "sum by (tenant, bound) (rate(uptake_gateway_refused_total[1m])) or vector(0)",
                            "{{tenant}} {{bound}}",
                        )
                    ],
                    unit="reqps",
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
        Row(
            "Backups",
            (
                Panel(
                    "Age of the last backup",
                    "Since its cut: what a total loss would cost now. 0: none was ever made.",
                    [("(time() - max(uptake_backup_last_seconds > 0)) or vector(0)", "age")],
                    unit="s",
                ),
                Panel(
                    "Backups",
                    "By outcome, an hour.",
                    [("sum by (outcome) (increase(uptake_backups_total[1h])) or vector(0)", "{{outcome}}")],
                ),
                Panel(
                    "Time of a backup, bytes written",
                    "An increment grows with the traffic since the one before.",
                    [
                        (
                            "histogram_quantile(0.99, sum by (le) (rate(uptake_backup_seconds_bucket[1h])))",
                            "seconds, p99",
                        ),
                        ("sum(increase(uptake_backup_bytes_total[1h]))", "bytes an hour"),
                    ],
                ),
            ),
        ),
    ),
)
