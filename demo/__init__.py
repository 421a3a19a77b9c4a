"""The whole platform on one machine, without any server. Not for patients' data."""
