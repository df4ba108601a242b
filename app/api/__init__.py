"""Gateway: events in over HTTP, figures and decisions out, configuration as definitions. FastAPI; a process of its own.

Read `access` (keys, roles), `problems` (errors), `gateway` (what endpoints share), then an endpoint module: `events`,
`products`, `triggers`, `definitions`, `records`, `status`. `build` puts them together.
"""
