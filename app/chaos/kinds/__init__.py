"""The kinds of fault, by what they are done to. Importing this room fills the registry."""

from app.chaos.kinds import brokers, destination, disk, processes, producers, sources

__all__ = ["brokers", "destination", "disk", "processes", "producers", "sources"]
