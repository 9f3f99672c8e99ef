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


AUTHENTICATED = {
    "sockets/index.py": "def handler(user): return user",
    "sockets/_middleware.py": """
from queue_run import Refuse
from queue_run.context import expire_connection
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
