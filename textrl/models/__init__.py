"""Language models: finding and loading them, numeric precision, and frozen layers that networks share."""
