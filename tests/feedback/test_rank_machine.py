"""The machine of a ranking session: who gets what, what is stored of it, and that the log repeats it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rank_session import Ranking, made_items, rank_info

from textrl.errors import UserError
from textrl.feedback.events import FLAGS, BadEvent
from textrl.feedback.machine import build_machine
from textrl.feedback.rank import RankMachine


def _walk(session: Ranking, name: str) -> list[str]:
    """Rank until nothing is left; return the items in their order."""
    seen = []
    while (item := session.item(name)) is not None:
        seen.append(item["item"])
        session.rank(name)
    return seen


def test_everybody_has_an_order_of_their_own_and_gets_every_item_once() -> None:
    session = Ranking(rank_info(made_items(12), overlap=0))
    walks = {name: (session.join(name), _walk(session, name))[1] for name in ("ada", "bob", "eve")}
    assert all(sorted(walk) == sorted(f"i{n}" for n in range(12)) for walk in walks.values())
    assert len({tuple(walk) for walk in walks.values()}) == 3


def test_orders_depend_on_the_seed_and_on_nothing_else() -> None:
    def shown(seed: int) -> Any:
        session = Ranking(rank_info(made_items(20), seed=seed))
        session.join("ada")
        return session.item("ada")

    assert shown(1) == shown(1)
    assert shown(1) != shown(2)
    # Written down once: a later version must show a stored session as it was shown.
    machine = RankMachine(rank_info(made_items(3, k=5), seed=7))
    assert machine.shown_order("ada", "i1") == [1, 2, 0, 3, 4]


@pytest.mark.parametrize("k", range(2, 10))
def test_a_ranking_is_stored_with_its_texts_in_canonical_order(k: int) -> None:
    session = Ranking(rank_info(made_items(4, k)))
    view = session.join("ada")["item"]
    assert sorted(view["completions"]) != view["completions"] or k < 4
    # By the screen: places 1, 1, 4, 4, 5...; gaps mean nothing.
    given_ranks = [1, 1, 4, 4, 5, 6, 7, 8, 9][:k]
    likert = [1 + index % 7 for index in range(k)]
    flags = [{"hallucination": index % 2 == 0} for index in range(k)]
    session.send(
        "ada",
        "ranked",
        {"item": view["item"], "ranks": given_ranks, "likert": likert, "flags": flags, "seconds": 2.5},
    )
    stored = session.log[-1].payload
    assert stored["prompt"] == view["prompt"]
    assert stored["completions"] == sorted(view["completions"])
    assert stored["seconds"] == 2.5
    dense = [1, 1, 2, 2, 3, 4, 5, 6, 7][:k]
    for place, text in enumerate(view["completions"]):
        number = stored["completions"].index(text)
        assert stored["ranks"][number] == dense[place]
        assert stored["likert"][number] == likert[place]
        assert stored["flags"][number] == flags[place]


def test_scores_and_flags_that_nobody_gave_are_left_out() -> None:
    session = Ranking(rank_info(made_items(2)))
    for _ in range(2):
        session.join("ada")
        session.rank("ada", likert=[None] * 3, flags=[{}, None, {}])
        assert session.log[-1].payload.keys() == {"prompt", "completions", "ranks", "item"}


def test_texts_in_a_ranking_say_by_themselves_which_is_which() -> None:
    session = Ranking(rank_info(made_items(1)))
    session.join("ada")
    texts = ["answer 0.c", "answer 0.a", "answer 0.b"]
    session.send("ada", "ranked", {"item": "i0", "ranks": [1, 2, 3], "completions": texts})
    assert session.log[-1].payload["ranks"] == [2, 3, 1]


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        ({"item": "i9", "ranks": [1, 2, 3]}, "no item 'i9'"),
        ({"item": "i0", "ranks": [1, 2]}, "has 3 responses and the ranking 2 ranks"),
        ({"item": "i0", "ranks": [1, 2, 3], "completions": ["x", "y", "z"]}, "are others than"),
        ({"item": "i0", "ranks": [1, 2, 3], "completions": ["answer 0.a"] * 3}, "are others than"),
    ],
)
def test_what_does_not_fit_the_items_is_refused_before_it_is_stored(
    payload: dict[str, Any], words: str
) -> None:
    session = Ranking(rank_info(made_items(2)))
    session.join("ada")
    with pytest.raises(BadEvent, match=words):
        session.send("ada", "ranked", payload)
    assert [event.kind for event in session.log] == ["joined"]


def test_overlap_gives_each_item_to_as_many_people() -> None:
    session = Ranking(rank_info(made_items(10), overlap=2))
    for name in ("ada", "bob", "eve"):
        session.join(name)
    turns = ["ada", "bob", "eve"]
    while any(session.item(name) for name in turns):
        for name in turns:
            if session.item(name):
                session.rank(name)
    judged = [(one.item, one.annotator) for one in session.machine.judgements()]
    assert len(judged) == len(set(judged))
    counts = [sum(item == f"i{n}" for item, _ in judged) for n in range(10)]
    # The last items are on two screens at once rather than on none: who leaves must not block the end.
    assert min(counts) == 2
    assert sum(counts) <= 20 + 2


def test_two_people_who_are_there_get_different_items_first() -> None:
    session = Ranking(rank_info(made_items(2), overlap=1))
    first, second = session.join("ada")["item"], session.join("bob")["item"]
    assert {first["item"], second["item"]} == {"i0", "i1"}


def test_an_item_of_somebody_who_left_goes_to_others() -> None:
    session = Ranking(rank_info(made_items(1), overlap=1))
    held = session.join("ada")["item"]["item"]
    session.send("ada", "left", {"client": "tab-ada"})
    assert session.join("bob")["item"]["item"] == held
    session.rank("bob")
    # And who comes back finds it on the screen still, rather than an empty page.
    assert session.join("ada")["item"]["item"] == held


def test_a_skipped_item_is_free_for_others_and_counts_as_done() -> None:
    session = Ranking(rank_info(made_items(2), overlap=1))
    first = session.join("ada")["item"]["item"]
    messages = session.send("ada", "skipped", {"item": first})
    progress = next(message for message in messages if message["type"] == "progress")
    assert (progress["done"], progress["of"], progress["skipped"]) == (1, 2, 1)
    assert session.item("ada")["item"] != first  # type: ignore[index]
    session.rank("ada")
    assert session.join("bob")["item"]["item"] == first


def test_undo_opens_the_item_again_as_it_was_left() -> None:
    session = Ranking(rank_info(made_items(3)))
    before = session.join("ada")["item"]
    flags = [dict.fromkeys(FLAGS, index == 0) for index in range(3)]
    given = {"item": before["item"], "ranks": [2, 1, 1], "likert": [7, None, 1], "flags": flags}
    session.send("ada", "ranked", given, uuid="first")
    assert session.machine.view("ada")["given"] == ["first"]
    messages = session.send("ada", "undone", {"uuid": "first"})
    again = next(message for message in messages if message["type"] == "item")
    assert again["completions"] == before["completions"]
    assert (again["item"], again["position"]) == (before["item"], 1)
    assert (again["ranks"], again["likert"], again["ticked"]) == ([2, 1, 1], [7, None, 1], flags)
    assert session.machine.judgements() == []
    session.send("ada", "ranked", {**given, "ranks": [1, 2, 3]}, uuid="second")
    (judgement,) = session.machine.judgements()
    assert judgement.uuid == "second"
    assert "ranks" not in session.item("ada")  # type: ignore[operator]


def test_only_what_is_ones_own_and_stands_can_be_taken_back() -> None:
    session = Ranking(rank_info(made_items(3), overlap=0))
    session.join("ada")
    session.join("bob")
    session.rank("ada")
    mine = session.log[-1].uuid
    for name, uuid in (("bob", mine), ("ada", "nothing")):
        (answer,) = session.send(name, "undone", {"uuid": uuid})
        assert (answer["type"], answer["code"], answer["to"]) == ("error", "bad_event", name)
    session.send("ada", "undone", {"uuid": mine})
    (answer,) = session.send("ada", "undone", {"uuid": mine})
    assert answer["type"] == "error"


def test_an_item_is_judged_once_by_a_person() -> None:
    session = Ranking(rank_info(made_items(2)))
    item = session.join("ada")["item"]["item"]
    session.rank("ada")
    digest = session.machine.digest()
    (answer,) = session.send("ada", "ranked", {"item": item, "ranks": [3, 2, 1]})
    assert "judged the item" in answer["message"]
    assert session.machine.digest() == digest


def test_the_end_is_told_and_undone_again() -> None:
    session = Ranking(rank_info(made_items(1), overlap=1))
    session.join("ada")
    session.join("bob")
    session.send("bob", "skipped", {"item": "i0"})
    assert session.rank("ada")[-1] == {"type": "finished", "to": "ada"}
    assert session.machine.view("ada")["finished"]
    third = session.join("eve")
    assert third["finished"]
    # What ada takes back is on her screen first, and free for eve too.
    messages = session.send("ada", "undone", {"uuid": session.log[4 - 1].uuid})
    assert {message["to"] for message in messages if message["type"] == "item"} == {"ada", "eve"}


def test_median_seconds_are_of_rankings() -> None:
    session = Ranking(rank_info(made_items(4)))
    session.join("ada")
    for seconds in (10.0, 2.0, 4.0):
        messages = session.rank("ada", seconds=seconds)
    progress = next(message for message in messages if message["type"] == "progress")
    assert (progress["seconds_median"], progress["done"], progress["of"]) == (4.0, 3, 4)


def test_agreement_is_for_owners_and_is_what_the_judgements_say() -> None:
    items = made_items(6, k=2)
    session = Ranking(rank_info(items, overlap=0))
    assert session.join("boss", "owner")["agreement"]["pairwise"] is None
    for name in ("ada", "bob"):
        session.join(name)
    said: list[dict[str, Any]] = []
    for number, item in enumerate(items):
        for name in ("ada", "bob"):
            # They disagree on one item of six.
            order = list(item.completions)[:: -1 if number == 3 and name == "bob" else 1]
            view = session.machine.shown_order(name, item.item)
            ranks = [order.index(item.completions[index]) + 1 for index in view]
            said += session.send(name, "ranked", {"item": item.item, "ranks": ranks})
    told = [message for message in said if message["type"] == "agreement"]
    assert {message["to"] for message in told} == {"boss"}
    last = told[-1]
    assert (last["items"], last["judgements"], last["annotators"]) == (6, 12, 2)
    assert last["pairwise"] == pytest.approx(5 / 6)
    low, high = last["interval"]
    assert 0 <= low < 5 / 6 < high <= 1
    # Of two raters with values +-1, both ways round: alpha = 1 - (2n - 1) / 2n * observed / expected.
    observed, expected = 1 / 6, 1 / 2
    assert last["alpha"] == pytest.approx(1 - (24 - 1) / 24 * observed / expected)
    assert "agreement" not in session.machine.view("ada")


@pytest.mark.parametrize("overlap", [0, 1, 2])
@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["ada", "bob", "eve"]),
            st.sampled_from(["joined", "left", "ranked", "ranked", "ranked", "skipped", "undone", "stray"]),
            st.lists(st.integers(1, 3), min_size=3, max_size=3),
            st.integers(0, 40),
        ),
        max_size=40,
    )
)
def test_a_log_makes_the_same_session_again(overlap: int, acts: list[Any]) -> None:
    session = Ranking(rank_info(made_items(4), overlap=overlap, seed=3))
    for name, kind, ranks, number in acts:
        item = session.item(name)
        if kind in ("joined", "left"):
            session.send(name, kind, {"client": f"tab-{name}"})
        elif kind == "undone":
            session.send(name, kind, {"uuid": f"u{number}"})
        elif kind == "stray":  # a resent or late event about whatever item
            session.send(name, "ranked", {"item": f"i{number % 4}", "ranks": ranks})
        elif item is not None:
            more = {"ranks": ranks} if kind == "ranked" else {}
            session.send(name, kind, {"item": item["item"], **more})
        _hold(session, overlap)
    again = build_machine(session.info)
    assert isinstance(again, RankMachine)
    again.live = False
    for event in session.log:
        again.apply(event)
    assert again.digest() == session.machine.digest()
    for name in ("ada", "bob", "eve"):
        assert again.view(name) == session.machine.view(name)


def _hold(session: Ranking, overlap: int) -> None:
    """What is true after every event."""
    judgements = session.machine.judgements()
    assert len({(one.annotator, one.item) for one in judgements}) == len(judgements)
    for name in ("ada", "bob", "eve"):
        view = session.machine.view(name)
        progress = view["progress"]
        assert progress["done"] == sum(one.annotator == name for one in judgements)
        assert progress["done"] <= progress["of"] <= 4
        if overlap == 0 and progress["done"] < 4 and "item" in view:
            assert view["item"]["position"] == progress["done"] + 1
        if "item" in view:
            judged = {one.item for one in judgements if one.annotator == name}
            assert view["item"]["item"] not in judged


def test_a_session_without_items_is_refused() -> None:
    with pytest.raises(UserError, match="at least one item"):
        rank_info([])
    with pytest.raises(UserError, match="--overlap is -1"):
        rank_info(made_items(1), overlap=-1)
    with pytest.raises(UserError, match=r"no flag 'halucination'\. Did you mean 'hallucination'"):
        rank_info(made_items(1), flags=["halucination"])
