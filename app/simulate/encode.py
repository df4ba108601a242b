"""Columns into bytes: the wire format of the two hot events, plain or as CloudEvents, and what is wrong with some."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from app.simulate.columns import ABSENT, CAMPAIGN, ORGANIC, REQUEST, USE, Columns, chance
from app.simulate.plan import Plan
from app.simulate.spoil import NUMBER, WAYS, Headers, spoil

USAGE, PERFORMANCE = "events.usage", "events.performance"
SOURCE = "/simulator"
PLAIN, STRUCTURED, BINARY = 0, 1, 2
_NOTHING: Headers = []


@dataclass(slots=True)
class Encoded:
    """Rows as they go to a log, in order; the lists are equally long."""

    performance: list[bool] = field(default_factory=list)
    """Which topic: performance or usage."""
    keys: list[bytes | None] = field(default_factory=list)
    values: list[bytes | None] = field(default_factory=list)
    headers: list[Headers] = field(default_factory=list)
    at: list[int] = field(default_factory=list)
    """When each occurred, and for spoilt ones would have."""

    def __len__(self) -> int:
        return len(self.values)


class Encoder:
    """Makes bytes of the rows of one plan. A row's bytes depend on the row alone, so a copy is the same to the byte."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._heads = [f'"tenant":"{p.tenant}","product":"{p.name}"' for p in plan.products]
        self._keys = [[f"{p.tenant}|{user(k)}".encode() for k in range(p.users)] for p in plan.products]
        self._services = [[f"{p.tenant}|{s.name}".encode() for s in p.services] for p in plan.products]
        self._about = [[f"{p.tenant}|{f.name}".encode() for f in p.features] for p in plan.products]

    def encode(self, rows: Columns) -> Encoded:
        """The rows' bytes, keys and headers."""
        dirt = self._plan.dirt
        form = chance(rows.n, 11)
        shape = np.where(form < dirt.cloudevents / 2, STRUCTURED, np.where(form < dirt.cloudevents, BINARY, PLAIN))
        shape[rows.spoilt != 0] = PLAIN
        # CloudEvents carry their time as RFC 3339, always.
        text = (chance(rows.n, 12) < dirt.rfc3339) | (shape != PLAIN)
        iso = np.datetime_as_string(rows.at.astype("datetime64[ms]"), unit="ms").tolist()
        at = rows.at.tolist()
        times = [f'"{i}Z"' if t else a for i, t, a in zip(iso, text.tolist(), at, strict=True)]
        out = Encoded(performance=(rows.kind == REQUEST).tolist(), at=at)
        bodies, tails = [], []
        for n, product, kind, who, what, attribution, latency, status, error, when in zip(
            rows.n.tolist(),
            rows.product.tolist(),
            rows.kind.tolist(),
            rows.user.tolist(),
            rows.what.tolist(),
            rows.attribution.tolist(),
            rows.latency_us.tolist(),
            rows.status.tolist(),
            rows.error.tolist(),
            at,
            strict=True,
        ):
            if kind == REQUEST:
                out.keys.append(self._services[product][what] if what >= 0 else self._about[product][-1 - what])
                bodies.append(self._request(product, who, what, latency, status, error))
                tails.append(n)
            else:
                out.keys.append(self._keys[product][who])
                bodies.append(self._usage(product, kind, who, what, attribution, when))
                tails.append(n)
        name = self._plan.name
        types = [_TYPES[k] for k in rows.kind.tolist()]
        out.headers = [_NOTHING] * len(rows)
        out.values = [
            f'{{"id":"{name}-{n:x}","type":"{kind}",{body},"occurred_at":{time}}}'.encode()
            for n, kind, body, time in zip(tails, types, bodies, times, strict=True)
        ]
        for i in np.flatnonzero(shape == STRUCTURED).tolist():
            out.values[i] = (
                f'{{"specversion":"1.0","id":"{name}-{tails[i]:x}","source":"{SOURCE}","type":"{types[i]}",'
                f'"time":{times[i]},"datacontenttype":"application/json","data":{{{bodies[i]}}}}}'
            ).encode()
            out.headers[i] = [("content-type", b"application/cloudevents+json; charset=UTF-8")]
        for i in np.flatnonzero(shape == BINARY).tolist():
            out.values[i] = f"{{{bodies[i]}}}".encode()
            out.headers[i] = [
                ("ce_specversion", b"1.0"),
                ("ce_id", f"{name}-{tails[i]:x}".encode()),
                ("ce_source", SOURCE.encode()),
                ("ce_type", types[i].encode()),
                ("ce_time", times[i].strip('"').encode()),
                ("content-type", b"application/json"),
            ]
        for i in np.flatnonzero((rows.spoilt != 0) & (rows.spoilt != NUMBER["ancient"])).tolist():
            value, key = out.values[i], out.keys[i]
            if value is None or key is None:
                raise AssertionError("only sound rows are spoilt")
            out.values[i], out.keys[i], out.headers[i] = spoil(WAYS[int(rows.spoilt[i])], value, key)
        return out

    def _usage(self, product: int, kind: int, who: int, what: int, attribution: int, when: int) -> str:
        name = user(who)
        # A session is half an hour of a user's own clock.
        head = (
            f'{self._heads[product]},"user":"{name}","account":"a{who // 25}",'
            f'"properties":{{"session":"{name}-{(when + who * 7919) // 1_800_000:x}","plan":"{_PLANS[who % 3]}"}}'
        )
        if kind != USE:
            return head
        return f'{head},"feature":"{self._plan.products[product].features[what].name}"{_said(attribution)}'

    def _request(self, product: int, who: int, what: int, latency: int, status: int, error: int) -> str:
        p = self._plan.products[product]
        about = f'"service":"{p.services[what].name}"' if what >= 0 else f'"feature":"{p.features[-1 - what].name}"'
        return (
            f'{self._heads[product]},{about},"latency_ms":{latency / 1000},"status":{status}{_ERRORS[error]}'
            f',"user":"{user(who)}"'
        )


def user(index: int) -> str:
    """A user's name; the tenant's products share their users."""
    return f"u{index:05d}"


def _said(attribution: int) -> str:
    if attribution == ABSENT:
        return ""
    return (
        ',"attribution":"organic"' if attribution == ORGANIC else f',"attribution":"campaign:c{attribution - CAMPAIGN}"'
    )


_PLANS = ("free", "team", "enterprise")
_ERRORS = ("", ',"error":true', ',"error":"timeout"', ',"error":false')
_TYPES = ("feature.used", "session.active", "request.completed")
