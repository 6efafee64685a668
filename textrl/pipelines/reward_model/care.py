"""What is odd about the preferences of a run, in sentences with counts: said before it trains."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from textrl.data.preferences.orders import Orders
from textrl.data.rankings import RankingGroup
from textrl.pipelines.reward_model.material import Material

_PEOPLE = {"annotator": "annotators", "user_id": "users"}
#: What one person said against themselves; what two people disagree about is no mistake.
_AGAINST = {
    "contradictory": "pairs that one annotator (or unnamed ones) ranked both ways",
    "undecided": "pairs that one annotator (or unnamed ones) ranked once and tied once",
    "circular": "prompts whose rankings by one annotator (or unnamed ones) run in a circle",
    "beaten_by_itself": "rankings that rank a text against itself",
    "repeated_completion": "rankings that hold a text twice",
}


def oddities(material: Material) -> Iterator[str]:
    """Yield sentences about the material: contradictions, empty texts, people in two parts.

    What a loss cannot learn from is counted where that is known, in training.
    """
    parts = {"training": material.train, "validation": material.validation, "test": material.test}
    for name, groups in parts.items():
        yield from (f"{name}: {said}" for said in _of_part(groups))
    for attribute, people in _PEOPLE.items():
        yield from _shared(parts, attribute, people)


def _of_part(groups: Sequence[RankingGroup]) -> Iterator[str]:
    orders = Orders()
    for group in groups:
        if len(group.completions) > 1:
            prompt = hash(group.prompt or group.where)
            orders.add(group.where, prompt, group.annotator, group.completions, group.ranks)
    found = orders.found()
    for name, said in _AGAINST.items():
        if name in found:
            times, first = found[name]
            yield f"{times:,} {said}" + (f" (the first: {first})" if first else "")
    empty = [group for group in groups if not all(text.strip() for text in group.completions)]
    if empty:
        yield f"{len(empty):,} rankings hold an empty completion (the first: {empty[0].where})"
    prompts = [group.prompt for group in groups]
    # Texts that were rated by themselves have none, and need none.
    bare = sum(not prompt.strip() for prompt in prompts)
    if 0 < bare < len(prompts):
        yield f"{bare:,} of {len(prompts):,} rankings have an empty prompt"


def _shared(parts: dict[str, Sequence[RankingGroup]], attribute: str, people: str) -> Iterator[str]:
    """Yield who stands on both sides: what is measured then is not how the model does for others."""
    names = {part: {getattr(group, attribute) for group in groups} - {None} for part, groups in parts.items()}
    for measured in ("test", "validation"):
        both = names["training"] & names[measured]
        if both:
            yield (
                f"{people} of the {measured} part who are in the training part too: {len(both):,} of "
                f"{len(names[measured]):,}, for example '{min(both)}'; accuracy is not that for other people "
                f"(data.by: {attribute}, or textrl data split --by {attribute}, parts them)"
            )
            return  # whoever is on both sides of the test is seldom parted from the rest
