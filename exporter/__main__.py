"""Makes `python -m exporter` the same as `sqs-event-exporter`."""

import sys

from exporter.cli.main import main

sys.exit(main())
