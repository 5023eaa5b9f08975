"""The check of all counts in this package."""


def check_whole_number(field: str, value: object, lowest: int, highest: int) -> None:
    """Raise a ValueError that names the field, the value and the bounds, unless lowest <= value <= highest."""
    if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
        raise ValueError(f"{field}: {value!r} is not a whole number from {lowest} to {highest}")
