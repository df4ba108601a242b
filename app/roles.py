"""What each role runs and what a process of it imports; names only, so that whoever starts processes need not import it."""

from __future__ import annotations

from collections.abc import Mapping

from app.settings import Role

AGENTS: Mapping[Role, tuple[str, ...]] = {
    "meter": ("ingest", "meter"),
    "decide": ("decide",),
    "deliver": ("dispatch", "deliver"),
    "project": ("project",),
    "orchestrate": ("orchestrate",),
    "archive": ("archive",),
}
"""Role → its agents, in stream order. By name: a process imports its own role only, which halves its start."""
_BESIDE: Mapping[Role, tuple[str, ...]] = {
    "deliver": ("app.clients.outside",),
    "project": ("app.store",),
    "archive": ("app.archive",),
}


def imports(role: Role) -> list[str]:
    """Everything a process of the role imports before it works."""
    return ["app.process", "core.kernels.framing", *(f"agents.{name}" for name in AGENTS[role]), *_BESIDE.get(role, ())]
