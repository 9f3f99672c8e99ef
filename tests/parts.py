"""Parts that a machine may lack: a test without them is skipped here, and fails in CI."""

import os

import pytest

REQUIRE_ALL = os.environ.get("QUEUE_RUN_TEST_REQUIRE_ALL") == "1"


def require(part: object, what: str) -> None:
    """Skip the test without the part; fail it where nothing may be skipped."""
    if part:
        return
    if REQUIRE_ALL:
        pytest.fail(f"{what} is missing, and QUEUE_RUN_TEST_REQUIRE_ALL=1 asks for all parts")
    pytest.skip(f"{what} is missing")
