"""What learners share that write several responses to one prompt and compare them with each other.

`settings` holds their common knobs, `experience` samples and scores groups, `loss` weighs decisions,
`update` takes the optimizer steps, `learner` runs the loop and keeps checkpoints. Such a learner has no
value network: the other responses to the same prompt say what was to be expected of it.
"""
