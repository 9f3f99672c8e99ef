"""What all sides agree on. Pure: no input, no output."""
