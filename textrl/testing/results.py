"""What a check gives."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from textrl.errors import UserError


@dataclass(frozen=True)
class CheckResult:
    """One line of a conformance report.

    Attributes:
        name: What was checked.
        ok: Whether it held.
        detail: What was seen; where it did not hold, what to change.
    """

    name: str
    ok: bool
    detail: str = ""


class Violation(AssertionError):
    """A check did not hold; the message says what was seen and what to change."""


@dataclass(frozen=True)
class Case:
    """One check of one record, to be called by a test; raises `Violation` where it does not hold.

    Attributes:
        name: What is checked; ``str(case)``, so that ``ids=str`` names pytest's parameters.
        check: Returns what was seen.
    """

    name: str
    check: Callable[[], str] = field(repr=False)

    def __call__(self) -> None:
        """Run the check."""
        self.check()

    def __str__(self) -> str:
        return self.name

    def result(self) -> CheckResult:
        """Run the check and report, whatever it raises."""
        try:
            return CheckResult(self.name, True, self.check())
        except (Violation, UserError) as error:
            return CheckResult(self.name, False, str(error))
        except Exception as error:
            return CheckResult(self.name, False, f"raised {type(error).__name__}: {error}")


def demand(condition: object, message: str) -> None:
    """Raise `Violation` unless `condition` holds."""
    if not condition:
        raise Violation(message)


def raise_failures(title: str, results: Iterable[CheckResult]) -> None:
    """Raise one AssertionError that lists every check that did not hold."""
    failed = [f"  {result.name}: {result.detail}" for result in results if not result.ok]
    if failed:
        raise AssertionError("\n".join([f"{title} does not conform:", *failed]))
