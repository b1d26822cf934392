"""Moments as the API writes and reads them: RFC 3339 in UTC, to the microsecond."""

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def moment_of(micros: int | None) -> datetime | None:
    """The moment so many microseconds after the Unix epoch."""
    return None if micros is None else _EPOCH + timedelta(microseconds=micros)


def micros_of(moment: datetime) -> int:
    """Microseconds since the Unix epoch."""
    return (moment - _EPOCH) // timedelta(microseconds=1)
