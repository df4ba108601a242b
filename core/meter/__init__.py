"""METER: events of one partition become figures of windows. Stage 1, the hot path: columns, never a loop over events.

Read in this order: `wire`, `hot` and `words` (what rows are) · `decode` and `settle` (bytes to rows) · `intern`, `identities` and
`products` (names to numbers) · `checks` and `read` (dead letters, columns) · `dedupe` · `clocks` (watermarks) · `levels` and `pairs`
(who used what when, exactly) · `spread` (contributions to window ends) · `windows` (ends close, patches leave) · `usage` and
`performance` (the two folds) · `state` (base and deltas) · `signals` · `task` (all of it behind `core.task.Task`). Then the other
topics, which are few: `lanes` and `standings` (their clocks) · `telling` · `others` (their task).
"""
