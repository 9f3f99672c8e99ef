"""The runtime of one process, and the user for whom its code acts."""
