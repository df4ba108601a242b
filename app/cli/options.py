"""Options that mean the same in several commands, declared once: a command names one as a parameter's type."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="One JSON object a line; times in milliseconds.")]
Tenant = Annotated[str | None, typer.Option(help="Only this tenant.")]
Product = Annotated[str | None, typer.Option(help="Only this product.")]
By = Annotated[str, typer.Option("--by", help="Who says so.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
Newest = Annotated[int, typer.Option(min=1, help="The newest N.")]
Act = Annotated[bool, typer.Option("--act", help="Let rules act on data older than a day.")]
Kafka = Annotated[str | None, typer.Option(help="host:port,… of a Kafka; default: our own.")]
Rulebook = Annotated[Path, typer.Option(help="Folder of rules to load.")]
Within = Annotated[float, typer.Option(help="Seconds to wait for the workers.")]
Keep = Annotated[bool, typer.Option("--keep", help="Leave topics and logs for a look.")]
