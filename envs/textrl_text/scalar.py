"""`TokenEnv`: one episode at a time."""

from __future__ import annotations

from typing import Any, Unpack

import gymnasium
import numpy as np
from numpy.typing import NDArray

from textrl.mdp.task import TokenTask
from textrl_text.rows import EpisodeRows, Observation, check_options, token_spaces
from textrl_text.tasks import TaskArguments, task_from


class TokenEnv(gymnasium.Env[Observation, np.int64]):
    """Write a text, one token a step.

    ## Description
    Language generation as a Markov decision process. The state is the prompt and the response so far,
    the action is the next token, and the transition appends it. Everything else is yours: prompts,
    tokenizer, and any weighted sum of the registered rewards.

    ## Action Space
    `Discrete(V)`: the id of the next token. `action_masks()` gives the (V,) bool mask of what the task
    allows; without an `allowed` function it is all True. A token that the mask excludes is a token all
    the same: it is written, scored, and may end the episode, and the step's info says
    `illegal_action: True`, so an unmasked policy sees the consequences that the rewards give it.
    A number outside [0, V) is no token: it is refused with an error and changes nothing.

    ## Observation Space
    `Dict(input_ids=Box(0, V-1, (L,), int64), attention_mask=Box(0, 1, (L,), int8))` with `L = P + T`.
    Columns `[:P]` hold the prompt, padded on the left to the task's longest; columns `[P:]` hold the
    response, padded on the right to `max_new_tokens`. The mask is 1 on real tokens. Response token t
    always stands at `P + t`, and position ids are `(attention_mask.cumsum(-1) - 1).clip(0)`.

    ## Rewards
    The sum of the task's sources, weighted. A source that declares itself causal pays for a token in the
    step that writes it; every other source pays in the last step. The sum over an episode equals the
    `RewardSum` of the whole episode. Sources that need the learner's log-probs (KL) are refused by name.

    ## Starting State
    The prompt of the episode's number. `reset(seed=s)` starts numbering at `first_episode`; every later
    `reset()` takes the next number (`episode_stride` further), whether or not the episode before was
    finished; `reset(options={"episode": k})` starts episode k. Each run of `len(prompts)` episodes
    visits every prompt once, in an order drawn from (seed, run). A first `reset()` without a seed uses
    the task's. Env i of N that are stepped side by side takes `first_episode=i, episode_stride=N`.

    ## Episode End
    `terminated` after an EOS token (`finish_reason: "eos"`) or after `max_new_tokens` tokens
    (`finish_reason: "length"`), which is part of the task; EOS wins where both hold. `truncated` is
    always False here and left to outer time limits.

    Every info holds `episode_index`, the number that, with seed and position, keys sampling noise (the
    key `episode` belongs to wrappers that record statistics). The last one also holds `finish_reason`
    and `rewards`, the weighted sum of each source over the episode.

    ## Arguments
    `task`: a `textrl.mdp.task.TokenTask`; or else the arguments that describe one:
    `prompts` (file, dataset id or list; three short ones when left out), `tokenizer` (object, folder,
    registered model or hub id; one token per byte when left out), `rewards` (a `RewardSum`, or the
    name of each registered reward with its settings and `weight`; nothing is paid when left out),
    `allowed` (prompt, response -> (V,) bool), `max_new_tokens` (16), `max_prompt_tokens` (512),
    `column` ("prompt"), `split` ("train"), `seed` (0).
    `first_episode` and `episode_stride`: see Starting State. `render_mode`: `"ansi"` renders the text.

    ## Vectorized environment
    `gymnasium.make_vec` gives `textrl_text.vector:TokenVectorEnv`, which scores the rows that end in one
    step together.

    ## Version History
    * v0: Initial version.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 - as gymnasium.Env declares it
        "render_modes": ["ansi"],
        "render_fps": 10,
    }

    def __init__(
        self,
        task: TokenTask | None = None,
        *,
        first_episode: int = 0,
        episode_stride: int = 1,
        render_mode: str | None = None,
        **described: Unpack[TaskArguments],
    ) -> None:
        """Build the environment from a task or from the arguments that describe one.

        Raises:
            UserError: Where they do not make a task; see `textrl_text.tasks.make_task`.
        """
        self.task = task_from(task, described)
        self.rows = EpisodeRows(self.task, 1, first_episode=first_episode, stride=episode_stride)
        self.observation_space, self.action_space = token_spaces(self.task)
        self.render_mode = render_mode

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start the next episode, or the one that `options["episode"]` numbers."""
        super().reset(seed=seed, options=options)
        if seed is not None:
            self.rows.reseed(seed)
        self.rows.begin([0], check_options(options, ["episode"]).get("episode"))
        return self.rows.observation(0), self.rows.info(0)

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Write one token."""
        done = self.rows.step(action)
        return (
            self.rows.observation(0),
            float(done.rewards[0]),
            bool(done.ended[0]),
            False,
            done.infos[0],
        )

    def action_masks(self) -> NDArray[np.bool_]:
        """Return which tokens may be written next: (V,) bool."""
        return self.rows.action_mask(0)

    def sb3_vec_env(self, num_envs: int) -> Any:
        """Return Stable-Baselines3's form of this environment: several texts of the task side by side."""
        from textrl_text.sb3 import TokenVecEnv

        return TokenVecEnv(self.task, num_envs)

    def render(self) -> str | None:
        """Return prompt and response as text, with a bar between them."""
        if self.render_mode is None:
            gymnasium.logger.warn("render() shows nothing: build the environment with render_mode='ansi'.")
            return None
        return self.rows.text(0)
