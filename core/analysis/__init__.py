"""Analyses that commands link to: pure functions from figures to findings, and pages that people read."""
