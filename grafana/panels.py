"""Panels and dashboards as values, and the JSON that Grafana reads (schema version 39, Grafana ≥ 10)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

DATASOURCE = {"type": "prometheus", "uid": "uptake-prometheus"}
WIDTH = 24


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel. A query is (PromQL, legend)."""

    title: str
    says: str
    """What one learns from it and what is normal; Grafana shows it behind the panel's (i)."""
    queries: Sequence[tuple[str, str]]
    unit: str = "short"
    """Grafana's name of the unit: short, s, percentunit, rowsps, Bps …"""
    kind: str = "timeseries"
    """timeseries, stat, bargauge or table."""
    width: int = 8
    height: int = 8
    stacked: bool = False
    red_above: float | None = None
    red_below: float | None = None
    most: float | None = None
    """Upper end of the scale, where it has one."""


@dataclass(frozen=True, slots=True)
class Row:
    """A heading and its panels, left to right."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True, slots=True)
class Dashboard:
    """One dashboard; `uid` is its stable address."""

    uid: str
    title: str
    says: str
    rows: Sequence[Row]
    variables: Sequence[tuple[str, str]] = ()
    """(name, label_values query): choices at the top, several at once, all by default."""

    def queries(self) -> list[str]:
        """Every PromQL expression in it."""
        return [q for row in self.rows for panel in row.panels for q, _ in panel.queries]

    def json(self) -> dict[str, Any]:
        """As Grafana's provisioning takes it."""
        panels: list[dict[str, Any]] = []
        y = 0
        for row in self.rows:
            panels.append(_heading(row.title, len(panels) + 1, y))
            y, x, tallest = y + 1, 0, 0
            for panel in row.panels:
                if x + panel.width > WIDTH:
                    y, x, tallest = y + tallest, 0, 0
                panels.append(_panel(panel, len(panels) + 1, x, y))
                x, tallest = x + panel.width, max(tallest, panel.height)
            y += tallest
        return {
            "uid": self.uid,
            "title": self.title,
            "description": self.says,
            "tags": ["uptake"],
            "schemaVersion": 39,
            "version": 1,
            "editable": False,
            "refresh": "5s",
            "time": {"from": "now-30m", "to": "now"},
            "timezone": "browser",
            "graphTooltip": 1,
            "links": [{"type": "dashboards", "tags": ["uptake"], "title": "Uptake", "asDropdown": True}],
            "templating": {"list": [_variable(name, query) for name, query in self.variables]},
            "panels": panels,
        }


def _heading(title: str, number: int, y: int) -> dict[str, Any]:
    place = {"h": 1, "w": WIDTH, "x": 0, "y": y}
    return {"id": number, "type": "row", "title": title, "collapsed": False, "gridPos": place, "panels": []}


def _panel(panel: Panel, number: int, x: int, y: int) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "red" if panel.red_below is not None else "green", "value": None}]
    if panel.red_below is not None:
        steps.append({"color": "green", "value": panel.red_below})
    if panel.red_above is not None:
        steps.append({"color": "red", "value": panel.red_above})
    defaults: dict[str, Any] = {
        "unit": panel.unit,
        "thresholds": {"mode": "absolute", "steps": steps},
        "color": {"mode": "palette-classic" if panel.kind == "timeseries" else "thresholds"},
    }
    if panel.most is not None:
        defaults |= {"min": 0, "max": panel.most}
    if panel.kind == "timeseries":
        stacking = {"mode": "normal" if panel.stacked else "none", "group": "A"}
        defaults["custom"] = {"lineWidth": 1, "fillOpacity": 30 if panel.stacked else 5, "stacking": stacking}
        options: dict[str, Any] = {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
    else:
        options = {"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}}
        if panel.kind == "bargauge":
            options |= {"orientation": "horizontal", "displayMode": "basic"}
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.says,
        "datasource": DATASOURCE,
        "gridPos": {"h": panel.height, "w": panel.width, "x": x, "y": y},
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options,
        "targets": [
            {"refId": chr(65 + i), "datasource": DATASOURCE, "expr": query, "legendFormat": legend}
            for i, (query, legend) in enumerate(panel.queries)
        ],
    }


def _variable(name: str, query: str) -> dict[str, Any]:
    return {
        "name": name,
        "type": "query",
        "datasource": DATASOURCE,
        "definition": query,
        "query": {"query": query, "refId": "A"},
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }
