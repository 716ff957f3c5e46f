"""Words around numbers in messages and reports."""


def counted(n: int, noun: str, nouns: str | None = None) -> str:
    """A number with its noun: "1 photo", "2,000 photos"; `nouns` is the plural where it is no mere s."""
    return f"{n:,} {noun if n == 1 else nouns or noun + 's'}"
