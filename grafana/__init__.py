"""Dashboards as code. `boards.py` says what, `panels.py` how, `generate.py` writes the JSON that Grafana reads."""
