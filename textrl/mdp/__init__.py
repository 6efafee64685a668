"""The numeric core of the decision process: tasks, sampling, log-probabilities, credit and losses."""
