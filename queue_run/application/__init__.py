"""The settings, schedules and types that the files of an application declare."""
