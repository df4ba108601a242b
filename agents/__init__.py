"""Stations: ten-line wiring, in stream order. Each file has `attach(app, rooms)`. Read `rooms` first."""
