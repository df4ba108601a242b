"""Who has been in a comparison whose time is over: eight bytes a subject, so that nobody counts twice and the exposure itself can go.

A subject is remembered by a keyed hash of its name and its experiment, so rows say of nobody who they were, and need not be forgotten.
(Where a million are remembered, one in 10¹² is left out for another's sake.) They are kept by pages in the order in which they came:

    met  [signature, fingerprints] of one page of a rule's experiment; only its last page is ever written again

An experiment has a page from its first subject's entry on: so state says which one is the rule's present one.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from core.room import is_open

PAGE: Final = 8_192
"""Fingerprints of a page: 64 KB."""
_LOOSE: Final = 4_096
"""Fingerprints that are not sorted in yet, before they are; more where many are there."""
Rule = tuple[str, str, str]
"""tenant, product, rule's name."""
Page = tuple[str, str, str, int]


def fingerprint(subject: str, signature: str) -> int:
    """What a subject of an experiment is remembered by."""
    hashed = hashlib.blake2b(f"{signature}\x1f{subject}".encode(), key=b"uptake.met", digest_size=8)
    return int.from_bytes(hashed.digest())


class Met:
    """Everybody who has been in the present experiment of each rule."""

    def __init__(self) -> None:
        self._rules: dict[Rule, _Known] = {}
        self._held: Counter[str] = Counter()
        """Tenant → fingerprints."""
        self.changed: set[Page] = set()

    def __len__(self) -> int:
        return self._held.total()

    def open_to(self, tenant: str, most: int) -> bool:
        """Whether the tenant's subjects may still be added, as `core.room.Room` says it."""
        return is_open(len(self), self._held[tenant], most)

    def begins(self, rule: Rule, signature: str) -> None:
        """Somebody enters this experiment: who was in the one before it is forgotten, should it be another."""
        known = self._rules.get(rule)
        if known is not None and known.signature == signature:
            return
        if known is not None:
            self._held[rule[0]] -= len(known)
            self.changed.update((*rule, page) for page in range(known.pages))
        self._rules[rule] = _Known(signature)
        self.changed.add((*rule, 0))

    def knows(self, rule: Rule) -> bool:
        """Whether anybody ever entered an experiment of the rule."""
        return rule in self._rules

    def holds(self, rule: Rule, signature: str, subject: str) -> bool:
        """Whether the subject has been in this experiment."""
        known = self._rules.get(rule)
        return known is not None and known.signature == signature and fingerprint(subject, signature) in known

    def add(self, rule: Rule, signature: str, subject: str) -> None:
        """The subject's time is over. Of an experiment that is no longer the rule's nothing is kept."""
        known = self._rules.get(rule)
        if known is None or known.signature != signature:
            return
        page = known.add(fingerprint(subject, signature))
        if page is not None:
            self._held[rule[0]] += 1
            self.changed.add((*rule, page))

    # --- state --------------------------------------------------------------------------------------------------------

    def drain(self) -> Iterator[tuple[Page, list[object] | None]]:
        """Pages that changed since the last drain; None: it is gone."""
        for *rule, page in sorted(self.changed):
            tenant, product, name = rule
            known = self._rules[tenant, product, name]
            found = known.page(page)
            yield (tenant, product, name, page), None if found is None else [known.signature, found]
        self.changed.clear()
        for known in self._rules.values():
            known.drained()

    def load(self, rule: Rule, page: int, content: Any) -> None:
        """Take one page back; all of them before anything is asked."""
        signature, packed = content
        known = self._rules.setdefault(rule, _Known(signature))
        self._held[rule[0]] += known.load(page, packed)

    def loaded(self) -> None:
        """Every page is there."""
        for known in self._rules.values():
            known.loaded()


class _Known:
    """Fingerprints of one experiment."""

    def __init__(self, signature: str) -> None:
        self.signature = signature
        self._sorted: npt.NDArray[np.uint64] = np.zeros(0, np.uint64)
        self._loose: set[int] = set()
        self._recent: dict[int, list[int]] = {0: []}
        """Pages that have not been drained, and the last one."""
        self._read: list[npt.NDArray[np.uint64]] = []
        self.pages = 1

    def __len__(self) -> int:
        return len(self._sorted) + len(self._loose)

    def __contains__(self, mark: int) -> bool:
        if mark in self._loose:
            return True
        at = int(np.searchsorted(self._sorted, np.uint64(mark)))
        return at < len(self._sorted) and int(self._sorted[at]) == mark

    def add(self, mark: int) -> int | None:
        """The page that it went to; None where it was there."""
        if mark in self:
            return None
        if len(self._recent[self.pages - 1]) >= PAGE:
            self._recent[self.pages] = []
            self.pages += 1
        self._recent[self.pages - 1].append(mark)
        self._loose.add(mark)
        if len(self._loose) > _LOOSE + len(self._sorted) // 16:
            self._sort([np.fromiter(self._loose, np.uint64, len(self._loose))])
        return self.pages - 1

    def page(self, number: int) -> bytes | None:
        """A page that changed, packed; None where there is none of that number."""
        return np.array(self._recent[number], "<u8").tobytes() if number < self.pages else None

    def drained(self) -> None:
        """What is written need not be kept apart, but for the page that goes on."""
        for number in [n for n in self._recent if n != self.pages - 1]:
            del self._recent[number]

    def load(self, number: int, packed: bytes) -> int:
        """Take a page back; how many are in it."""
        marks = np.frombuffer(packed, "<u8").astype(np.uint64)
        self._read.append(marks)
        if number >= self.pages - 1:
            self.pages, self._recent = number + 1, {number: marks.tolist()}
        return len(marks)

    def loaded(self) -> None:
        """Every page is there."""
        self._sort(self._read)
        self._read = []

    def _sort(self, more: list[npt.NDArray[np.uint64]]) -> None:
        self._sorted = np.sort(np.concatenate((self._sorted, *more)), kind="stable")  # cheap where most is in order
        self._loose.clear()
