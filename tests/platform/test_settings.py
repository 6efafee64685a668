"""Settings from mappings: strict types, one sentence per mistake, and a round trip."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from textrl.errors import UserError
from textrl.settings import build, describe, to_plain, type_name

if TYPE_CHECKING:
    from decimal import Decimal


@dataclass(frozen=True, kw_only=True)
class Inner:
    """Inner.

    Attributes:
        size: How large.
        names: Which
            ones.
    """

    size: int = 1
    names: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Outer:
    """Outer.

    Attributes:
        rate (float): The rate, in
            nats: always positive.
        mode: How.

    Raises:
        ValueError: Never mind.
    """

    rate: float = 1e-3
    mode: Literal["a", "b", 3] = "a"
    on: bool = False
    count: int = 0
    text: str = ""
    path: Path | None = None
    inner: Inner = field(default_factory=Inner)
    maybe: Inner | None = None
    pair: tuple[int, float] = (1, 2.0)
    items: list[Inner] = field(default_factory=list)
    table: Mapping[str, float] = field(default_factory=dict)
    several: Sequence[int] = ()
    chosen: frozenset[str] = frozenset()
    either: int | float | str = 0
    one_or_many: float | tuple[float, ...] = 0.0
    anything: Any = None
    explained: int = field(default=2, metadata={"help": "From the metadata."})

    def __post_init__(self) -> None:
        if self.rate <= 0:
            raise ValueError(f"rate must be above 0, not {self.rate}")
        if self.count > 100 and self.on:
            raise ValueError("too many of them.")


@dataclass(frozen=True)
class Needs:
    model: str
    layers: int | None


def where(key: str) -> str:
    return f"c.yaml, line {len(key)}"


def make(**data: Any) -> Outer:
    return build(Outer, data, where=where)


@pytest.mark.parametrize(
    ("data", "value"),
    [
        ({"rate": 2}, 2.0),
        ({"rate": "5e-4"}, 5e-4),
        ({"rate": "1.E3"}, 1000.0),
        ({"rate": math.inf}, math.inf),
        ({"mode": 3}, 3),
        ({"on": True}, True),
        ({"path": "a/b"}, Path("a/b")),
        ({"path": None}, None),
        ({"inner": {"size": 4}}, Inner(size=4)),
        ({"inner": Inner(size=5)}, Inner(size=5)),
        ({"maybe": {"names": ["x"]}}, Inner(names=("x",))),
        ({"maybe": None}, None),
        ({"pair": [3, 4]}, (3, 4.0)),
        ({"items": [{}, {"size": 2}]}, [Inner(), Inner(size=2)]),
        ({"table": {"a": 1}}, {"a": 1.0}),
        ({"several": [1, 2]}, (1, 2)),
        ({"chosen": ["y", "x"]}, frozenset({"x", "y"})),
        ({"either": 3}, 3),
        ({"either": 3.5}, 3.5),
        ({"either": "x"}, "x"),
        ({"one_or_many": [1, 2]}, (1.0, 2.0)),
        ({"one_or_many": 1}, 1.0),
        ({"anything": {"x": [1]}}, {"x": [1]}),
    ],
)
def test_values_of_every_kind(data: dict[str, Any], value: Any) -> None:
    (name,) = data
    found = getattr(make(**data), name)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"rte": 1}, "line 3: unknown key 'rte'. Did you mean 'rate'?"),
        ({"inner": {"sise": 1}}, "line 10: unknown key 'inner.sise'. Did you mean 'size'?"),
        ({"maybe": {"sise": 1}}, "line 10: unknown key 'maybe.sise'. Did you mean 'size'?"),
        ({"items": [{}, {"size": "x"}]}, "line 12: 'items.1.size' must be a whole number (int), not 'x'."),
        ({"rate": "fast"}, "line 4: 'rate' must be a number (float), not 'fast'."),
        ({"rate": True}, "'rate' must be a number (float), not true."),
        ({"rate": math.nan}, "'rate' must be a number (float), not nan."),
        ({"rate": None}, "'rate' must be a number (float), not null."),
        ({"rate": [1]}, "'rate' must be a number (float), not [1]."),
        ({"rate": {"x": 1}}, "'rate' must be a number (float), not a section."),
        ({"count": 1.5}, "'count' must be a whole number (int), not 1.5."),
        ({"count": 1e6}, "'count' must be a whole number (int), not 1000000.0; write 1000000."),
        ({"count": True}, "'count' must be a whole number (int), not true."),
        ({"count": "5"}, "'count' must be a whole number (int), not '5'."),
        ({"on": 1}, "'on' must be true or false, not 1."),
        ({"on": "yes"}, "'on' must be true or false, not 'yes'."),
        ({"text": 5}, "'text' must be text (str), not 5; put it in quotes."),
        ({"mode": "c"}, "'mode' must be one of 'a', 'b', 3, not 'c'."),
        ({"mode": 3.0}, "'mode' must be one of 'a', 'b', 3, not 3.0."),
        ({"path": 3}, "'path' must be a path or null, not 3."),
        ({"path": ""}, "'path' must be a path or null, not ''."),
        ({"inner": 3}, "'inner' must be a section (size, names), not 3."),
        ({"inner": None}, "'inner' must be a section (size, names), not null."),
        ({"maybe": 3}, "'maybe' must be a section (size, names) or null, not 3."),
        ({"pair": [1]}, "'pair' must be a tuple[int, float], not [1]."),
        ({"pair": [1, "x"]}, "'pair.1' must be a number (float), not 'x'."),
        ({"several": "12"}, "'several' must be a Sequence[int], not '12'."),
        ({"table": [1]}, "'table' must be a Mapping[str, float], not [1]."),
        ({"table": {"a": "x"}}, "'table.a' must be a number (float), not 'x'."),
        (
            {"either": [1]},
            "must be a whole number (int) or a number (float) or text (str), not [1].",
        ),
        ({"one_or_many": [1, "x"]}, "'one_or_many.1' must be a number (float), not 'x'."),
        ({"rate": -1.0}, "line 4: 'rate': rate must be above 0, not -1.0."),
        ({"count": 101, "on": True}, "line 0: 'Outer': too many of them."),
        ({"text": ["x" * 200]}, "..."),
    ],
)
def test_one_sentence_names_place_key_value_and_type(data: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError) as caught:
        make(**data)
    assert says in str(caught.value)
    assert str(caught.value).startswith("c.yaml, line ")
    assert len(str(caught.value)) < 160


def test_a_prefix_stands_before_every_key() -> None:
    with pytest.raises(UserError, match=r"line 8: unknown key 'ppo\.sizw'\. Did you mean 'size'"):
        build(Inner, {"sizw": 1}, where=where, prefix="ppo")
    with pytest.raises(UserError, match=r"line 8: 'ppo\.size' must be"):
        build(Inner, {"size": "x"}, where=where, prefix="ppo")


def test_a_required_key_that_is_missing() -> None:
    with pytest.raises(UserError, match=r"line 2: 'rm\.model' is missing; set it to text \(str\)\."):
        build(Needs, {"layers": None}, where=where, prefix="rm")
    with pytest.raises(UserError, match=r"'layers' is missing; set it to a whole number \(int\) or null\."):
        build(Needs, {"model": "x"}, where=where)


def test_data_that_is_no_mapping() -> None:
    with pytest.raises(UserError, match=r"'rm' must be a section \(model, layers\), not 3\."):
        build(Needs, 3, where=where, prefix="rm")  # type: ignore[arg-type]


def test_a_mistake_in_the_settings_class_itself_is_not_hidden() -> None:
    @dataclass(frozen=True)
    class Buggy:
        x: int = 0

        def __post_init__(self) -> None:
            raise KeyError("a bug of the class")

    with pytest.raises(KeyError, match="a bug of the class"):
        build(Buggy, {}, where=where)


@dataclass(frozen=True)
class Hidden:
    amount: Decimal = 0  # type: ignore[assignment]


def test_an_annotation_that_exists_for_type_checkers_only() -> None:
    with pytest.raises(UserError, match=r"Hidden has an annotation that cannot be resolved .*'Decimal'"):
        build(Hidden, {}, where=where)


def test_description_has_type_default_and_help() -> None:
    found = {item.name: item for item in describe(Outer)}
    assert found["rate"].help == "The rate, in nats: always positive."
    assert found["mode"].help == "How."
    assert found["mode"].type == "'a' | 'b' | 3"
    assert found["explained"].help == "From the metadata."
    assert found["path"].type == "Path | None"
    assert found["pair"].default == [1, 2.0]
    assert found["inner"].default == {"size": 1, "names": []}
    assert found["count"].help == "", "sections after Attributes are not part of it"
    assert {item.name: item.help for item in describe(Inner)} == {
        "size": "How large.",
        "names": "Which ones.",
    }
    needs = describe(Needs)
    assert all(item.required for item in needs)
    assert needs[1].type == "int | None"


def test_help_is_inherited() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Child(Inner):
        """Child.

        Attributes:
            extra: More.
        """

        extra: int = 0

    assert [item.help for item in describe(Child)] == ["How large.", "Which ones.", "More."]


def test_describing_what_is_no_dataclass() -> None:
    with pytest.raises(UserError, match="is no dataclass"):
        describe(int)


def test_type_names() -> None:
    assert type_name(tuple[str, ...]) == "tuple[str, ...]"
    assert type_name(dict[str, list[int]]) == "dict[str, list[int]]"
    assert type_name(Any) == "Any"


numbers = st.floats(allow_nan=False)
inners = st.builds(Inner, size=st.integers(), names=st.lists(st.text()).map(tuple))


@hypothesis.settings(deadline=None, derandomize=True)
@given(
    st.builds(
        Outer,
        rate=st.floats(min_value=1e-9, allow_nan=False),
        mode=st.sampled_from(["a", "b", 3]),
        count=st.integers(max_value=100),
        text=st.text(),
        path=st.none() | st.just(Path("x/y")),
        inner=inners,
        maybe=st.none() | inners,
        pair=st.tuples(st.integers(), numbers),
        items=st.lists(inners, max_size=2),
        table=st.dictionaries(st.text(min_size=1), numbers, max_size=2),
        several=st.lists(st.integers()).map(tuple),
        chosen=st.frozensets(st.text(), max_size=3),
        either=st.integers() | numbers | st.text(),
        one_or_many=numbers | st.lists(numbers).map(tuple),
    )
)
def test_plain_form_builds_the_same_settings(settings: Outer) -> None:
    assert make(**to_plain(settings)) == settings
