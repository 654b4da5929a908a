"""What a person can get wrong about the sandbox itself: a seed, a switch, an address. Not Stripe's to answer."""

from __future__ import annotations


class InvalidValueError(Exception):
    """
    One value that the sandbox cannot be set up with.

    Args:
        field: What it was given for, as the person named it.

        found: What was given; the sentence shows it shortened.

        expected: What would have been right.
    """

    def __init__(self, field: str, found: object, expected: str) -> None:
        self.field = field
        self.found = found
        self.expected = expected
        super().__init__(f"{field}: found {repr(found)[:80]}, expected {expected}. Correct {field} and start again.")
