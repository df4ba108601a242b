"""Dashboards as code. `running.py` and `acting.py` say what, `panels.py` how, `generate.py` writes the JSON that Grafana reads."""
