"""Schedules: the values that `Config(schedule=...)` takes, and the times that they stand for.

All times of day and all weekdays are UTC, Celery's own default: nothing runs twice or is left out
when somebody's clocks change.

Pure. Celery is imported only where its schedules are asked for: every application's `Config` comes
by here, and a process that only sends loads no Celery.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from celery.schedules import BaseSchedule, crontab

#: What may be written, for people.
FORMS = (
    'cron text of five fields like "*/15 * * * *" (minute, hour, day, month, weekday), "hourly", '
    '"daily", "daily at 3:30", "weekly", "monthly", "every 15 minutes" (or seconds, hours, days, '
    "weeks) or a timedelta; times are UTC"
)

SHORTEST = timedelta(seconds=1)
#: Far above any use, and far below what dates can be added to.
LONGEST = timedelta(days=366)

_WORDS = {
    "hourly": "0 * * * *",
    "daily": "0 0 * * *",
    "weekly": "0 0 * * 1",
    "monthly": "0 0 1 * *",
}
_DAILY_AT = re.compile(r"daily at (\d{1,2}):(\d{2})", re.ASCII)
_EVERY = re.compile(r"every (?:(-?\d+) )?(second|minute|hour|day|week)s?", re.ASCII)
#: Longest first.
_UNITS = {
    "week": timedelta(weeks=1),
    "day": timedelta(days=1),
    "hour": timedelta(hours=1),
    "minute": timedelta(minutes=1),
    "second": timedelta(seconds=1),
}

_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
#: As cron counts them.
_WEEKDAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
#: In a leap year: what happens on 29 February happens.
_DAYS_OF_MONTH = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


@dataclass(frozen=True, slots=True)
class Schedule:
    """The times at which the jobs of a queue are pushed. `parse` makes it."""

    #: An interval, counted from the last run; or the five fields of cron text, in UTC.
    rule: timedelta | str

    @property
    def words(self) -> str:
        """Plain words for people; times of day and weekdays are UTC.

        What is too complicated for words is given as it was written: `cron */7 2-5 * * mon`.
        """
        if isinstance(self.rule, timedelta):
            return f"every {_interval_in_words(self.rule)}"
        return _cron_in_words(self.rule)

    def celery(self) -> "BaseSchedule":
        """The schedule for Celery beat: the `schedule` of an entry in `beat_schedule`.

        Cron text is read in the `timezone` of the Celery application, which must be UTC, its
        default.
        """
        from celery.schedules import schedule

        return schedule(self.rule) if isinstance(self.rule, timedelta) else _crontab(self.rule)

    def next_run(self, now: datetime) -> datetime:
        """The first run after `now`, in the timezone of `now`.

        A run that is due at `now` itself is not the next one any more. Of an interval, beat alone
        knows the last run: the answer is for a last run at `now`, so the latest possible one.

        Raises:
            ValueError: `now` has no timezone.
        """
        start = _in_utc(now)
        if isinstance(self.rule, timedelta):
            return (start + self.rule).astimezone(now.tzinfo)
        from celery import Celery

        # Celery's own arithmetic, so that this and beat never disagree. It asks an application for
        # the timezone: one that says UTC, whatever the current one of the process says.
        utc = Celery(set_as_current=False, fixups=[])
        cron = _crontab(self.rule, app=utc, nowfun=lambda: start)
        return (start + cron.remaining_estimate(start)).astimezone(now.tzinfo)

    def next_run_in_words(self, now: datetime) -> str:
        """The next run for people, in the timezone of `now`: "in 4 minutes (14:15)".

        Of an interval, only beat knows the last run: "within 15 minutes".

        Raises:
            ValueError: `now` has no timezone.
        """
        if isinstance(self.rule, timedelta):
            return f"within {_interval_in_words(self.rule, one='a')}"
        return in_words(now, self.next_run(now))


def parse(value: str | timedelta) -> Schedule:
    """Read a schedule as people write it, in any case and spacing.

    `hourly` is at minute 0, `daily` at 00:00, `weekly` on Monday at 00:00, `monthly` on the 1st at
    00:00. `every 2 hours` is an interval of a second to a year, counted from the last run, like a
    `timedelta`. Cron text means what Celery's `crontab` makes of it; above all, where both a day
    and a weekday are given, both must hold.

    Raises:
        ValueError: for anything else; it says what is wrong and what may be written.
    """
    try:
        return Schedule(_rule(value))
    except ValueError as error:
        raise ValueError(f"schedule {value!r} cannot be used: {error}; write {FORMS}") from None


def in_words(now: datetime, then: datetime) -> str:
    """A time from now on, in words and in the timezone of `now`.

    "in 30 seconds", "in 4 minutes (14:15)", "today at 18:00", "tomorrow at 00:00",
    "Monday at 00:00" within the week, "1 March at 00:00", "1 March 2028 at 00:00".

    Raises:
        ValueError: one of the two has no timezone.
    """
    seconds = round((_in_utc(then) - _in_utc(now)).total_seconds())
    then = then.astimezone(now.tzinfo)
    time = f"{then:%H:%M}"
    if seconds <= 0:
        return "now"
    if seconds < 60:
        return f"in {_counted(seconds, 'second')}"
    if round(seconds / 60) < 60:
        return f"in {_counted(round(seconds / 60), 'minute')} ({time})"
    days = (then.date() - now.date()).days
    if days < 7:
        near = ("today", "tomorrow")
        return f"{near[days] if days < 2 else _WEEKDAYS[then.isoweekday() % 7]} at {time}"
    year = f" {then.year}" if then.year != now.year else ""
    return f"{then.day} {_MONTHS[then.month - 1]}{year} at {time}"


# Reading


def _rule(value: object) -> timedelta | str:
    if isinstance(value, timedelta):
        return _checked(value, str(value))
    if not isinstance(value, str):
        raise ValueError("it is neither text nor a timedelta")
    text = " ".join(value.lower().split())
    if text in _WORDS:
        return _WORDS[text]
    if found := _DAILY_AT.fullmatch(text):
        hour, minute = map(int, found.groups())
        if hour > 23 or minute > 59:
            raise ValueError("a time of day is 0:00 to 23:59")
        return f"{minute} {hour} * * *"
    if found := _EVERY.fullmatch(text):
        count = 1 if found[1] is None else int(found[1])
        try:
            interval = count * _UNITS[found[2]]
        except OverflowError:
            interval = timedelta.max
        return _checked(interval, text.removeprefix("every "))
    if len(text.split()) == 5 and not text.startswith("every "):
        _read_cron(text)
        return text
    raise ValueError("these are neither known words nor five fields")


def _checked(interval: timedelta, words: str) -> timedelta:
    if not SHORTEST <= interval <= LONGEST:
        raise ValueError(f"an interval is a second to {LONGEST.days} days, not {words}")
    return interval


class _Field(NamedTuple):
    name: str
    low: int
    high: int
    #: Of the numbers from `low` on.
    names: Sequence[str] = ()


_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("weekday", 0, 6, _WEEKDAYS),
)
_PART = re.compile(r"(?:\*|(?P<first>\w+)(?:-(?P<last>\w+))?)(?:/(?P<step>\w+))?", re.ASCII)


def _read_cron(text: str) -> list[set[int]]:
    """The numbers that each field stands for: what Celery's `crontab` makes of the same text.

    Celery takes much that is a slip ("mon" as the minute 1, "*/15-20" as "*/15"), and says of
    what it does not take neither where it stands nor, at times, what it is. Hence our own reading.

    Raises:
        ValueError: with what is wrong.
    """
    fields = [_read_field(*each) for each in zip(text.split(), _FIELDS, strict=True)]
    _, _, days, months, _ = fields
    if min(days) > max(_DAYS_OF_MONTH[month - 1] for month in months):
        raise ValueError(f"none of its months has a day {min(days)}")
    return fields


def _read_field(text: str, field: _Field) -> set[int]:
    numbers: set[int] = set()
    for part in text.split(","):
        numbers.update(_read_part(part, text, field))
    return numbers


def _read_part(part: str, text: str, field: _Field) -> list[int]:
    found = _PART.fullmatch(part)
    if found is None:
        raise ValueError(f"the {field.name} {text!r} is no number, range (1-5) or step (*/2)")
    first, last, step = found.group("first", "last", "step")
    if first is None:
        numbers = list(range(field.low, field.high + 1))
    else:
        if step is not None and last is None:
            raise ValueError(f"the {field.name} {text!r} has a step without a range like 1-5")
        low = _read_number(first, field)
        high = low if last is None else _read_number(last, field)
        # "22-2" goes on at the beginning.
        numbers = [*range(low, high + 1)] or [
            *range(low, field.high + 1),
            *range(field.low, high + 1),
        ]
    return numbers if step is None else numbers[:: _read_step(step, field)]


def _read_number(text: str, field: _Field) -> int:
    for number, name in enumerate(field.names, field.low):
        if text in (name.lower(), name.lower()[:3]):
            return number
    if not text.isdecimal() or not field.low <= int(text) <= field.high:
        hint = " (Sunday is 0)" if field.name == "weekday" else ""
        raise ValueError(f"the {field.name} {text} is not {field.low} to {field.high}{hint}")
    return int(text)


def _read_step(text: str, field: _Field) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= field.high:
        raise ValueError(f"the step {text} of the {field.name} is not 1 to {field.high}")
    return int(text)


def _crontab(text: str, **options: Any) -> "crontab":
    from celery.schedules import crontab

    minute, hour, day, month, weekday = text.split()
    return crontab(minute, hour, weekday, day, month, **options)


# Words


def _interval_in_words(interval: timedelta, one: str = "") -> str:
    """15 minutes; minute, or with `one="a"` a minute."""
    for name, unit in _UNITS.items():
        count, rest = divmod(interval, unit)
        if not rest and count == 1:
            return f"{'an' if one and name == 'hour' else one} {name}".strip()
        if not rest:
            return f"{count} {name}s"
    return f"{interval.total_seconds()} seconds"


def _cron_in_words(text: str) -> str:
    minutes, hours, days, months, weekdays = _read_cron(text)
    fallback = f"cron {text}"
    every_hour, every_day, every_weekday = len(hours) == 24, len(days) == 31, len(weekdays) == 7
    if len(months) < 12:
        return fallback
    if every_hour and every_day and every_weekday:
        return _minutes_in_words(minutes) or fallback
    if len(minutes) > 1:
        return fallback
    [minute] = minutes
    if every_day and every_weekday and (step := _step_over(hours, 24)):
        return f"every {step} hours at minute {minute}"
    if len(hours) > 1:
        return fallback
    [hour] = hours
    on = _days_in_words(days, weekdays)
    return f"{on} at {hour:02}:{minute:02}" if on else fallback


def _minutes_in_words(minutes: set[int]) -> str | None:
    if len(minutes) == 60:
        return "every minute"
    if len(minutes) == 1:
        return f"at minute {min(minutes)} of every hour"
    step = _step_over(minutes, 60)
    return f"every {step} minutes" if step else None


def _days_in_words(days: set[int], weekdays: set[int]) -> str | None:
    """Describe the days and weekdays of a cron text in words.

    None means that these words cannot describe the days. Days 29, 30 and 31 give None too, since
    some months do not have them.
    """
    if len(weekdays) == 7:
        if len(days) == 31:
            return "daily"
        return f"monthly on day {min(days)}" if len(days) == 1 and max(days) <= 28 else None
    if len(days) < 31:
        return None
    if len(weekdays) == 1:
        return f"weekly on {_WEEKDAYS[min(weekdays)]}"
    return "Monday to Friday" if weekdays == {1, 2, 3, 4, 5} else None


def _step_over(numbers: set[int], end: int) -> int | None:
    """The step that leads evenly from 0 round to 0 again; None if there is no such step."""
    step = end // len(numbers)
    return step if len(numbers) > 1 and numbers == set(range(0, end, step)) else None


def _counted(count: int, unit: str) -> str:
    return f"{count} {unit}" if count == 1 else f"{count} {unit}s"


def _in_utc(time: datetime) -> datetime:
    if time.tzinfo is None:
        raise ValueError("a time without a timezone")
    return time.astimezone(UTC)
