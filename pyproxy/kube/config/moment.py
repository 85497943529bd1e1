"""Moments as Go writes them, RFC 3339; its zero value means that there is none.

Python's own reader takes far more (dates alone, weeks, no colons) and no year 0.
"""

import datetime
import re

_RFC3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)T(\d\d?):(\d\d):(\d\d)([.,]\d+)?(?:Z|([+-])(\d\d):(\d\d))",
    re.ASCII,
)
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_ZERO_S = -62_135_596_800.0
_400_YEARS_S = 146_097 * 86_400.0


def seconds_of(text: str) -> float | None:
    """Return a moment in seconds since 1970; None for Go's zero, the year 1.

    Raise ValueError for what Go's time.Parse refuses.
    """
    found = _RFC3339.fullmatch(text)
    if found is None:
        raise ValueError("not a moment of RFC 3339")
    year, month, day, hour, minute, second = (int(found[n]) for n in range(1, 7))
    east_h, east_min = int(found[9] or 0), int(found[10] or 0)
    if east_h > 24 or east_min > 60:  # as far as Go goes
        raise ValueError("time zone out of range")
    # The calendar repeats after 400 years, and Python's has no year 0.
    moment = datetime.datetime(
        year or 400, month, day, hour, minute, second, tzinfo=datetime.UTC
    )
    seconds = (moment - _EPOCH).total_seconds() - (0 if year else _400_YEARS_S)
    seconds += float(f"0.{found[7][1:]}") if found[7] else 0.0
    away = 3600 * east_h + 60 * east_min
    seconds += away if found[8] == "-" else -away
    return None if seconds == _ZERO_S else seconds
