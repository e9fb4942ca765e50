"""Claims about the numbers of a run, and their verdicts."""

import attrs

VERDICTS = {True: "holds", False: "does not hold", None: "not measured"}


@attrs.frozen(kw_only=True)
class Claim:
    """One claim and its verdict.

    Attributes:
        about: what it concerns, such as a figure or a task.
        statement: the claim.
        criterion: when it counts as true.
        measured: the numbers.
        holds: the verdict; None where the numbers that it needs are absent.
    """

    about: str
    statement: str
    criterion: str
    measured: str
    holds: bool | None

    @property
    def verdict(self) -> str:
        """In words: `holds`, `does not hold` or `not measured`."""
        return VERDICTS[self.holds]


def all_hold(verdicts: list[bool | None]) -> bool | None:
    """The verdict on several parts: False if one fails, None if one (or every part) is not measured, else True."""
    if False in verdicts:
        return False
    return None if None in verdicts or not verdicts else True
