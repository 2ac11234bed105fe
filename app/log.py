"""One line per event on stderr, where journald adds time and unit."""

import logging


def configure() -> None:
    """Send our own events from INFO on; libraries speak from WARNING on."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s %(message)s")
    logging.getLogger("app").setLevel(logging.INFO)
