"""/metrics, /-/healthy, /-/ready and the landing page, over plain HTTP or TLS."""

from exporter.web.landing import LandingPage
from exporter.web.server import WebServer

__all__ = ["LandingPage", "WebServer"]
