"""Searching (QIDO-RS, PS3.18 section 10.6): parsed into typed queries, answered from the catalog.

`parameters` and `values` read a URL's query, `studies` makes a `StudyQuery` of it, `search` puts that to the
catalog within a caller's scope, in conditions of `sql` and by the indexes of `narrow`; `answer` writes DICOM
JSON, `relay` passes searches within one study on to the archive.
"""
