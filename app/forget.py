"""Forgetting a subject: the record that tells every process to, and the definitions that name it, rewritten."""

from __future__ import annotations

import logging
import secrets
from typing import Final

from pydantic import BaseModel

from app.definitions import erase_versions, load, publish, retire
from app.settings import Settings
from core.definitions import Catalogue
from core.forgetting import KINDS, digest
from schemas.definitions import Definition, Forgotten, Segment, Silence
from schemas.envelope import Millis
from schemas.topics import DAY_MS, TOPICS

log = logging.getLogger(__name__)
SALT_BYTES: Final = 32
EXPIRE: Final = {t.name: t.retention_ms // DAY_MS for t in TOPICS if t.cleanup == "delete" and t.public}
"""Topics from which a row cannot be taken out, and after how many days it leaves by itself."""


class BadSubject(ValueError):
    """Not the name of a person; the message says how one is given."""


class Asked(BaseModel):
    """What was done, without the subject's name: this can be kept."""

    tenant: str
    digest: str
    """Keyed hash of the subject: the name of its record among the definitions."""
    asked_at: Millis
    by: str
    before: bool
    """It was asked for before: that record stands."""
    rewritten: list[str]
    """Segments and silences that named the subject, and do no longer."""
    expire_days: dict[str, int]
    """Topics whose rows about the subject are shown to nobody and leave the log by retention, after this many days at most."""


async def forget(settings: Settings, tenant: str, subject: str, *, by: str, now: int) -> Asked:
    """Tell every process to forget the subject (`user:name`, `contact:name`), for good. Asking again changes nothing.

    Raises `BadSubject`, `app.kafka.NoKafka`, `app.kafka.MissingTopic`.
    """
    kind, _, name = subject.partition(":")
    if kind not in KINDS or not name:
        raise BadSubject(f"{subject!r} is nobody: give user:NAME or contact:NAME")
    catalogue = await load(settings)
    records = [r for r in catalogue.of(Forgotten) if r.tenant == tenant]
    salt = records[0].salt if records else secrets.token_hex(SALT_BYTES)
    known = next((r for r in records if r.name == digest(r.salt, tenant, subject)), None)
    record = known or Forgotten.model_validate(
        {
            "tenant": tenant,
            "name": digest(salt, tenant, subject),
            "of": kind,
            "salt": salt,
            "asked_at": now,
            "by": by,
        }
    )
    changed, gone = _without(catalogue, tenant, kind, name)
    await publish(settings, [*([] if known else [record]), *changed])
    await retire(settings, gone)
    await erase_versions(settings, [_head(catalogue, d) for d in (*changed, *gone)])
    log.info("%s asked to forget %s/%s", by, tenant, record.name)
    return Asked(
        tenant=tenant,
        digest=record.name,
        asked_at=record.asked_at,
        by=record.by,
        before=known is not None,
        rewritten=sorted(f"{d.kind} {d.name}" for d in (*changed, *gone)),
        expire_days=EXPIRE,
    )


def _without(catalogue: Catalogue, tenant: str, kind: str, name: str) -> tuple[list[Definition], list[Definition]]:
    """The tenant's definitions that name the subject: as they are without it, and those of which nothing is left."""
    changed: list[Definition] = []
    gone: list[Definition] = []
    for segment in catalogue.of(Segment):
        if segment.tenant == tenant and kind == "user" and name in segment.users:
            changed.append(segment.model_copy(update={"users": [u for u in segment.users if u != name]}))
    for silence in catalogue.of(Silence):
        left = [s for s in silence.subjects if s != f"{kind}:{name}"]
        if silence.tenant != tenant or left == silence.subjects:
            continue
        if left:
            changed.append(silence.model_copy(update={"subjects": left}))
        else:
            gone.append(silence)  # without subjects it would silence everybody
    return changed, gone


def _head(catalogue: Catalogue, definition: Definition) -> Definition:
    same = (definition.tenant, definition.kind, definition.name)
    return next(d for d in catalogue.heads() if (d.tenant, d.kind, d.name) == same)
