"""The dashboards: how the system runs, and what it finds and does."""

from __future__ import annotations

from grafana.acting import ACTING
from grafana.panels import Dashboard
from grafana.running import RUNNING

DASHBOARDS: tuple[Dashboard, ...] = (RUNNING, ACTING)
