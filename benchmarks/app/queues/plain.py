"""A job that does nothing."""


def handler(job: object) -> None:
    pass
