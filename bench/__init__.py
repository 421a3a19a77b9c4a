"""Measurements, for people and for comparison from version to version; no test asserts a time.

`figures` says what a measurement is, `rounds` how it is taken, `servers` what is started for it; `parts` are
the measurements themselves, and `report` and `plots` make `docs/BENCHMARKS.md` of their results.
"""
