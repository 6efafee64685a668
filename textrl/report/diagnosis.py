"""Says in words what looks wrong with a run.

Each rule reads metrics or the summary and compares them with a threshold. The threshold's text is
made from the same constant, so what the report states is what was checked.
"""

from __future__ import annotations

from textrl.report.outcome_rules import RUN_RULES
from textrl.report.reading import RunData
from textrl.report.text import label
from textrl.report.training_rules import STAGE_RULES
from textrl.report.verdicts import Finding, Level

_ORDER: tuple[Level, ...] = ("alarm", "notice", "quiet")


def diagnose(run: RunData) -> list[Finding]:
    """Apply every rule that has something to read; alarms first, quiet ones last."""
    findings = []
    for title, threshold, run_rule in RUN_RULES:
        verdict = run_rule(run)
        if verdict:
            findings.append(Finding(verdict.level, title, verdict.text, threshold))
    rl = [stage for stage in run.stages if stage.is_rl]
    for title, threshold, stage_rule in STAGE_RULES:
        for stage in rl:
            verdict = stage_rule(stage)
            if verdict:
                where = f"{label(stage.name)}: " if len(rl) > 1 else ""
                findings.append(Finding(verdict.level, title, where + verdict.text, threshold))
    return sorted(findings, key=lambda finding: _ORDER.index(finding.level))
