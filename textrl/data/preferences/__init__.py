"""Data of people's judgements: its forms, other tools' formats, and the care it needs before training."""
