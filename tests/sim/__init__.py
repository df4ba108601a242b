"""A deterministic simulation: the real code of `transport/` on an in-memory Kafka, a seeded event loop and a virtual clock.

`python -m tests.sim --seeds 10000` runs it; a failing seed prints itself and replays with `python -m tests.sim --seed N`.
"""
