"""Applications under test, by what is in their files."""

from importlib import import_module

ECHO = {"sockets/index.py": "async def handler(data): return {'echo': data}"}


ERRORS = {
    "sockets/index.py": """
from queue_run import ClientError

def handler(data):
    if data == "client":
        raise ClientError("say please")
    raise LookupError("a secret")
"""
}


JOBS = {
    "sockets/index.py": """
from queue_run import queues

async def handler(data):
    queues.get("mail").push({"to": data})
""",
    "queues/mail.py": """
from queue_run import queues, socket

async def handler(job, *, user, job_id, attempt):
    to, job["to"] = job["to"], "changed"
    await socket.send({"mailed": to, "attempt": attempt})
    await queues.get("log.all").push([job_id, user["id"]])
""",
    "queues/log/all.py": """
seen = []

def handler(job, *, user, queue_name):
    seen.append((job, user, queue_name))
    return seen
""",
}


HOOKS = {
    "sockets/index.py": """
def handler(data):
    return data
""",
    "sockets/_middleware.py": """
told = []

async def on_message_received(request):
    told.append(("received", request.data))
    if request.data == "bad":
        raise ValueError("received")

def on_message_sent(message):
    told.append(("sent", message.data))
    if message.data == "sink":
        raise ValueError("sent")

def on_error(error, request):
    told.append(("error", str(error)))
""",
    "queues/loud.py": """
from queue_run import socket

def handler(job):
    socket.to("ann").send(job)
""",
}


#: Jobs that say all they are given, in both flavours.
METADATA = {
    f"queues/{name}.py": f"""
from queue_run import Config

config = Config(fifo={fifo})

{define} handler(
    job, *, user, job_id, queue_name, queued_at, attempt, group_id, sequence_number, params, signal
):
    return {{**locals(), "signal": signal.is_set()}}
"""
    for name, fifo, define in [
        ("plain", False, "def"),
        ("awaited", False, "async def"),
        ("plain_lane", True, "def"),
        ("awaited_lane", True, "async def"),
    ]
}


#: One group after another, and what has run.
LANES = {
    "queues/account.py": """
from typing import TypedDict

from queue_run import Config, Queue

class Change(TypedDict):
    add: int

config = Config(fifo=True)
queue = Queue[Change](__name__)
ran = []

def handler(change: Change, *, group_id):
    ran.append((group_id, change["add"]))
""",
}


#: Jobs that tell their user how they end.
ENDS = {
    "sockets/index.py": """
from queue_run import queues

async def handler(data):
    match data:
        case {"push": payload}:
            return await queues.get("notified").push(payload)
        case {"cancel": job_id}:
            return {"cancelled": await queues.cancel(job_id)}
""",
    "queues/notified.py": """
import asyncio

from queue_run import ClientError, Config, queues, socket

config = Config(notify=True, retries=1)

async def handler(job: str, *, job_id, signal):
    match job:
        case "fail":
            raise LookupError("a secret")
        case "say":
            raise ClientError("no such report")
        case "cancel":
            assert await queues.cancel(job_id)
            assert signal.is_set()
        case "wait":
            await socket.send("waits")
            while not signal.is_set():
                await asyncio.sleep(0)
            raise InterruptedError
    return job
""",
    "queues/silent.py": "def handler(job): return job",
}


AUTHENTICATED = {
    "sockets/index.py": "def handler(user): return user",
    "sockets/_middleware.py": """
from queue_run import Refuse
from queue_run.process.context import expire_connection
from queue_run.errors import AskToken

def on_authenticate(request):
    if request.path == "/broken":
        raise LookupError("no database")
    token = request.bearer_token or request.cookies.get("token") or request.query.get("token")
    if token is None:
        raise AskToken
    if token == "wrong":
        raise Refuse(403, "not you")
    expire_connection(2e9)
    return {"id": token, "ip": request.remote_ip}
""",
}


def told() -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = import_module("sockets._middleware").told
    return found
