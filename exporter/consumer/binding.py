"""What a queue is tied to: the queue in SQS, as housekeeping finds it, and its rows in the ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.errors import LedgerError, WrongSettingError
from exporter.ledger import QueueIdentity

if TYPE_CHECKING:
    from exporter.consumer.options import QueueOptions
    from exporter.consumer.recorder import Recorder
    from exporter.sqs import QueueAttributes, QueueState, Target
    from exporter.telemetry.readiness import QueueReadiness


class Binding:
    """Whether a queue can be received from, and what its requests need for that.

    A queue that is `named` was asked for by its name; the others match a prefix, and one of them that can't be
    consumed stops no other.
    """

    def __init__(
        self, name: str, *, named: bool, options: QueueOptions, recorder: Recorder, readiness: QueueReadiness
    ) -> None:
        self._name = name
        self._named = named
        self._options = options
        self._recorder = recorder
        self._readiness = readiness
        self._gone = False
        self.target: Target | None = None
        """Where its requests go; None: it is not found yet."""
        self.attributes: QueueAttributes | None = None
        """None: they are not known yet, or don't fit the settings."""
        self.visibility_timeout_seconds = float("inf")
        """What its receives ask for; infinity while the attributes are not known."""
        self.leaves_invalid = options.on_invalid == "leave"
        """Whether messages that are no events are left to the queue's redrive policy."""
        self.bound = False
        """Whether the ledger has taken the queue up."""

    def follow(self, state: QueueState) -> None:
        """Take over what housekeeping knows now. Raises WrongSettingError and LedgerError for a queue named."""
        self.target = state.target
        self._gone = state.gone
        self._readiness.gone = self.left
        if state.problem is None:
            self._readiness.clear("queue")
        else:
            self._readiness.set("queue", str(state.problem))
        if state.attributes is not None and state.attributes != self.attributes:
            self._take_attributes(state.attributes)

    @property
    def left(self) -> bool:
        """Whether a prefix found it once, and it is gone: it has nothing more to give."""
        return self._gone and not self._named

    @property
    def ready_to_receive(self) -> bool:
        """Whether the queue is known and the ledger has taken it up. Raises LedgerError for a queue named."""
        if self.target is None or self._gone:
            return False
        if self.bound:
            return True
        if self.attributes is None:
            return False
        try:
            self.bound = self._recorder.bound(self._name)
        except LedgerError as error:
            if self._named:
                raise
            self._readiness.set("ledger", str(error))
        else:
            self._readiness.clear("ledger")
        return self.bound

    def _take_attributes(self, attributes: QueueAttributes) -> None:
        first = self.attributes is None
        has_no_redrive_policy = attributes.dead_letter_queue_arn is None and not attributes.assumed
        if first and self._options.on_invalid == "leave" and has_no_redrive_policy:
            wrong = WrongSettingError(
                f"--sqs.on-invalid is leave, but queue {attributes.name} has no redrive policy that would ever take "
                f"the messages away: use delete or auto, or give the queue a dead-letter queue",
            )
            if self._named:
                raise wrong
            self._readiness.set("redrive", str(wrong))
            return
        self._readiness.clear("redrive")
        self._recorder.bind(
            QueueIdentity(
                attributes.name,
                attributes.arn,
                attributes.visibility_timeout_seconds,
                attributes.retention_seconds,
                event_ids=self._options.event_ids,
            )
        )
        self.attributes = attributes
        self.visibility_timeout_seconds = attributes.visibility_timeout_seconds
        if self._options.on_invalid == "auto":
            self.leaves_invalid = attributes.dead_letter_queue_arn is not None
