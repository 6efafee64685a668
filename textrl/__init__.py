"""Language generation as a Markov decision process, with every source of reward a plugin."""

__version__ = "0.1.0"
