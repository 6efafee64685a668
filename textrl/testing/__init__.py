"""The conformance kit: what textrl demands of a plugin, as checks that its author can run.

In a plugin's own tests::

    import pytest
    from textrl.testing import reward_cases

    @pytest.mark.parametrize("case", reward_cases("my_reward", {"strength": 2.0}), ids=str)
    def test_conforms(case):
        case()

or in one line, ``assert_reward_conforms("my_reward", {"strength": 2.0})``. Every check is also run by
``textrl check PLUGIN``. A plugin whose records cannot be built from their defaults says what to build
them from in ``conformance_settings(folder)``, see `textrl.testing.plugins`.
"""

from textrl.testing.batches import Sample, make_batch, samples
from textrl.testing.records import check_plugin, check_record
from textrl.testing.results import Case, CheckResult, Violation
from textrl.testing.rewards import assert_reward_conforms, check_reward, reward_cases

__all__ = [
    "Case",
    "CheckResult",
    "Sample",
    "Violation",
    "assert_reward_conforms",
    "check_plugin",
    "check_record",
    "check_reward",
    "make_batch",
    "reward_cases",
    "samples",
]
