"""Durations for a reader who waits."""

from __future__ import annotations

_DURATIONS = (("day", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


def roughly(seconds: float) -> str:
    """Write a duration in its largest unit of which there are at least two, as far as an estimate deserves.

    Example:
        >>> roughly(0.4), roughly(119), roughly(121), roughly(7_300), roughly(180_000)
        ('0 s', '119 s', '2 min', '2 h', '2 days')
    """
    unit, size = next(((unit, size) for unit, size in _DURATIONS if seconds >= 2 * size), _DURATIONS[-1])
    return f"{seconds / size:.0f} {unit}{'s' if unit == 'day' else ''}"
