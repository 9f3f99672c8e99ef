"""What surrounds each call of the application: its thread, and the connections of its framework."""
