"""The commands, one module a topic; each is imported when it is run."""
