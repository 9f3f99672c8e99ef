"""Starts a report: {"start": "report", "pages": 10}. The job in queues/report.py writes it."""

from queue_run import ClientError, queues


async def handler(data: object, user: dict[str, str] | None) -> object:
    if user is None:
        raise ClientError("a report needs your name: connect to /reports?user=ann")
    match data:
        case {"start": "report", "pages": int(pages)} if 1 <= pages <= 100:
            job_id = await queues.get("report").push({"pages": pages})
            return {"job": job_id, "pages": pages}
    raise ClientError('send {"start": "report", "pages": 10}, with 1 to 100 pages')
