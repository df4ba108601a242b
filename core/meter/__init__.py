"""METER: events of one partition become figures of windows. Stage 1, the hot path: columns, never a loop over events.

Read in this order: `wire` (bytes to rows) · `intern` (names to numbers) · `dedupe` · `clocks` (watermarks) · `levels` and
`pairs` (who used what when, exactly) · `spread` (contributions to window ends) · `windows` (ends close, patches leave) ·
`usage` and `performance` (the two folds) · `state` (base and deltas) · `signals` · `task` (all of it behind `core.task.Task`).
"""
