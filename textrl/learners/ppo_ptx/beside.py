"""Who stands beside the learner: advice on tokens, and the person who teaches it.

At the start of an iteration the learner takes the advice as it stands; at its end some of what was written
is shown to the person, on the screen's clock, and what they teach counts from the next iteration on.

Shapes: ``B`` sequences, ``L`` positions, ``N`` decisions in row order, ``D`` width of the reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from textrl.advice.text import TextAdvice, TextGuidance
from textrl.errors import UserError, at_setting
from textrl.learners.ppo_ptx.experience import Experience, spread_states
from textrl.learners.ppo_ptx.fitting import rated_model
from textrl.learners.ppo_ptx.networks import Networks
from textrl.mdp.task import TokenTask

if TYPE_CHECKING:
    from textrl.tamer.text.human import TextHuman


def _require_taught(source: Any, human: TextHuman | None) -> None:
    """Refuse a head from a folder in which nobody taught anything, unless somebody is going to."""
    given = getattr(getattr(source, "settings", None), "weights", None)
    if human is None and given is not None and not source.taught:
        raise UserError(
            f"The head {given} holds nothing that was taught, so its advice would be 0 everywhere; give one "
            "that somebody taught, or leave the section 'advice' out.",
            key="weights",
        )


class Beside:
    """Guidance and a person, either of which may be missing."""

    def __init__(
        self,
        guidance: TextGuidance | None,
        human: TextHuman | None,
        networks: Networks,
        processes: int = 1,
    ) -> None:
        """Tell the sources whose hidden states and tokens these are.

        Args:
            guidance: Advice, or None.
            human: A person, or None.
            networks: Of the learner.
            processes: That train together.

        Raises:
            UserError: When H was taught on another model, the person's feedback cannot be about its texts, or
                there is a person beside several processes, each of which would learn an H of its own.
        """
        if human is not None and processes > 1:
            raise UserError(
                f"A person can teach one process, and this run has {processes}; leave the section 'human' "
                "out and give the source an H that was taught before (weights), or train in one process.",
                key="human",
            )
        self.guidance, self.human = guidance, human
        # One instance may serve both roles; its state is kept once.
        self._sources: dict[int, Any] = {
            id(one.source): one.source for one in (guidance, human) if one is not None
        }
        names = [] if guidance is None else [(guidance.settings.source, guidance.source)]
        names += [] if human is None else [(human.name, human.source)]
        for name, source in names:
            with at_setting(f"sources.{name}"):
                source.bind_text(rated_model(networks), networks.tokenizer)
                _require_taught(source, human)
        if human is not None:
            with at_setting("human.feedback"):
                human.check()

    @property
    def wants_hidden(self) -> bool:
        """Whether the reference's hidden states are wanted."""
        return bool(self._sources)

    def advice(self) -> TextAdvice | None:
        """Return the advice as it stands; None where there is none."""
        return None if self.guidance is None else self.guidance.advice()

    def after(self, experience: Experience, task: TokenTask) -> dict[str, float]:
        """Show the person what was written, and let the iteration end; returns figures to log."""
        guidance, human = self.guidance, self.human
        if not self._sources:
            return {}
        assert experience.ref_hidden is not None  # `wants_hidden`
        if guidance is not None:
            guidance.observe_states(experience.ref_hidden)
        figures = {} if human is None else self._show(human, experience, task)
        if guidance is not None:
            guidance.end_iteration()
        return figures

    def _show(self, human: TextHuman, experience: Experience, task: TokenTask) -> dict[str, float]:
        count = min(human.settings.shown_per_iteration, len(experience.ids))
        actions, ids = experience.actions[:count], experience.ids[:count]
        width = int(actions.any(0).long().argmax())  # of the prompts; responses begin where it ends
        response, mask = ids[:, width:], actions[:, width:]
        hidden = spread_states(experience.ref_hidden, mask)
        prompts = [task.prompt_for(int(episode)) for episode in experience.episodes[:count]]
        human.show_batch(prompts, response, mask, hidden)
        if self.guidance is not None:
            for states, real, trained in zip(hidden, mask, human.trained, strict=False):  # first ones
                self.guidance.shown(states[real], trained)
        return human.metrics()

    def state_dict(self) -> dict[str, Any]:
        """Return tensors and JSON data."""
        state: dict[str, Any] = {}
        if self.guidance is not None:
            state["guidance"] = self.guidance.state_dict()
        if self.human is not None:
            state["human"] = self.human.state_dict()
        for number, source in enumerate(self._sources.values()):
            state[f"source{number}"] = source.state_dict()
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`."""
        if self.guidance is not None:
            self.guidance.load_state_dict(state["guidance"])
        if self.human is not None:
            self.human.load_state_dict(state["human"])
        for number, source in enumerate(self._sources.values()):
            source.load_state_dict(state[f"source{number}"])
