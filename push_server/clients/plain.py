"""The plain protocol, which any WebSocket client speaks."""

from push_server.rfc6455.frames import BINARY, TEXT, frame
from queue_run.contracts.envelopes import Inbound, Outcome
from queue_run.contracts.ids import RequestId
from queue_run.contracts.messages import Form, Message, error_message


def inbound(request: RequestId, data: str | bytes) -> Inbound:
    """The request that a client's frame makes."""
    if isinstance(data, str):
        return Inbound(id=request, text=data)
    return Inbound(id=request, binary=data)


def message_frame(message: Message) -> bytes:
    """A message as the client gets it."""
    return frame(BINARY if message.form is Form.BINARY else TEXT, message.data)


class Plain:
    """The plain protocol of a connection. It has no state, so all connections share one object."""

    def message(self, message: Message) -> bytes:
        """A message that goes to this connection alone."""
        return message_frame(message)

    def outcome(self, outcome: Outcome) -> bytes | None:
        """The frame that answers a request; None when the handler returned nothing."""
        if outcome.error is not None:
            return self.error(outcome.request, outcome.error)
        return message_frame(outcome.reply) if outcome.reply is not None else None

    def refusal(self, text: str) -> bytes:
        """An error message that belongs to no request."""
        return message_frame(error_message(text))

    def error(self, request: RequestId, text: str) -> bytes:
        """The error message that answers a request which has failed."""
        return message_frame(error_message(text))


PLAIN = Plain()
