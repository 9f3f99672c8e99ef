"""Schedules: what may be written, what it means, and that Celery's beat agrees."""

import itertools
import pickle
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from celery import Celery
from celery.beat import ScheduleEntry
from celery.schedules import crontab, schedule

from queue_run.application.schedules import FORMS, Schedule, _read_cron, in_words, parse
from tests.waiting import DEADLINE

BERLIN = ZoneInfo("Europe/Berlin")
KOLKATA = ZoneInfo("Asia/Kolkata")


def at(text: str) -> datetime:
    """A time in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def next_run(value: str, now: str) -> str:
    return parse(value).next_run(at(now)).strftime("%Y-%m-%d %H:%M:%S")


# What may be written


@pytest.mark.parametrize(
    ("word", "cron"),
    [
        ("hourly", "0 * * * *"),
        ("daily", "0 0 * * *"),
        ("weekly", "0 0 * * 1"),
        ("monthly", "0 0 1 * *"),
        ("daily at 3:30", "30 3 * * *"),
        ("daily at 03:30", "30 3 * * *"),
        ("daily at 23:59", "59 23 * * *"),
        ("daily at 0:00", "0 0 * * *"),
    ],
)
def test_a_word_stands_for_cron_text(word: str, cron: str) -> None:
    assert parse(word) == parse(cron)


@pytest.mark.parametrize(
    ("text", "interval"),
    [
        ("every second", timedelta(seconds=1)),
        ("every 30 seconds", timedelta(seconds=30)),
        ("every minute", timedelta(minutes=1)),
        ("every 15 minutes", timedelta(minutes=15)),
        ("every 1 hour", timedelta(hours=1)),
        ("every 2 hours", timedelta(hours=2)),
        ("every day", timedelta(days=1)),
        ("every week", timedelta(days=7)),
        ("every 366 days", timedelta(days=366)),
    ],
)
def test_every_is_an_interval(text: str, interval: timedelta) -> None:
    assert parse(text) == parse(interval) == Schedule(interval)


@pytest.mark.parametrize("text", ["Daily At 3:30", "  daily   at 3:30 ", "30 3 * * *\n"])
def test_case_and_spacing_do_not_matter(text: str) -> None:
    assert parse(text) == Schedule("30 3 * * *")


@pytest.mark.parametrize(
    "text",
    [
        "*/15 * * * *",
        "0 9-17/2 * * mon-fri",
        "5 4 1,15 jan,jul *",
        "0 0 * MARCH Sunday",
        "0 22-2 * * *",
    ],
)
def test_cron_text_stays_as_it_was_written_but_for_case(text: str) -> None:
    assert parse(text) == Schedule(text.lower())


def test_a_schedule_does_not_change_and_compares_by_what_it_says() -> None:
    assert parse("daily") == parse("0 0 * * *") != parse("0 0 * * 0-6")
    assert len({parse("daily"), parse("0 0 * * *")}) == 1
    with pytest.raises(AttributeError):
        parse("daily").rule = "* * * * *"  # type: ignore[misc]


# What may not


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("75 * * * *", "the minute 75 is not 0 to 59"),
        ("60 * * * *", "the minute 60 is not 0 to 59"),
        ("0-60 * * * *", "the minute 60 is not 0 to 59"),
        ("0 24 * * *", "the hour 24 is not 0 to 23"),
        ("0 0 0 * *", "the day 0 is not 1 to 31"),
        ("0 0 32 * *", "the day 32 is not 1 to 31"),
        ("0 0 * 13 *", "the month 13 is not 1 to 12"),
        ("0 0 * * 7", "the weekday 7 is not 0 to 6 (Sunday is 0)"),
        ("0 0 * * montag", "the weekday montag is not 0 to 6 (Sunday is 0)"),
        # Celery takes these for numbers: minute 1, hour 1, weekday 3.
        ("mon * * * *", "the minute mon is not 0 to 59"),
        ("0 jan * * *", "the hour jan is not 0 to 23"),
        ("0 0 * * mar", "the weekday mar is not 0 to 6 (Sunday is 0)"),
        ("*/0 * * * *", "the step 0 of the minute is not 1 to 59"),
        ("*/75 * * * *", "the step 75 of the minute is not 1 to 59"),
        ("0 */x * * *", "the step x of the hour is not 1 to 23"),
        ("5/15 * * * *", "the minute '5/15' has a step without a range like 1-5"),
        # Celery reads up to what it does not know.
        ("*/15-20 * * * *", "the minute '*/15-20' is no number, range (1-5) or step (*/2)"),
        ("1-5-9 * * * *", "the minute '1-5-9' is no number, range (1-5) or step (*/2)"),
        ("-5 * * * *", "the minute '-5' is no number, range (1-5) or step (*/2)"),
        ("1, * * * *", "the minute '1,' is no number, range (1-5) or step (*/2)"),
        ("² * * * *", "the minute '²' is no number, range (1-5) or step (*/2)"),
        ("0 0 30 2 *", "none of its months has a day 30"),
        ("0 0 31 feb,apr,jun *", "none of its months has a day 31"),
        ("daily at 24:00", "a time of day is 0:00 to 23:59"),
        ("daily at 3:60", "a time of day is 0:00 to 23:59"),
        ("every 0 minutes", "an interval is a second to 366 days, not 0 minutes"),
        ("every -5 minutes", "an interval is a second to 366 days, not -5 minutes"),
        ("every 53 weeks", "an interval is a second to 366 days, not 53 weeks"),
        ("every 9999999999 days", "an interval is a second to 366 days, not 9999999999 days"),
        ("@daily", "these are neither known words nor five fields"),
        ("every 1.5 hours", "these are neither known words nor five fields"),
        ("every 2 days at noon", "these are neither known words nor five fields"),
        ("daily at 3", "these are neither known words nor five fields"),
        ("* * * *", "these are neither known words nor five fields"),
        ("0 0 0 * * *", "these are neither known words nor five fields"),
        ("", "these are neither known words nor five fields"),
    ],
)
def test_what_is_wrong_with_a_text_is_said(text: str, problem: str) -> None:
    said = f"schedule {text!r} cannot be used: {problem}; write {FORMS}"
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        parse(text)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (timedelta(0), "0:00:00"),
        (timedelta(milliseconds=999), "0:00:00.999000"),
        (timedelta(seconds=-1), "-1 day, 23:59:59"),
        (timedelta(days=367), "367 days, 0:00:00"),
    ],
)
def test_a_timedelta_is_a_second_to_a_year(value: timedelta, words: str) -> None:
    with pytest.raises(ValueError, match=f"a second to 366 days, not {re.escape(words)}; write"):
        parse(value)


@pytest.mark.parametrize("value", [None, 15, 1.5, True, b"daily", ["daily"], crontab()])
def test_other_values_are_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="it is neither text nor a timedelta; write cron text of"):
        parse(value)


@pytest.mark.parametrize(
    "form",
    [
        *('"*/15 * * * *"', '"hourly"', '"daily"', '"daily at 3:30"', '"weekly"', '"monthly"'),
        *('"every 15 minutes"', "timedelta", "UTC"),
    ],
)
def test_a_refusal_lists_what_may_be_written(form: str) -> None:
    assert form in FORMS
    if form.startswith('"'):
        parse(form.strip('"'))


# Words


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("* * * * *", "every minute"),
        ("*/1 * * * *", "every minute"),
        ("*/15 * * * *", "every 15 minutes"),
        ("0,30 * * * *", "every 30 minutes"),
        ("5 * * * *", "at minute 5 of every hour"),
        ("hourly", "at minute 0 of every hour"),
        ("0 */2 * * *", "every 2 hours at minute 0"),
        ("30 0,12 * * *", "every 12 hours at minute 30"),
        ("daily", "daily at 00:00"),
        ("daily at 3:30", "daily at 03:30"),
        ("weekly", "weekly on Monday at 00:00"),
        ("5 14 * * sun", "weekly on Sunday at 14:05"),
        ("30 9 * * 1-5", "Monday to Friday at 09:30"),
        ("monthly", "monthly on day 1 at 00:00"),
        ("0 6 28 * *", "monthly on day 28 at 06:00"),
        ("every 15 minutes", "every 15 minutes"),
        ("every 1 hour", "every hour"),
        ("every 90 minutes", "every 90 minutes"),
        ("every 120 minutes", "every 2 hours"),
        ("every 7 days", "every week"),
        ("every 86401 seconds", "every 86401 seconds"),
    ],
)
def test_a_schedule_in_words(value: str, words: str) -> None:
    assert parse(value).words == words


@pytest.mark.parametrize(
    "text",
    [
        "*/7 2-5 * * mon",
        "*/7 * * * *",  # 56 is followed by 0.
        "7-59/15 * * * *",
        "0 */5 * * *",
        "1,2 0 * * *",
        "* 5 * * *",
        "*/15 * * * mon",
        "0 * 1 * *",
        "0 0 29 * *",  # Not in every month.
        "0 0 1,15 * *",
        "0 0 1 1 *",
        "0 0 1-7 * mon",
        "0 0 * * tue,thu",
        "0 */2 * * sun",
    ],
)
def test_what_is_too_complicated_for_words_is_given_as_cron_text(text: str) -> None:
    assert parse(text).words == f"cron {text}"


def test_a_part_of_a_second_is_kept_in_words() -> None:
    assert parse(timedelta(seconds=1.5)).words == "every 1.5 seconds"
    assert parse(timedelta(seconds=1, microseconds=1)).words == "every 1.000001 seconds"


# For Celery


def test_for_celery_cron_text_is_a_crontab() -> None:
    assert parse("5 4 1-7 jan,jul mon").celery() == crontab(
        minute="5", hour="4", day_of_month="1-7", month_of_year="jan,jul", day_of_week="mon"
    )


def test_for_celery_an_interval_is_a_schedule() -> None:
    found = parse("every 90 seconds").celery()
    assert type(found) is schedule
    assert found == schedule(90)


@pytest.mark.parametrize("value", ["*/15 * * * *", "every 15 minutes"])
def test_beat_can_keep_it_in_its_file(value: str) -> None:
    made = parse(value).celery()
    assert pickle.loads(pickle.dumps(made)) == made


@pytest.mark.parametrize(
    "code",
    [
        "parse('every 15 minutes').words",
        "parse('*/15 2-5 * * mon').words",
        "parse('every 15 minutes').next_run(datetime.now(UTC))",
    ],
)
def test_reading_a_schedule_loads_no_celery(code: str) -> None:
    parse = "from queue_run.application.schedules import parse"
    code = f"from datetime import UTC, datetime\n{parse}\n{code}\n"
    ran = subprocess.run(
        [sys.executable, "-c", f"{code}import sys; print('celery' in sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
        timeout=DEADLINE,
    )
    assert ran.stdout == "False\n"


# The next run


@pytest.mark.parametrize(
    ("value", "now", "then"),
    [
        ("*/15 * * * *", "2026-03-01 14:11:40", "2026-03-01 14:15:00"),
        ("hourly", "2026-03-01 14:59:59.999999", "2026-03-01 15:00:00"),
        ("daily", "2026-12-31 00:00:01", "2027-01-01 00:00:00"),
        ("daily at 3:30", "2026-03-01 03:29:59", "2026-03-01 03:30:00"),
        ("weekly", "2026-03-01 12:00", "2026-03-02 00:00:00"),  # A Sunday.
        ("weekly", "2026-03-02 12:00", "2026-03-09 00:00:00"),
        ("0 0 * * sun", "2026-03-02 12:00", "2026-03-08 00:00:00"),
        ("0 0 * * fri-mon", "2026-03-03 12:00", "2026-03-06 00:00:00"),
        ("30 9 * * mon-fri", "2026-03-06 09:30", "2026-03-09 09:30:00"),
        ("monthly", "2026-01-31 12:00", "2026-02-01 00:00:00"),
        ("0 0 31 * *", "2026-01-31 12:00", "2026-03-31 00:00:00"),
        ("0 0 31 * *", "2026-03-31 00:00", "2026-05-31 00:00:00"),
        ("0 0 28-31 2 *", "2026-02-28 00:00", "2027-02-28 00:00:00"),
        ("0 0 29 2 *", "2026-03-01 00:00", "2028-02-29 00:00:00"),
        ("0 0 29 feb *", "2028-02-28 23:59", "2028-02-29 00:00:00"),
        # 2100 is no leap year.
        ("0 0 29 2 *", "2096-03-01 00:00", "2104-02-29 00:00:00"),
        ("0 22-2 * * *", "2026-03-01 22:30", "2026-03-01 23:00:00"),
        ("0 22-2 * * *", "2026-03-01 02:30", "2026-03-01 22:00:00"),
        # Both the day and the weekday: the first Monday of the month.
        ("0 0 1-7 * mon", "2026-03-02 00:00", "2026-04-06 00:00:00"),
        # An hour that the clocks of Berlin leave out.
        ("daily at 2:30", "2026-03-29 00:00", "2026-03-29 02:30:00"),
    ],
)
def test_the_next_run(value: str, now: str, then: str) -> None:
    assert next_run(value, now) == then


@pytest.mark.parametrize(
    ("value", "then"),
    [
        ("*/15 * * * *", "2026-03-01 00:15:00"),
        ("hourly", "2026-03-01 01:00:00"),
        ("daily", "2026-03-02 00:00:00"),
        ("0 0 * * sun", "2026-03-08 00:00:00"),
        ("monthly", "2026-04-01 00:00:00"),
        ("every 15 minutes", "2026-03-01 00:15:00"),
    ],
)
def test_a_run_that_is_due_now_is_not_the_next_one(value: str, then: str) -> None:
    assert next_run(value, "2026-03-01 00:00") == then


def test_the_next_run_of_an_interval_is_at_most_an_interval_away() -> None:
    now = at("2026-03-01 14:11:40.5")
    assert parse("every 30 seconds").next_run(now) == now + timedelta(seconds=30)


def test_the_next_run_is_in_the_timezone_of_now() -> None:
    found = parse("daily").next_run(datetime(2026, 7, 1, 12, tzinfo=BERLIN))
    assert found.tzinfo is BERLIN
    assert found.isoformat() == "2026-07-02T02:00:00+02:00"
    found = parse("daily").next_run(datetime(2026, 7, 1, 5, 29, tzinfo=KOLKATA))
    assert found.isoformat() == "2026-07-01T05:30:00+05:30"


@pytest.mark.parametrize(
    ("value", "then"),
    [
        # The clocks go from 3:00 back to 2:00.
        ("every 2 hours", "2026-10-25T02:30:00+01:00"),
        ("daily at 1:00", "2026-10-25T02:00:00+01:00"),
    ],
)
def test_changing_clocks_change_no_schedule(value: str, then: str) -> None:
    now = datetime(2026, 10, 25, 1, 30, tzinfo=BERLIN)
    assert parse(value).next_run(now).isoformat() == then


def test_the_timezone_of_the_current_celery_application_does_not_matter() -> None:
    def elsewhere() -> str:
        # Current in this thread only.
        app = Celery()
        app.conf.update(timezone="Asia/Tokyo")
        return next_run("daily", "2026-03-01 12:00")

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(elsewhere).result() == "2026-03-02 00:00:00"


def test_a_time_without_a_timezone_is_refused() -> None:
    with pytest.raises(ValueError, match="a time without a timezone"):
        parse("daily").next_run(datetime(2026, 3, 1))


# The next run in words


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("*/15 * * * *", "in 4 minutes (14:15)"),
        ("daily", "tomorrow at 00:00"),
        ("every 15 minutes", "within 15 minutes"),
        ("every minute", "within a minute"),
        ("every hour", "within an hour"),
        ("every week", "within a week"),
    ],
)
def test_the_next_run_in_words(value: str, words: str) -> None:
    assert parse(value).next_run_in_words(at("2026-03-01 14:11")) == words


@pytest.mark.parametrize(
    ("then", "words"),
    [
        ("2026-03-05 14:11:00", "now"),
        ("2026-03-05 14:11:01", "in 1 second"),
        ("2026-03-05 14:11:59", "in 59 seconds"),
        ("2026-03-05 14:12:00", "in 1 minute (14:12)"),
        ("2026-03-05 14:15:00", "in 4 minutes (14:15)"),
        ("2026-03-05 15:10:29", "in 59 minutes (15:10)"),
        ("2026-03-05 15:10:30", "today at 15:10"),
        ("2026-03-05 23:59:00", "today at 23:59"),
        ("2026-03-06 00:00:00", "tomorrow at 00:00"),
        ("2026-03-06 23:59:00", "tomorrow at 23:59"),
        ("2026-03-07 00:00:00", "Saturday at 00:00"),
        ("2026-03-11 23:59:00", "Wednesday at 23:59"),
        ("2026-03-12 00:00:00", "12 March at 00:00"),
        ("2026-12-31 03:30:00", "31 December at 03:30"),
        ("2027-01-01 00:00:00", "1 January 2027 at 00:00"),
        ("2026-03-05 14:10:00", "now"),
    ],
)
def test_a_time_in_words(then: str, words: str) -> None:
    assert in_words(at("2026-03-05 14:11"), at(then)) == words


@pytest.mark.parametrize(
    ("now", "then", "words"),
    [
        ("2026-03-05 23:58", "2026-03-06 00:08", "in 10 minutes (00:08)"),
        ("2026-12-31 12:00", "2027-01-01 12:00", "tomorrow at 12:00"),
        ("2026-12-31 12:00", "2027-01-03 12:00", "Sunday at 12:00"),
        ("2026-03-05 14:11:00.6", "2026-03-05 14:11:01", "now"),
        ("2026-03-05 14:11:00.4", "2026-03-05 14:11:01", "in 1 second"),
    ],
)
def test_words_near_an_end(now: str, then: str, words: str) -> None:
    assert in_words(at(now), at(then)) == words


def test_words_are_in_the_timezone_of_now() -> None:
    now = datetime(2026, 7, 1, 23, 30, tzinfo=BERLIN)
    assert in_words(now, at("2026-07-02 00:00")) == "tomorrow at 02:00"
    assert in_words(now, at("2026-07-01 22:00")) == "in 30 minutes (00:00)"


def test_words_count_the_time_that_passes_and_not_that_of_clocks() -> None:
    # The clocks go from 3:00 back to 2:00.
    now = datetime(2026, 10, 25, 2, 50, tzinfo=BERLIN)
    assert in_words(now, datetime(2026, 10, 25, 2, 10, tzinfo=BERLIN, fold=1)) == (
        "in 20 minutes (02:10)"
    )


@pytest.mark.parametrize("naive", [0, 1])
def test_words_need_timezones(naive: int) -> None:
    times = [at("2026-03-05 14:11"), at("2026-03-05 14:12")]
    times[naive] = times[naive].replace(tzinfo=None)
    with pytest.raises(ValueError, match="a time without a timezone"):
        in_words(*times)


# Celery agrees

CRONS = [
    "* * * * *",
    "*/15 * * * *",
    "7-59/13 * * * *",
    "50-10 * * * *",
    "0,1,58,59 */5 * * *",
    "0 0 * * *",
    "59 23 * * *",
    "*/7 2-5 * * mon",
    "30 9 * * mon-fri",
    "0 12 * * fri-sun",
    "0 12 * * saturday,tue",
    "0 0 * * */2",
    "0 0 1 * *",
    "15 10 28-31 * *",
    "0 0 31 * *",
    "0 0 31 1-12/2 *",
    "0 0 29 2 *",
    "0 0 29 february mon",
    "0 0 1-7 * mon",
    "*/20 1,13 */10 */5 *",
    "5 4 * sep-feb sun",
    "0 22-2/2 13 * fri",
]
TIMES = [
    "2026-01-01 00:00:00",
    "2026-02-28 23:59:59.999999",
    "2026-03-29 00:59:30",
    "2026-06-30 12:00:00.000001",
    "2026-10-25 00:45:00",
    "2026-12-31 23:59:00",
    "2028-02-28 10:15:00",
    "2028-02-29 00:00:00",
    "2030-11-05 04:20:59",
    "2099-12-31 23:58:01",
]
#: The application of a worker: its timezone is Celery's default.
APP = Celery("beat", set_as_current=False)


def beat_says(cron: str, *, last: datetime, now: datetime) -> tuple[bool, float]:
    """Whether beat runs a job at `now`, after a run at `last`; and seconds to its next look."""
    made = parse(cron).celery()
    made.nowfun = lambda: now  # type: ignore[attr-defined]
    entry = ScheduleEntry("q", "queues.q", last_run_at=last, schedule=made, app=APP)
    due, seconds = entry.is_due()
    return due, seconds


@pytest.mark.parametrize(("cron", "now"), [*itertools.product(CRONS, TIMES)])
def test_beat_runs_a_job_when_the_next_run_says_so(cron: str, now: str) -> None:
    last = at(now)
    then = parse(cron).next_run(last)
    assert then > last
    assert (then.second, then.microsecond) == (0, 0)
    assert beat_says(cron, last=last, now=last) == (False, (then - last).total_seconds())
    assert beat_says(cron, last=last, now=then - timedelta(microseconds=1))[0] is False
    due, seconds = beat_says(cron, last=last, now=then)
    assert due
    # And then looks again at the one after that.
    assert then + timedelta(seconds=seconds) == parse(cron).next_run(then)


@pytest.mark.parametrize("cron", CRONS)
def test_celery_reads_the_fields_as_we_do(cron: str) -> None:
    made = crontab.from_string(cron)
    fields: Any = (
        *(made.minute, made.hour),  # type: ignore[attr-defined]
        *(made.day_of_month, made.month_of_year, made.day_of_week),  # type: ignore[attr-defined]
    )
    assert _read_cron(cron) == list(fields)


@pytest.mark.parametrize(("cron", "now"), [*itertools.product(CRONS, TIMES)])
def test_the_next_run_is_in_the_fields_and_nothing_before_it_is(cron: str, now: str) -> None:
    minutes, hours, days, months, weekdays = _read_cron(cron)

    def runs_on(day: datetime) -> bool:
        return day.day in days and day.month in months and day.isoweekday() % 7 in weekdays

    last = at(now)
    times = sorted(itertools.product(hours, minutes))
    day = last.replace(hour=0, minute=0, second=0, microsecond=0)
    found = None
    while found is None:
        runs = (day.replace(hour=hour, minute=minute) for hour, minute in times)
        found = next((run for run in runs if run > last), None) if runs_on(day) else None
        day += timedelta(days=1)
    assert parse(cron).next_run(last) == found


@pytest.mark.parametrize("now", TIMES)
def test_beat_runs_an_interval_when_it_has_passed(now: str) -> None:
    last = at(now)
    then = parse("every 90 seconds").next_run(last)
    made = parse("every 90 seconds").celery()
    entry = ScheduleEntry("q", "queues.q", last_run_at=last, schedule=made, app=APP)
    for moment, expected in ((last, (False, 90)), (then, (True, 90))):
        made.nowfun = lambda moment=moment: moment  # type: ignore[attr-defined]
        assert tuple(entry.is_due()) == expected
