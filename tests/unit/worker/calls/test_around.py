from worker.calls.around import Around


def test_an_application_without_a_framework_has_nothing_done_around_its_calls() -> None:
    around = Around()
    assert around.idle
    with around.call(), around.task():
        pass
    # The same blocks serve every call.
    assert around.call() is around.task()
    around.leave()
    around.limit_threads(1)
    around.end()
