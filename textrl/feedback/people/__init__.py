"""Simulated people: programs that use the same socket as a page, with a person's delays and mistakes.

They let a study be piloted before anybody is invited, and a session be tested at full speed: the server
cannot tell them from people. `line` is the connection, `watching` trains control and text sessions with the
plugin `textrl_human`'s trainers, `ranking` ranks, and ``python -m textrl.feedback.people`` runs some of them.
"""

from __future__ import annotations
