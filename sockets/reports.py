"""Starts a report: {"start": "report", "pages": 10}. The job in queues/report.py writes it.

{"cancel": "<the job's id>"} stops it.
"""

from queue_run import ClientError, queues
from queues.report import queue


async def handler(data: object, user: dict[str, str] | None) -> object:
    if user is None:
        raise ClientError("a report needs your name: connect to /reports?user=ann")
    match data:
        case {"start": "report", "pages": int(pages)} if 1 <= pages <= 100:
            job_id = await queue.push({"pages": pages})
            return {"job": job_id, "pages": pages}
        case {"cancel": str(job_id)}:
            # The demo lets everybody cancel any job. A real application looks whose it is.
            await queues.cancel(job_id)
            return None
    raise ClientError('send {"start": "report", "pages": 10}, with 1 to 100 pages')
