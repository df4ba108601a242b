"""Profiles as facts: `contact.…` (of users and contacts), `account.…`, `segments`, `campaign.NAME.…`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, Final

from core.people.profile import COUNTED, UNIT, Profile
from schemas.segments import Campaign

RATES: Final = {"open_rate": ("opened", "sent"), "click_rate": ("clicked", "sent"), "reply_rate": ("replied", "sent")}
"""Each is null until something was sent."""
_TIMES: Final = ("last_purchase_at", "last_opened_at", "last_seen_at")


def facts_of(
    subject: str, profile: Profile, segments: Iterable[str], campaigns: Mapping[str, Campaign]
) -> dict[str, Any]:
    """What conditions and templates see of a subject. `segments`: those it is in; `campaigns`: the tenant's, by name."""
    kind, _, name = subject.partition(":")
    about: dict[str, Any] = {"id": name}
    for plain in ("stage", "status", "time_zone", "score", "account"):
        about[plain] = profile.value(plain)
    for nested in ("fields", "demographics"):
        about[nested] = dict(profile.under(f"{nested}."))
    about["tags"] = [tag for tag, _ in profile.under("tags.")]
    about["lists"] = [one for one, _ in profile.under("lists.")]
    for count in COUNTED.values():
        about[count] = profile.total(count)
    about["spent"] = profile.total("spent") / UNIT
    for rate, (part, whole) in RATES.items():
        about[rate] = about[part] / about[whole] if about[whole] else None
    about["rating"] = profile.total("rated") / UNIT / about["ratings"] if about["ratings"] else None
    for time in _TIMES:
        about[time] = profile.total(time) or None
    return {
        "account" if kind == "account" else "contact": about,
        "segments": sorted(segments),
        "campaign": _campaigns(subject, profile, campaigns),
    }


def _campaigns(subject: str, profile: Profile, campaigns: Mapping[str, Campaign]) -> dict[str, Any]:
    names = {*campaigns, *(name.split(".", 1)[1].rsplit(".", 1)[0] for name, _ in _of(profile))}
    found: dict[str, Any] = {}
    for name in sorted(names):
        member = bool(profile.value(f"campaign.{name}.member"))
        campaign, position = campaigns.get(name), profile.value(f"campaign.{name}.position")
        position = (position or 0) if member else None
        steps = campaign.steps if campaign is not None else []
        step = steps[position] if position is not None and position < len(steps) else None
        variant = profile.value(f"campaign.{name}.variant")
        if variant is None and member and campaign is not None:
            variant = variant_of(campaign, subject)
        found[name] = {"member": member, "position": position, "step": step, "variant": variant if member else None}
    return found


def _of(profile: Profile) -> Iterable[tuple[str, Any]]:
    return ((name, told) for name, told in profile.registers.items() if name.startswith("campaign."))


def variant_of(campaign: Campaign, subject: str) -> str | None:
    """The variant that a subject has for good, drawn by weight from its name; None where there are none."""
    if not campaign.variants:
        return None
    total = sum(v.weight for v in campaign.variants)
    text = f"{campaign.tenant}\x1f{campaign.name}\x1f{subject.partition(':')[2]}".encode()
    drawn = int.from_bytes(hashlib.blake2b(text, digest_size=8, key=b"uptake.campaign").digest(), "big")
    at = drawn * total // (1 << 64)
    for variant in campaign.variants:
        at -= variant.weight
        if at < 0:
            return variant.name
    return campaign.variants[-1].name
