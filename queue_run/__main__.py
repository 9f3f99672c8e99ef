"""`python -m queue_run` is the command `queue-run`."""

from queue_run.cli import main

if __name__ == "__main__":
    main(prog_name="queue-run")
