"""Task groups as Faust tables: listed and told of assignments, but neither filled nor recovered by Faust."""

from __future__ import annotations

from typing import Any

from faust.tables.manager import TableManager
from faust.tables.table import Table


class CheckpointedTable(Table[Any, Any]):
    """Stands for a task group's state. Its changelog topic is the group's state topic; runners read and write it."""

    async def on_start(self) -> None:
        """Faust would declare the changelog topic here; `uptake topics create` does."""

    async def on_rebalance(self, *_: Any, **__: Any) -> None:
        """Runners follow assignments."""

    async def on_recovery_completed(self, *_: Any, **__: Any) -> None:
        """Runners recover, each partition on its own."""


class CheckpointedTables(TableManager):
    """Faust's table manager without changelog channels and without its second of waiting at the start."""

    async def on_start(self) -> None:
        """No other tables can be added from here on."""
        await self._update_channels()
        await self.recovery.start()

    async def _update_channels(self) -> None:
        self._tables_finalized.set()
        for table in self.values():
            await table.maybe_start()
        self._tables_registered.set()
