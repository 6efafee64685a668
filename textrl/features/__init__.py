"""Features for linear learners: a state becomes a vector, in numpy, without torch.

Data flow: ``make_features(settings, observation_space) -> Features``; ``features(observation) -> (F,)``.
"""

from textrl.features.base import Features, SparseFeatures, make_features
from textrl.features.settings import FeatureSettings

__all__ = ["FeatureSettings", "Features", "SparseFeatures", "make_features"]
