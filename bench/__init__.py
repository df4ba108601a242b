"""Measurements against a real Kafka. Start with README.md; `python -m bench` runs them all."""
