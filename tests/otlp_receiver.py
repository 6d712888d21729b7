"""A collector: takes OTLP over HTTP and gRPC, decodes the protobuf, and can be slow, silent or unwilling."""

from __future__ import annotations

import gzip
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

import grpc  # type: ignore[import-untyped] # it has no types
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import TracebackType

    from opentelemetry.proto.common.v1.common_pb2 import KeyValue
    from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
    from opentelemetry.proto.trace.v1.trace_pb2 import Span

WAIT_SECONDS = 15.0


def attributes_of(pairs: Iterable[KeyValue]) -> dict[str, Any]:
    """Return attributes as a dict."""
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value") or "string_value") for pair in pairs}


@dataclass
class Pushed:
    """One request with metrics."""

    metrics: dict[str, Metric] = field(default_factory=dict)
    resources: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By metric."""

    @property
    def resource(self) -> dict[str, Any]:
        """The ledger's."""
        return self.resources["sqs.events"]

    def points(self, name: str, label: str) -> dict[str, tuple[float, int]]:
        """Return value and start time (Unix, in 1e-9 s) of a sum's points, by one of their attributes."""
        found = {}
        for point in self.metrics[name].sum.data_points if name in self.metrics else ():
            value = point.as_int if point.HasField("as_int") else point.as_double
            found[attributes_of(point.attributes)[label]] = (value, point.start_time_unix_nano)
        return found

    def attribute_names(self) -> set[str]:
        """Return the names of all attributes of all points."""
        names: set[str] = set()
        for metric in self.metrics.values():
            data = getattr(metric, metric.WhichOneof("data") or "sum")
            for point in data.data_points:
                names |= attributes_of(point.attributes).keys()
        return names


@dataclass
class OtlpReceiver:
    """A context manager. `protocol` is OTEL_EXPORTER_OTLP_PROTOCOL's; `environment` makes a program push here.

    While `silent` it takes requests and answers none; `status` is what it answers over HTTP.
    """

    protocol: str = "http/protobuf"
    silent: bool = False
    status: int = 200
    pushed: list[Pushed] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    span_resources: list[dict[str, Any]] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)
    """In lower case, of each request."""
    requests: int = 0
    paths: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._arrived = threading.Condition()
        self._closing = threading.Event()

    @property
    def environment(self) -> dict[str, str]:
        """What makes a program push here."""
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self.port}",
            "OTEL_EXPORTER_OTLP_PROTOCOL": self.protocol,
            "OTEL_METRIC_EXPORT_INTERVAL": "100",
            "OTEL_BSP_SCHEDULE_DELAY": "50",
            "no_grpc_proxy": "127.0.0.1",
        }

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait until it holds; looked at after each request."""
        with self._arrived:
            assert self._arrived.wait_for(condition, WAIT_SECONDS), (self.requests, [span.name for span in self.spans])

    def wait_for_span(self, name: str, fits: Callable[[Span], bool] = lambda _: True) -> Span:
        """Wait for the first span of that name that fits."""
        self.wait_for(lambda: any(span.name == name and fits(span) for span in self.spans))
        return next(span for span in self.spans if span.name == name and fits(span))

    def wait_for_push(self, fits: Callable[[Pushed], bool] = lambda _: True, after: int = 0) -> Pushed:
        """Wait for the first push that fits, of those after the first `after`."""
        self.wait_for(lambda: any(map(fits, self.pushed[after:])))
        return next(push for push in self.pushed[after:] if fits(push))

    def take(self, body: bytes, path: str, headers: Mapping[str, str]) -> None:
        """Take in one request."""
        with self._arrived:
            self.requests += 1
            self.paths.add(path)
            self.headers.append(headers)
            if not self.silent and self.status == 200:
                self._decode(body, metrics="metrics" in path.lower())
            self._arrived.notify_all()
        if self.silent:
            self._closing.wait()

    def _decode(self, body: bytes, *, metrics: bool) -> None:
        if metrics:
            push = Pushed()
            for resource in metrics_service_pb2.ExportMetricsServiceRequest.FromString(body).resource_metrics:
                found = {metric.name: metric for scope in resource.scope_metrics for metric in scope.metrics}
                assert not push.metrics.keys() & found.keys()
                push.metrics |= found
                push.resources |= dict.fromkeys(found, attributes_of(resource.resource.attributes))
            self.pushed.append(push)
            return
        for traced in trace_service_pb2.ExportTraceServiceRequest.FromString(body).resource_spans:
            for scope in traced.scope_spans:
                self.spans += scope.spans
                self.span_resources += [attributes_of(traced.resource.attributes)] * len(scope.spans)

    def __enter__(self) -> Self:
        self._stop = self._serve_grpc() if self.protocol == "grpc" else self._serve_http()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._closing.set()
        self._stop()

    def _serve_http(self) -> Callable[[], None]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers["Content-Encoding"] == "gzip":
                    body = gzip.decompress(body)
                receiver.take(body, self.path, {name.lower(): value for name, value in self.headers.items()})
                try:
                    self.send_response(receiver.status)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                except OSError:
                    self.close_connection = True

            def log_message(self, *_: object) -> None:
                """Keep the test's output clean."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False

            def handle_error(self, *_: object) -> None:
                """Killed programs reset their connections."""

        server = Server(("127.0.0.1", 0), Handler)
        self.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()

        def stop() -> None:
            server.shutdown()
            thread.join()
            server.server_close()

        return stop

    def _serve_grpc(self) -> Callable[[], None]:
        receiver = self

        class Metrics(metrics_service_pb2_grpc.MetricsServiceServicer):
            def Export(self, request: Any, context: Any) -> Any:  # noqa: ANN401, N802 - gRPC's
                receiver.take(request.SerializeToString(), "metrics", dict(context.invocation_metadata()))
                return metrics_service_pb2.ExportMetricsServiceResponse()

        class Traces(trace_service_pb2_grpc.TraceServiceServicer):
            def Export(self, request: Any, context: Any) -> Any:  # noqa: ANN401, N802 - gRPC's
                receiver.take(request.SerializeToString(), "traces", dict(context.invocation_metadata()))
                return trace_service_pb2.ExportTraceServiceResponse()

        server = grpc.server(ThreadPoolExecutor(max_workers=4))
        metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(Metrics(), server)  # type: ignore[no-untyped-call]
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Traces(), server)  # type: ignore[no-untyped-call]
        self.port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        return lambda: server.stop(None).wait()
