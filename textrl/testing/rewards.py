"""The conformance checks of a reward, each one a sentence of the contract in `textrl.protocols.Reward`."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from typing import Any, Unpack

import torch
from torch import Tensor

from textrl.errors import UserError
from textrl.rewards import join_tensors, split_tensors
from textrl.rewards.checks import check_finite, check_form, check_padding, check_spec
from textrl.specs import RewardSpec
from textrl.testing.comparing import contents, copied, demand_same, equal, signals
from textrl.testing.plugins import check_light_import
from textrl.testing.results import Case, CheckResult, Violation, demand, raise_failures
from textrl.testing.subject import Subject, SubjectArguments, check_settings_class, subject_of


def check_reward(
    reward: RewardSpec | str,
    settings: Mapping[str, Any] | None = None,
    **where: Unpack[SubjectArguments],
) -> list[CheckResult]:
    """Run every check and report.

    Args:
        reward: A record, or the name of a registered reward.
        settings: What to build it from; by default what its plugin's `conformance_settings` say, or nothing.
        where: See `SubjectArguments`.

    Returns:
        One result per check, in a fixed order.
    """
    cases = reward_cases(reward, settings, **where)
    return [case.result() for case in cases]


def assert_reward_conforms(
    reward: RewardSpec | str,
    settings: Mapping[str, Any] | None = None,
    **where: Unpack[SubjectArguments],
) -> None:
    """Raise an AssertionError that lists the checks that do not hold; arguments as `check_reward`."""
    results = check_reward(reward, settings, **where)
    name = reward if isinstance(reward, str) else reward.name
    raise_failures(f"The reward '{name}'", results)


def reward_cases(
    reward: RewardSpec | str,
    settings: Mapping[str, Any] | None = None,
    **where: Unpack[SubjectArguments],
) -> list[Case]:
    """Return one case per check, for ``pytest.mark.parametrize``; built when first run."""
    subject = subject_of(reward, settings, where)
    return [Case(name, functools.partial(check, subject)) for name, check in CHECKS.items()]


def check_record_is_sound(subject: Subject) -> str:
    """The record's fields agree with each other, and its settings class is a frozen dataclass."""
    spec = subject.spec()
    check_spec(spec, subject.label())
    return check_settings_class(spec)


def check_builds(subject: Subject) -> str:
    """The target can be built from the settings."""
    rates = callable(getattr(subject.reward(), "advise", None))
    demand(rates or not subject.spec().advises, "declares advises=True but has no advise(state).")
    return f"builds a {type(subject.reward()).__name__}"


def check_shape(subject: Subject) -> str:
    """The answer is a tensor, (B, T) per token or (B,) per episode."""
    value = subject.call(subject.batch())
    # The dtype has a check of its own.
    comparable = value.float() if isinstance(value, Tensor) else value
    check_form(subject.source(), comparable, subject.batch().response_mask)
    return f"returns {tuple(value.shape)}"


def check_dtype(subject: Subject) -> str:
    """The answer is floating."""
    value = subject.tensor(subject.batch())
    demand(value.dtype.is_floating_point, f"returned {value.dtype}; return a floating dtype.")
    return f"returns {value.dtype}"


def check_is_finite(subject: Subject) -> str:
    """The answer holds neither NaN nor infinities."""
    check_finite(subject.source(), subject.tensor(subject.batch()), subject.batch())
    return "every value is finite"


def check_zero_on_padding(subject: Subject) -> str:
    """Tokens that do not exist are worth nothing."""
    if subject.spec().granularity == "episode":
        return "one value per episode: nothing stands on padding"
    check_padding(subject.source(), subject.tensor(subject.batch()), subject.batch())
    return "zero where response_mask is False"


def check_batch_equals_rows(subject: Subject) -> str:
    """An episode's reward does not depend on what else is in the batch."""
    together = subject.episodes(subject.batch())
    for row, episode in enumerate(subject.samples):
        alone = subject.episodes(subject.batch([episode]))[0]
        demand_same(together[row], alone, f"row {row} of a batch and the same episode alone")
    backwards = subject.episodes(subject.batch(subject.samples[::-1]))[::-1]
    for row, (first, second) in enumerate(zip(together, backwards, strict=True)):
        demand_same(first, second, f"row {row} and the same episode in another place of the batch")
    return f"{len(together)} episodes give the same alone and together"


def check_extra_padding(subject: Subject) -> str:
    """More padding changes nothing."""
    plain = subject.episodes(subject.batch())
    padded = subject.episodes(subject.batch(extra_left=3, extra_right=4))
    for row, (first, second) in enumerate(zip(plain, padded, strict=True)):
        demand_same(first, second, f"row {row} with and without more padding")
    return "unchanged by 3 more columns of padding on the left and 4 on the right"


def check_garbage_under_mask(subject: Subject) -> str:
    """What stands under the mask changes nothing: random ids, NaN in log-probs."""
    plain = subject.episodes(subject.batch())
    for seed in (0, 1):
        filled = subject.episodes(subject.batch(extra_left=2, extra_right=2, garbage=seed))
        for row, (first, second) in enumerate(zip(plain, filled, strict=True)):
            demand_same(first, second, f"row {row} with pad and with garbage under the mask")
    return "unchanged by random ids and NaN under the mask"


def check_causality(subject: Subject) -> str:
    """Where declared, ``r[:, t]`` depends on the response up to t alone; tested by truncation."""
    if not subject.spec().causal:
        return "not declared"
    whole = subject.episodes(subject.batch())
    longest = max(len(episode.response) for episode in subject.samples)
    for length in range(1, longest):
        cut = [(row, e.cut(length)) for row, e in enumerate(subject.samples) if len(e.response) > length]
        values = subject.episodes(subject.batch([episode for _, episode in cut]))
        for (row, _), value in zip(cut, values, strict=True):
            demand_same(
                whole[row][:length], value, f"the first {length} tokens of row {row}, whole and truncated"
            )
    return "what follows a token does not change its reward"


def check_same_twice(subject: Subject) -> str:
    """The same batch gives the same answer again."""
    first, second = subject.tensor(subject.batch()).clone(), subject.tensor(subject.batch())
    demand(torch.equal(first, second), "two calls with the same batch gave different answers; draw no "
           "random numbers, and let state change in observe() only.")  # fmt: skip
    return "the same batch gives the same answer"


def check_inputs_untouched(subject: Subject) -> str:
    """The batch is as it was after the call."""
    batch = subject.batch()
    before = {name: copied(value) for name, value in contents(batch).items()}
    subject.call(batch)
    for name, value in contents(batch).items():
        demand(equal(before[name], value), f"changed the batch's {name}; work on a copy.")
    return "the batch is as it was"


def check_eos_alone(subject: Subject) -> str:
    """A response of EOS alone is an episode like others."""
    for episodes in ([*subject.eos_alone()], [subject.eos_alone()[0], subject.samples[0]]):
        batch = subject.batch(episodes)
        value = subject.call(batch)
        check_form(subject.source(), value, batch.response_mask)
        check_finite(subject.source(), value, batch)
        if subject.spec().granularity == "token":
            check_padding(subject.source(), value, batch)
    return "a response of EOS alone is scored"


def check_state_round_trip(subject: Subject) -> str:
    """A fresh instance with the saved state answers, and goes on learning, as the old one."""
    old, new = subject.build(), subject.build()
    saves, loads, learns = (
        callable(getattr(old, name, None)) for name in ("state_dict", "load_state_dict", "observe")
    )
    demand(saves == loads, "has only one of state_dict() and load_state_dict(state); give both.")
    demand(saves or not learns, "learns online (observe) but has no state_dict(); a resume would forget.")
    if not saves:
        return "no state"
    subject.call(subject.batch(), old)
    if learns:
        old.observe(signals(0))
    try:
        tensors, rest = split_tensors(old.state_dict())
        state = join_tensors(tensors, json.loads(json.dumps(rest, allow_nan=False)))
    except (TypeError, ValueError) as error:
        raise Violation(f"state_dict() holds what a checkpoint cannot: {error}.") from error
    new.load_state_dict(state)
    for moment in ("after loading", "after observing the same signals"):
        demand_same(subject.tensor(subject.batch(), old), subject.tensor(subject.batch(), new),
              f"the answers of the saved and of the restored instance {moment}")  # fmt: skip
        if learns:
            old.observe(signals(1))
            new.observe(signals(1))
    again, first = split_tensors(new.state_dict()), split_tensors(old.state_dict())
    same = again[1] == first[1] and again[0].keys() == first[0].keys()
    same = same and all(torch.equal(again[0][key], first[0][key]) for key in again[0])
    demand(same, "the restored instance saves another state than the one it was given.")
    return "a restored instance answers the same"


def check_light(subject: Subject) -> str:
    """The plugin's hook module imports nothing heavy."""
    return check_light_import(subject.plugin())


def check_unknown_setting(subject: Subject) -> str:
    """A setting that does not exist is refused by name."""
    try:
        subject.build({"no_such_setting": 1})
    except UserError as error:
        demand("no_such_setting" in str(error), f"the message does not name the key: {error}")
        return "refused by name"
    raise Violation("a setting that does not exist was accepted; use a frozen dataclass for the settings.")


#: Name -> check, in the order of a report.
CHECKS: dict[str, Callable[[Subject], str]] = {
    "record": check_record_is_sound,
    "builds": check_builds,
    "shape": check_shape,
    "dtype": check_dtype,
    "finite": check_is_finite,
    "zero_on_padding": check_zero_on_padding,
    "batch_equals_rows": check_batch_equals_rows,
    "extra_padding": check_extra_padding,
    "garbage_under_mask": check_garbage_under_mask,
    "causal_by_truncation": check_causality,
    "same_answer_twice": check_same_twice,
    "inputs_not_mutated": check_inputs_untouched,
    "eos_alone": check_eos_alone,
    "state_round_trip": check_state_round_trip,
    "light_import": check_light,
    "unknown_setting_refused": check_unknown_setting,
}
