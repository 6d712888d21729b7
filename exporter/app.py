"""Builds the parts in the order data flows, starts them, and stops them in the order written here."""

from __future__ import annotations

import logging
import os
import signal
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from exporter import __version__, demo, logs
from exporter.consumer import Consumer
from exporter.instrumentation import Instrumentation
from exporter.ledger.sqlite import SqliteLedger
from exporter.metrics import Health, LedgerCollector
from exporter.readiness import Readiness
from exporter.recorder import Recorder
from exporter.sqs.calls import Calls
from exporter.sqs.queue import Housekeeping, make_client, queue_name_of
from exporter.summary import Summary
from exporter.web import LandingPage, WebServer
from exporter.web_config import read_web_config

if TYPE_CHECKING:
    from types import FrameType

    from mypy_boto3_sqs import SQSClient

    from exporter.settings import RunSettings

log = logging.getLogger("exporter")
