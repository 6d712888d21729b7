"""Makes span links from the trace contexts that producers put into messages.

W3C's https://www.w3.org/TR/trace-context/ in message attributes, and X-Ray's in AWSTraceHeader:
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-message-metadata.html
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from opentelemetry.trace import Link, SpanContext, TraceFlags, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from exporter.telemetry.otlp import names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exporter.sqs.answers import Message, Received

MAX_HEADER_CHARACTERS = 512

_w3c = TraceContextTextMapPropagator()
_xray_root = re.compile(r"(?:^|;)\s*Root=1-([0-9a-f]{8})-([0-9a-f]{24})(?:;|$)").search
_xray_parent = re.compile(r"(?:^|;)\s*Parent=([0-9a-f]{16})(?:;|$)").search
_xray_sampled = re.compile(r"(?:^|;)\s*Sampled=1(?:;|$)").search


def links_to_producers(received: Sequence[Received], most: int) -> list[Link]:
    """Return a link for each context that the messages name, at most `most`; those of a batch often share one.

    A link says which message it is for, or for how many.
    """
    named: dict[tuple[str | None, str | None, str | None], list[Message]] = {}
    for answer in received:
        for message in answer.messages:
            if message.trace_parent or message.aws_trace_header:
                key = message.trace_parent, message.trace_state, message.aws_trace_header
                named.setdefault(key, []).append(message)
    links: list[Link] = []
    for (trace_parent, trace_state, aws_trace_header), messages in named.items():
        if len(links) >= most:
            break
        context = _from_w3c(trace_parent, trace_state) or _from_xray(aws_trace_header)
        if context is not None:
            count = len(messages)
            attributes = {names.MESSAGE_ID: messages[0].message_id} if count == 1 else {names.BATCH_COUNT: count}
            links.append(Link(context, attributes))
    return links


def _from_w3c(trace_parent: str | None, trace_state: str | None) -> SpanContext | None:
    if not trace_parent or max(len(trace_parent), len(trace_state or "")) > MAX_HEADER_CHARACTERS:
        return None
    carrier = {"traceparent": trace_parent, "tracestate": trace_state or ""}
    context = get_current_span(_w3c.extract(carrier)).get_span_context()
    return context if context.is_valid else None


def _from_xray(header: str | None) -> SpanContext | None:
    if not header or len(header) > MAX_HEADER_CHARACTERS:
        return None
    root, parent = _xray_root(header), _xray_parent(header)
    if root is None or parent is None:
        return None
    context = SpanContext(
        int(root[1] + root[2], 16),
        int(parent[1], 16),
        is_remote=True,
        trace_flags=TraceFlags(TraceFlags.SAMPLED if _xray_sampled(header) else TraceFlags.DEFAULT),
    )
    return context if context.is_valid else None
