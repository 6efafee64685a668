"""Over-optimisation: what a gold judge says while a policy climbs a proxy of it (Gao et al. 2022).

`world` makes the gold judge and an initial policy, `proxies` the reward models that learn from its noisy
labels, `best_of_n` and `fits` the arithmetic, `trial` measures one proxy by best-of-n and by PPO, `study` is
the grid of all of them and `command` the command line.
"""
