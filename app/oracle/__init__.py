"""The judge: what the tables, detections and commands must be, computed from the raw log alone.

It imports nothing of ours, not even the words: it is written from `docs/semantics.md`, in another way than the system.
Where the system keeps running sums, the oracle gathers the rows of each window anew; where the system reads columns, the
oracle reads row by row. Read `rows` (one record), `partition` (one partition's log: duplicates, watermarks), `figures` (window
ends), `ladders`, `adoption`, `health`, `rules`, and `log` (reading it all from Kafka).
"""
