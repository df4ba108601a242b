"""DECIDE: sums the partitions' figures into tables, judges each window end once, and turns findings into commands.

Read `task` (what comes in, what goes out) and `product` (how one end is judged) first; then `figures` (sums, history,
corrections), `ladder`, `health`, `alarms`, `rows`, `explain`; `signals` is the second task: single events and triggers
by hand. What the figures mean is in `docs/semantics.md` §4 and §5.
"""
