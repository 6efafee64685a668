"""Step 2: a reward model from rankings or ratings (Ouyang et al. 2022, section 3.5 and appendix C.2).

All pairs of a prompt stand in one batch element, so each completion goes through the network once
(K forward rows for C(K, 2) pairs). `data` tokenises, `objective` names the loss, `job` makes gradients,
`linear` fits a head on frozen features, `training` puts them together.
"""

from textrl.reward_model.data import Group, as_pairs
from textrl.reward_model.job import score_rows
from textrl.reward_model.settings import LossName, RewardModelResult, RewardModelSettings
from textrl.reward_model.training import train_reward_model

__all__ = [
    "Group",
    "LossName",
    "RewardModelResult",
    "RewardModelSettings",
    "as_pairs",
    "score_rows",
    "train_reward_model",
]
