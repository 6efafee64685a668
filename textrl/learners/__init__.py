"""Learners behind Stable-Baselines3's surface."""
