"""Workflows: runs as values. Read in this order: `run` (what a run is), `jobs` (what is put in), `step` (what comes of it),
`walk` (what a node may ask of the run), `nodes` (a file for each family), `graph` (a definition made ready), `problems` (what is
refused before anything runs), `entry` (whether a trigger begins a run), `testing` (a journey on a virtual clock), `replay`.

Nothing here reads a clock or does I/O: `step(library, run, job, now)` depends on its arguments alone.
"""
