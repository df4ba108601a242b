"""Who is held out of a rule, and what is noted of those who met it: the two arms of its comparison."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

import xxhash

from schemas.definitions import Rule

_SCALE: Final = float(1 << 64)


def is_held(tenant: str, rule: str, subject: str, share: float) -> bool:
    """Whether the subject is held out of the rule (by id): always the same, and who is held at a share is held at every larger one."""
    if share <= 0:
        return False
    parts = "\x1f".join((tenant, rule, subject)).encode()
    drawn = hashlib.blake2b(parts, key=b"uptake.holdout", digest_size=8).digest()
    return int.from_bytes(drawn) / _SCALE < share


def signature(rule: Rule) -> str:
    """Of what is measured. Edits that leave it (owner, description, ceiling …) go on with the same experiment."""
    parts = (
        rule.trigger,
        rule.condition,
        rule.command,
        rule.outcome and rule.outcome.model_copy(update={"on_harm": "tell"}),
    )
    text = "\x1f".join("" if p is None else p.model_dump_json() for p in parts)
    return xxhash.xxh3_64_hexdigest(f"{text}\x1f{rule.holdout}".encode())


@dataclass(frozen=True, slots=True)
class Exposed:
    """A subject met a rule that is measured: the command was given (treated), or would have been (held)."""

    rule: Rule
    tenant: str
    product: str
    subject: str
    at: int
    held: bool
    probability: float | None = None
    """What a prediction said, where the trigger carried one."""
