"""The parts that all commands share: their environment, their errors, and text for terminals."""
