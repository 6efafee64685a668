"""``textrl feedback control | text | rank``: a session with people, and the commands on its log.

What a session needs is imported when one starts.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Group, Parameter

from textrl.cli import feedback_store
from textrl.cli.feedback_serving import (
    NAMES,
    Serving,
    Simulating,
    given_of,
    options_of,
    read_settings,
    read_text,
    start_session,
)
from textrl.errors import UserError

_SERVING, _SIMULATING = Serving(), Simulating()


def add_to(app: App, group: Group) -> None:
    """Add ``feedback`` and its sub-commands to the app."""
    feedback = App(
        name="feedback",
        help="Sessions with people on a web page: they press keys, rate text, rank responses.",
        help_epilogue="Examples: `textrl feedback control --env MountainCar-v0`, "
        "`textrl feedback rank --items items.jsonl`, `textrl feedback sessions`",
        group=group,
    )
    feedback.command(
        control, help_epilogue="Example: `textrl feedback control --env MountainCar-v0 --learner tamer`"
    )
    feedback.command(text, help_epilogue="Example: `textrl feedback text --model made`")
    feedback.command(rank, help_epilogue="Example: `textrl feedback rank --items items.jsonl`")
    feedback_store.add_to(feedback)
    app.command(feedback)


def control(
    *,
    env: str | None = None,
    learner: Literal["tamer", "tamer+rl", "sarsa"] | None = None,
    seed: int | None = None,
    step_s: float | None = None,
    technique: Literal["action_biasing", "control_sharing", "q_augmentation", "reward_shaping"] | None = None,
    beta: float | None = None,
    max_episode_steps: int | None = None,
    no_frames: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    settings: Path | None = None,
    serving: Serving = _SERVING,
    simulating: Simulating = _SIMULATING,
) -> int:
    """Teach an agent in an environment by pressing keys while it acts and learns.

    Args:
        env: A Gymnasium id with discrete actions, for example MountainCar-v0.
        learner: tamer acts on what was pressed alone; tamer+rl is SARSA(lambda), advised by it; sarsa learns
            from the environment's reward alone.
        seed: Keys start states, exploration and ties.
        step_s: Seconds that each step stays on screen.
        technique: tamer+rl: how people advise SARSA.
        beta: tamer+rl: its weight.
        max_episode_steps: Time limit of an episode instead of the environment's own.
        no_frames: Show numbers instead of pictures, where an environment cannot be drawn.
        settings: A YAML file with any setting of a control session; the options above go before it.
    """
    given = given_of(
        env=env,
        learner=learner,
        seed=seed,
        step_s=step_s,
        technique=technique,
        beta=beta,
        max_episode_steps=max_episode_steps,
        frames=False if no_frames else None,
    )

    def make() -> Mapping[str, Any]:
        from textrl.feedback.control.machine import resolved

        config = read_settings(settings) | given
        if "env" not in config:
            raise UserError("A new control session needs --env, for example --env MountainCar-v0.")
        advice = [name for name in ("technique", "beta") if name in given]
        if advice and config.get("learner", "tamer") != "tamer+rl":
            raise UserError(f"{options_of(advice)} says how people advise SARSA; add --learner tamer+rl.")
        return resolved(config)

    return start_session(
        "control", env or "control", make, given, serving, simulating, given_of(settings=settings)
    )


def text(
    *,
    model: str | None = None,
    prompts: Path | None = None,
    seed: int | None = None,
    step_s: float | None = None,
    temperature: float | None = None,
    beta: float | None = None,
    cap_nats: float | None = None,
    max_new_tokens: int | None = None,
    settings: Path | None = None,
    serving: Serving = _SERVING,
    simulating: Simulating = _SIMULATING,
) -> int:
    """Rate text while a model writes it; what was pressed moves the next words.

    Args:
        model: A registered model, a folder or a hub id; made is a small one with random weights.
        prompts: A file of prompts (JSON lines or parquet) that the model goes on from, in turn.
        seed: Keys the sampling.
        step_s: Seconds for each token.
        temperature: Of the sampling.
        beta: How much a rating moves the choice of tokens, nats a unit.
        cap_nats: The most that it moves one.
        max_new_tokens: Longest text.
        settings: A YAML file with any setting of a text session; the options above go before it.
    """
    given = given_of(
        model=model,
        seed=seed,
        step_s=step_s,
        temperature=temperature,
        beta=beta,
        cap_nats=cap_nats,
        max_new_tokens=max_new_tokens,
    )

    def make() -> Mapping[str, Any]:
        from textrl.feedback.text.machine import resolved

        return resolved(
            read_settings(settings) | given | given_of(prompts=None if prompts is None else str(prompts))
        )

    making = given_of(prompts=prompts, settings=settings)
    return start_session(
        "text", f"text-{Path(model or 'made').name}", make, given, serving, simulating, making
    )


def rank(
    *,
    items: str | None = None,
    model: str | None = None,
    prompts: str | None = None,
    k: int | None = None,
    temperature: Annotated[tuple[float, ...], NAMES] = (),
    max_new_tokens: int | None = None,
    most: int | None = None,
    overlap: int | None = None,
    instructions: Path | None = None,
    seed: int | None = None,
    serving: Serving = _SERVING,
    simulating: Simulating = _SIMULATING,
) -> int:
    """Let people put several responses to each prompt in order.

    Args:
        items: A file with a prompt and 2 to 9 completions in each record.
        model: Instead of --items: the model that writes the responses before the session begins.
        prompts: With --model: a file of prompts (JSON lines or parquet).
        k: With --model: responses to each prompt, 2 to 9; 4 by default.
        temperature: With --model: one or several, which the responses take in turn; 1 by default.
        max_new_tokens: With --model: longest response; 48 tokens by default.
        most: Only the first so many items.
        overlap: How many people get each item, 1 by default; 0 gives all items to everybody.
        instructions: A text file that annotators read first.
        seed: Keys everybody's order of items and of the responses.
    """
    given = given_of(overlap=overlap, seed=seed)
    writing = given_of(k=k, temperature=temperature or None, max_new_tokens=max_new_tokens)
    making = given_of(items=items, model=model, prompts=prompts, most=most, instructions=instructions)

    def make() -> Mapping[str, Any]:
        from textrl.feedback.rank.items import rank_config

        found, source = _items(items, model, prompts, writing, most, seed or 0)
        text = read_text(instructions) if instructions else ""
        return rank_config(found, instructions=text, source=source, **given)

    title = f"rank-{Path(items or prompts or 'items').name.partition('.')[0]}"
    return start_session("rank", title, make, given, serving, simulating, making | writing)


def _items(
    items: str | None,
    model: str | None,
    prompts: str | None,
    writing: Mapping[str, Any],
    most: int | None,
    seed: int,
) -> tuple[list[Any], dict[str, Any]]:
    """Return what is to be ranked, and where it comes from."""
    if (items is None) == (model is None) or (model is None) != (prompts is None):
        raise UserError("A new ranking session needs --items FILE, or --model MODEL and --prompts FILE.")
    if most is not None and most < 1:
        raise UserError(f"--most is {most}; it must be at least 1.")
    if items is not None:
        if writing:
            raise UserError(
                f"{options_of(writing)} belongs to --model, which writes responses; leave it out."
            )
        from textrl.feedback.rank.items import read_items

        return list(read_items(items, most=most)), {"items": items}
    from textrl.feedback.rank.generate import generate_items

    assert model is not None
    assert prompts is not None

    def tick(done: int, of: int) -> None:
        print(f"textrl: responses to {done} of {of} prompts", file=sys.stderr, flush=True)

    k, longest = writing.get("k", 4), writing.get("max_new_tokens", 48)
    temperatures = tuple(writing.get("temperature", (1.0,)))
    made = generate_items(
        model,
        prompts,
        k=k,
        temperatures=temperatures,
        max_new_tokens=longest,
        seed=seed,
        most=most,
        tick=tick,
    )
    source = {"model": model, "prompts": prompts, "k": k, "temperature": list(temperatures)}
    return list(made), source | {"max_new_tokens": longest}
