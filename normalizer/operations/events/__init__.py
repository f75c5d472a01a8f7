"""Events: what a backend is told once work has ended, at least once, and never with a patient's datum."""

from normalizer.operations.events.dispatcher import Dispatcher
from normalizer.operations.events.senders import Sender, StreamSender
from normalizer.operations.events.webhook import Webhook, webhook_of

__all__ = ["Dispatcher", "Sender", "StreamSender", "Webhook", "webhook_of"]
