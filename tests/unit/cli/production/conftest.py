"""The real small programs of the supervisor's tests, here too."""

from tests.unit.cli.supervision.conftest import groups, program, recorder, supervisor

__all__ = ["groups", "program", "recorder", "supervisor"]
