"""The users' numbers against a dict and a list, through every order of new names, retirements and withdrawals."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from core.meter.users import Users

NAMES = st.sampled_from([f"u{i}" for i in range(12)] + ["", "é", "漢字"])
STEP = st.one_of(
    st.tuples(st.just("codes"), st.lists(NAMES, max_size=8)),
    st.tuples(st.just("extend"), st.lists(NAMES, max_size=5)),
    st.tuples(st.just("retire"), st.integers(1, 40)),
    st.tuples(st.just("withdraw"), st.lists(NAMES, min_size=1, max_size=5)),
    st.tuples(st.just("nameless"), st.none()),
)


class Model:
    def __init__(self) -> None:
        self.names, self.number = [""], {"": 0}

    def add(self, name: str) -> int:
        if name not in self.number:
            self.number[name] = len(self.names)
            self.names.append(name)
        return self.number[name]

    def append(self, name: str) -> None:
        if name:
            self.number[name] = len(self.names)
        self.names.append(name)


@settings(max_examples=100, deadline=None)
@given(st.lists(STEP, max_size=30))
def test_numbers_are_those_of_a_dict(steps: list[tuple[str, object]]) -> None:
    users, model = Users(), Model()
    for what, given_ in steps:
        if what == "codes":
            assert users.codes(given_).tolist() == [model.add(n) for n in given_]
        elif what == "extend":
            users.extend(given_)
            for name in given_:
                model.append(name)
        elif what == "nameless":
            assert users.nameless() == len(model.names)
            model.append("")
        elif what == "retire":
            number = given_ % len(model.names)
            if number:
                users.retire(number)
                if model.number.get(model.names[number]) == number:
                    del model.number[model.names[number]]
                model.names[number] = ""
        else:
            known = len(model.names)
            for name in given_:
                model.add(name)
            users.codes(given_)
            gone = set(range(known, len(model.names))[::2])
            moved = users.withdraw(known, gone)
            kept = [n for n in range(known, len(model.names)) if n not in gone]
            for number in gone:
                del model.number[model.names[number]]
            names = [model.names[n] for n in kept]
            for at, name in enumerate(names, known):
                model.number[name] = at
            assert [moved[n] for n in kept] == list(range(known, known + len(kept)))
            model.names[known:] = names
        assert users.names == model.names
        for name in {*model.names, "never"}:
            assert users.get(name, -1) == model.number.get(name, -1), steps


def test_many_names_and_many_that_came_and_went() -> None:
    users = Users()
    for turn in range(60):
        known = len(users.names)
        users.codes([f"passing-{turn}-{i}" for i in range(500)])
        users.withdraw(known, set(range(known, known + 500)))
    some = [f"user-{i}" for i in range(20_000)]
    assert users.codes(some).tolist() == list(range(1, 20_001))
    assert users.codes(some[::-1]).tolist() == list(range(20_000, 0, -1))
    assert users.new() == some and users.new() == []
    assert users.nbytes() < 40 * 30_000
