"""Interactive human-feedback sessions: a log that loses nothing, and a machine that repeats it."""
