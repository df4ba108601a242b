"""Histories of runs as rows of the read model: each record, and how the run stands after it."""

from __future__ import annotations

import msgspec

from core.workflows.jobs import Record

_read = msgspec.json.Decoder(Record).decode
_write = msgspec.json.Encoder().encode
Cell = str | int | float | bool | None


def of_record(value: bytes, recorded_at: int) -> list[tuple[str, dict[str, Cell]]]:
    """(table, row) of a record of the topic `runs`. Raises `ValueError` where it is none."""
    try:
        record = _read(value)
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from error
    shared: dict[str, Cell] = {"tenant": record.tenant, "subject": record.subject, "seq": record.seq}
    nodes = sorted({node for place in record.places for node in place.split("/")})
    run: dict[str, Cell] = {
        **shared,
        "id": record.run,
        "product": record.product,
        "workflow": record.workflow,
        "version": record.versions.get("", 0),
        "began": record.began,
        "at": record.job.at,
        "status": record.status,
        "outcome": record.outcome,
        "paused": record.paused,
        "places": _write(record.places).decode(),
        "nodes": f"|{'|'.join(nodes)}|",
        "recorded_at": recorded_at,
    }
    kept: dict[str, Cell] = {**shared, "run": record.run, "recorded_at": recorded_at, "body": value.decode()}
    return [("runs", run), ("run_records", kept)]
