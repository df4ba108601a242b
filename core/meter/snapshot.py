"""Snapshots: a source's whole state as named arrays and lists, copied at one instant, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from core.batch import Int64s
from core.meter.levels import LEVELS
from core.meter.memory import scratch
from core.meter.pages import columns, join
from core.meter.source import Source
from core.meter.usage import Usage
from core.meter.windows import Window, merged


def dump(source: Source) -> dict[str, Any]:
    """Everything, copied."""
    out: dict[str, Any] = {
        "tenants": source.tenants.names[1:],
        "products": source.products.names[1:],
        "names": source.names.names[1:],
        "groups": [tuple(g) for g in source.groups[1:]],
        "cell_names": source.cell_names[1:],
        "cell_group": source.cell_group[: len(source.cell_names)].copy(),
        "watermark": source.watermark.copy(),
        "clock": [source.clock.at, source.clock.replays.copy(), source.clock.announced, source.clock.quiet],
        "replays": [sorted(source.born), sorted(source.held)],
        "seen": [source.seen.clock, source.seen.shortened],
        "seen_current": source.seen.current.keys(),
        "seen_before": source.seen.before.keys(),
        "windows": list(source.windows),
    }
    for i in range(len(_WINDOWS)):
        out |= {f"window|{i}|{part}": table for part, table in _dump_windows(source, i).items()}
    if isinstance(source, Usage):
        pairs, profiles = source.pairs, source.profiles
        all_pairs, hot = columns(pairs)
        out |= {
            "users": source.users.names[1:],
            "profile_keys": scratch.copy(profiles.index.keys[: len(profiles)]),
            "profile_last": scratch.copy(profiles.last[: len(profiles)]),
            "profile_events": scratch.copy(profiles.events[: len(profiles)]),
            "pairs": all_pairs,
            "hot": hot,
            "wide": [(int(pairs.rows[p, 0]), [sorted(s) for s in panes]) for p, panes in pairs.wide.items()],
        }
    return out


def restore(source: Source, dumped: dict[str, Any]) -> None:
    """Give an empty source the state that was dumped."""
    source.tenants.extend(dumped["tenants"])
    source.products.extend(dumped["products"])
    source.names.extend(dumped["names"])
    # a product's first cell is its `*`, which `add_group` makes: cells come back in their order around the groups
    groups = [tuple(g) for g in dumped["groups"]]
    add(source, groups, list(zip(dumped["cell_group"].tolist()[1:], dumped["cell_names"], strict=True)))
    source.watermark = dumped["watermark"]
    clock = source.clock
    clock.at, clock.replays, clock.announced, clock.quiet = dumped["clock"]
    source.born, source.held = map(set, dumped["replays"])
    source.seen.clock, source.seen.shortened = dumped["seen"]
    for name, generation in (("seen_current", source.seen.current), ("seen_before", source.seen.before)):
        generation.add(dumped[name])
    source.windows = {group: [] for group in dumped["windows"]}
    for i in range(len(_WINDOWS)):
        _restore_windows(source, i, {part: dumped[f"window|{i}|{part}"] for part in ("meta", *_DENSE, *_SPARSE)})
    if isinstance(source, Usage):
        source.users.extend(dumped["users"])
        source.profiles.restore(dumped["profile_keys"], dumped["profile_last"], dumped["profile_events"])
        rows, count = dumped["pairs"]
        source.pairs = join(rows, count, dumped["hot"])
        for key, panes in dumped["wide"]:
            source.pairs.put_aside(key, [set(s) for s in panes])


def add(source: Source, groups: Sequence[Sequence[Any]], cells: Sequence[Sequence[Any]]) -> None:
    """Products and cells, in the order in which they once appeared."""
    coming = iter(groups)
    for group, name in cells:
        if group < len(source.groups):
            source.add_cell(group, name)
        else:
            tenant, product, grace = next(coming)
            source.add_group(tenant, product, grace)


def new_names(source: Source) -> list[Any] | None:
    """Names, products and cells that appeared since the last call; None if there are none."""
    users = source.users.new() if isinstance(source, Usage) else ()
    groups = source.groups[source.drained_groups :]
    cells = [
        (int(source.cell_group[c]), source.cell_names[c]) for c in range(source.drained_cells, len(source.cell_names))
    ]
    source.drained_groups, source.drained_cells = len(source.groups), len(source.cell_names)
    new = [
        list(source.tenants.new()),
        list(source.products.new()),
        list(source.names.new()),
        groups,
        cells,
        list(users),
    ]
    return new if any(new) else None


def take_names(source: Source, new: Sequence[Any]) -> None:
    """Take what `new_names` gave."""
    tenants, products, names, groups, cells, users = new
    source.tenants.extend(tenants)
    source.products.extend(products)
    source.names.extend(names)
    add(source, groups, cells)
    if isinstance(source, Usage):
        source.users.extend(users)


_WINDOWS = [(name, level.step) for level in LEVELS for name, _ in level.windows]
_DENSE = ("running", "late_base")
_SPARSE = ("pending", "history", "late")


def _dump_windows(source: Source, i: int) -> dict[str, Int64s]:
    """The same window of all products, as tables whose first column is the product."""
    parts: dict[str, list[Int64s]] = {name: [] for name in (*_DENSE, *_SPARSE)}
    meta = []
    for group, windows in source.windows.items():
        dumped = windows[i].dump()
        low, high = dumped["dirty"] or (1, 0)
        meta.append((group, dumped["closed"], dumped["final"], low, high, dumped["revised"]))
        for name in _DENSE:
            table = dumped[name]
            parts[name].append(np.column_stack([np.full(len(table), group), table]))
        waiting = source.pending.peek(group, i)
        dumped["pending"] = merged(waiting[0], source.cell_local[waiting[1]], waiting[2])
        for name in _SPARSE:
            ends, cells, values = dumped[name]
            parts[name].append(np.column_stack([np.full(len(ends), group), ends, cells, values]))
    none = {name: np.zeros((0, len(source.columns) + (1 if name in _DENSE else 3)), np.int64) for name in parts}
    out = {name: np.concatenate(tables) if tables else none[name] for name, tables in parts.items()}
    return {"meta": np.array(meta, np.int64).reshape(-1, 6), **out}


def _restore_windows(source: Source, i: int, tables: dict[str, Int64s]) -> None:
    for group, closed, final, low, high, revised in tables["meta"].tolist():
        rows = {name: table[table[:, 0] == group] for name, table in tables.items() if name != "meta"}
        name, step = _WINDOWS[i]
        window = Window(name, step, len(source.columns), 0, 0)
        dumped: dict[str, Any] = {n: rows[n][:, 1:].copy() for n in _DENSE}
        dumped |= {n: (rows[n][:, 1].copy(), rows[n][:, 2].copy(), rows[n][:, 3:].copy()) for n in _SPARSE}
        dumped |= {"closed": closed, "final": final, "revised": revised}
        dumped["dirty"] = (low, high) if low <= high else None
        window.restore(dumped)
        source.windows[group].append(window)
        ends, cells, values = dumped["pending"]
        source.pending.add(group, i, ends, np.array(source.locals[group], np.int64)[cells], values)
