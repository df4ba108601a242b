"""What the tests of backtests say of a past: rules, a segment and a workflow in two wordings, and people's days."""

from __future__ import annotations

from typing import Any

from core.rulebook import load_rulebook
from schemas.definitions import Definition

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
EARLY = 9 * DAY
"""The first days."""
WORDS = """
definitions:
  - kind: rule
    name: greet
    id: greet
    trigger: {kind: event, topic: events.usage, where: 'feature == "FEATURE"'}
    cooldown_s: 86400
    command: {type: success.user.help, title: "{{ feature }}", text: "{{ subject }}"}
  - kind: rule
    name: customers
    id: customers
    trigger: {kind: event, topic: events.usage, where: 'feature == "checkout"'}
    when: 'contact.stage == "STAGE"'
    cooldown_s: 43200
    command: {type: success.customer.thank, title: "{{ contact.stage }}", text: "{{ segments }}"}
  - kind: segment
    tenant: acme
    name: spenders
    product: shop
    of: user
    where: 'contact.score > SCORE'
  - kind: rule
    tenant: acme
    name: spending
    id: spending
    trigger: {kind: segment, segment: spenders}
    command: {type: marketing.offer.send, title: "{{ subject }}", text: "{{ contact.score }}"}
  - kind: rule
    name: every-hour
    id: every-hour
    trigger: {kind: schedule, cron: "0 * * * *"}
    command: {type: product.report.write, title: "{{ due }}", text: "{{ active_users }}"}
  - kind: workflow
    tenant: acme
    name: courting
    id: courting
    trigger: {kind: segment, segment: spenders}
    events:
      paying: {topic: events.usage, where: 'feature == "checkout"'}
    start: hope
    lasts: 3d
    nodes:
      - kind: await
        id: hope
        events: {paying: praise}
        timeout: 20h
        timed_out: remind
      - {kind: act, id: praise, command: {type: success.user.praise, title: "{{ subject }}", text: "{{ last.paying.at }}"}}
      - {kind: act, id: remind, command: {type: success.user.remind, title: "{{ subject }}", text: "none"}, next: again}
      - {kind: await, id: again, events: {paying: praise}, timeout: 20h, timed_out: done}
      - {kind: exit, id: done, outcome: failure}
  - kind: workflow
    name: asking
    id: asking
    trigger: {kind: event, topic: events.usage, where: 'feature == "cart"'}
    start: first
    LIFE
    nodes:
      - {kind: act, id: first, command: {type: success.user.help, title: "cart", text: "{{ user }}"}, next: pause}
      - {kind: wait, id: pause, until: {kind: span, span: SPAN}, next: ask}
      - kind: act
        id: ask
        command: {type: success.user.ask, title: "cart", text: "{{ user }}"}
        wait: delivery
        on_error: continue
        next: thank
        failed: never
      - {kind: act, id: thank, command: {type: success.user.thank, title: "cart", text: "{{ user }}"}, next: offer}
      - kind: act
        id: offer
        command: {type: marketing.cart.offer, title: "cart", text: "{{ user }}"}
        wait: delivery
        on_error: continue
        next: never
        failed: repair
      - kind: act
        id: repair
        command: {type: engineering.cart.repair, title: "cart", text: "{{ user }}"}
        wait: delivery
        on_error: continue
        next: never
        failed: LAST
      - {kind: act, id: never, command: {type: success.user.never, title: "cart", text: "{{ user }}"}}
      - {kind: act, id: LAST, command: {type: success.user.call, title: "cart", text: "{{ user }}"}}
"""


def words(version: int, replayed: bool = False) -> list[Definition]:
    """What is in force before the middle (0) and after it (1). `replayed`: months pass in seconds, and receipts come at the time of
    today: no run may depend on how much later than its command that is.
    """
    text = WORDS.replace("LIFE", "reentry: parallel" if replayed else "lasts: 3d")
    for name, both in {
        "FEATURE": ("search", "export"),
        "STAGE": ("customer", "dormant"),
        "SCORE": ("50", "70"),
        "SPAN": ("2h", "3h"),
        "LAST": ("call", "visit"),
    }.items():
        text = text.replace(name, both[version])
    return load_rulebook({"words.yaml": text})


def days(t0: int, first: int, last: int, step: int = 30 * MINUTE) -> list[tuple[str, dict[str, Any]]]:
    """Some people's usage, an event every `step`, and with every tenth (of the first days: every fourth) news of one of them. The
    first eight people have all their news in the first days.
    """
    features = ("home", "search", "cart", "checkout", "export")
    found: list[tuple[str, dict[str, Any]]] = []
    for n in range(first * DAY // step, last * DAY // step):
        at, user = t0 + n * step, f"u{n * 7 % 23}"
        feature = features[(n * n + n // 7) % 5 if n % 11 else 2]
        found.append(("events.usage", {"type": "feature.used", "user": user, "feature": feature, "occurred_at": at}))
        early, number = at < t0 + EARLY, n // (4 if at < t0 + EARLY else 10)
        if n % (4 if early else 10) == 3:
            who = number * 3 % 23
            if not early and who < 8:
                continue
            body: dict[str, Any] = {"contact": f"u{who}", "occurred_at": at + MINUTE}
            if number % 2:
                body |= {"type": "contact.stage_changed", "stage": ("dormant", "lead", "customer")[number // 2 % 3]}
            else:
                body |= {"type": "contact.updated", "score": n * 37 % 100}
            found.append(("events.contacts", body))
    return found
