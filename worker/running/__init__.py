"""Running handlers and jobs: on which loops and threads, and for how long."""
