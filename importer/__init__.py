"""Files of an inbox folder into the archive, each study under its clinic."""
