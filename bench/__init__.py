"""Measurements, for people; no test asserts a time."""
