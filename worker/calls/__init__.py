"""The surroundings of each call of the application: its thread, its framework's connections."""
