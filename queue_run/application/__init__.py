"""What the files of an application say: their settings, schedules and types."""
