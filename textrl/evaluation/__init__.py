"""Judges, perplexity, and what a policy's texts look like before and after."""
