"""Detectors, one a file: a score or figure comes in, a state and its edges come out. They do not know each other."""
