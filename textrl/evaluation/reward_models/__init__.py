"""How good is a reward model? Its scores held against what people said.

Data flow: `reading` (a file to `comparisons`: texts and pairs) -> `scorers` (a score for every text) ->
`evaluate` (accuracy, ceiling, calibration, shortcuts: a plain mapping) -> `page` (words and pictures).
`resampling`, `orders`, `reachable`, `calibration`, `ceiling` and `shortcuts` are functions on arrays.
"""
