"""Questions to the read model, as typed functions; the API and the command line ask the same ones.

`tenant=None` asks for all tenants: the caller has made sure that it may. Times are milliseconds since the epoch.
"""

from app.store.acts import (
    command,
    commands_by_rule,
    commands_known,
    count_activity,
    counts,
    list_activity,
    list_commands,
    list_deliveries,
    list_detections,
    list_outcomes,
    list_receipts,
    list_sink,
)
from app.store.asking import LIMIT, Cursor
from app.store.letters import KeptLetter, LetterCount, count_dead_letters, dead_letter, list_dead_letters
from app.store.measured import (
    ProductSeen,
    adoption,
    adoption_history,
    health_history,
    health_rows,
    last_end,
    product_definition,
    products,
    products_of,
)

__all__ = [
    "LIMIT",
    "Cursor",
    "KeptLetter",
    "LetterCount",
    "ProductSeen",
    "adoption",
    "adoption_history",
    "command",
    "commands_by_rule",
    "commands_known",
    "count_activity",
    "count_dead_letters",
    "counts",
    "dead_letter",
    "health_history",
    "health_rows",
    "last_end",
    "list_activity",
    "list_commands",
    "list_dead_letters",
    "list_deliveries",
    "list_detections",
    "list_outcomes",
    "list_receipts",
    "list_sink",
    "product_definition",
    "products",
    "products_of",
]
