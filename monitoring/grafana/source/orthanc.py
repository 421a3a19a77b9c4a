"""*Orthanc*: what the archive holds, how it grows, how it answers, and what is stored into it.

Only metrics that Orthanc 1.10 to 1.13 all have: 1.13 renamed those of finished jobs.
"""

from __future__ import annotations

from .dashboard import Dashboard, Row
from .panels import BAD, CALM, GOOD, WARN, bars, lines, query, stat


def dashboard() -> Dashboard:
    """The page."""
    return Dashboard(
        uid="clinicpacs-orthanc",
        title="Orthanc",
        description="The archive: what it holds, how it grows, how fast it answers.",
        time="now-24h",
        rows=[_now(), _storage(), _imports(), _answers()],
    )


def _now() -> Row:
    def count(title: str, description: str, metric: str) -> dict[str, object]:
        return stat(title, description, [query(f"max({metric})", instant=True)], size=(4, 4))

    return Row(
        "Now",
        [
            stat(
                "Orthanc",
                "Whether the archive answers Prometheus.",
                [query('max(up{job="orthanc"})', "Orthanc", instant=True)],
                up=True,
                size=(4, 4),
            ),
            count("Patients", "Patients in the archive, by PatientID.", "orthanc_count_patients"),
            count("Studies", "Studies in the archive.", "orthanc_count_studies"),
            count("Series", "Series in the archive.", "orthanc_count_series"),
            count("Instances", "Instances (images, reports ...) in the archive.", "orthanc_count_instances"),
            stat(
                "Stored",
                "Space that the archive's DICOM files take on the disk.",
                [query("max(orthanc_disk_size_mb)", instant=True)],
                unit="mbytes",
                size=(4, 4),
            ),
        ],
    )


def _storage() -> Row:
    real = 'fstype!~"tmpfs|overlay|squashfs|ramfs|nsfs|fuse.*"'
    free = f"max by (device) (node_filesystem_avail_bytes{{{real}}})"
    return Row(
        "Studies and storage",
        [
            lines(
                "Studies",
                "Studies in the archive over time.",
                [query("max(orthanc_count_studies)", "studies")],
                size=(8, 8),
            ),
            lines(
                "New instances",
                "Instances that came in, less those deleted, in each hour.",
                [query("max(delta(orthanc_count_instances[1h]))", "an hour")],
                size=(8, 8),
            ),
            lines(
                "Storage",
                "Space that the DICOM files take on the disk, and would take uncompressed.",
                [
                    query("max(orthanc_disk_size_mb)", "on the disk"),
                    query("max(orthanc_uncompressed_size_mb)", "uncompressed"),
                ],
                unit="mbytes",
                size=(8, 8),
            ),
            bars(
                "Free space",
                "Space that is left on each disk of the machine; the archive stores on one of them.",
                [query(free, "{{device}}", instant=True)],
                unit="bytes",
                steps=[(0, BAD), (50e9, WARN), (200e9, GOOD)],
                size=(12, 7),
            ),
            lines(
                "Growth",
                "Space that the archive has taken in the 24 hours before each moment.",
                [query("max(delta(orthanc_disk_size_mb[24h]))", "in 24 hours")],
                unit="mbytes",
                size=(12, 7),
            ),
        ],
    )


def _imports() -> Row:
    return Row(
        "Imports",
        [
            lines(
                "Stored by the importer",
                "Files a minute that the archive has confirmed, of all clinics.",
                [query('60 * sum(rate(importer_files_total{outcome="stored"}[$__rate_interval]))', "stored")],
                unit="cpm",
                size=(8, 8),
            ),
            lines(
                "Waiting for the archive",
                "Files in the inbox, and those that the archive does not take although it takes others.",
                [
                    query("sum(importer_waiting_files)", "waiting"),
                    query("sum(importer_stuck_files)", "stuck"),
                ],
                size=(8, 8),
            ),
            lines(
                "Time to store an instance",
                "The longest that Orthanc took to store one instance, of the last ten seconds before"
                " each moment.",
                [query("max(orthanc_store_dicom_duration_ms)", "store")],
                unit="ms",
                no_value="nothing stored since Orthanc started",
                size=(8, 8),
            ),
        ],
    )


def _answers() -> Row:
    return Row(
        "Answers",
        [
            lines(
                "Longest answer",
                "The slowest answer of Orthanc's HTTP server, of the last ten seconds before each moment.",
                [query("max(orthanc_rest_api_duration_ms)", "slowest")],
                unit="ms",
                size=(8, 8),
            ),
            lines(
                "Requests at once",
                "The most requests that Orthanc worked on at the same time; it has 32 threads for them.",
                [query("max(orthanc_rest_api_active_requests)", "requests")],
                steps=[(0, CALM), (32, BAD)],
                size=(8, 8),
            ),
            lines(
                "Jobs",
                "Orthanc's own jobs (archives to download, modifications): running, and waiting for"
                " their turn.",
                [
                    query("max(orthanc_jobs_running)", "running"),
                    query("max(orthanc_jobs_pending)", "waiting"),
                ],
                size=(8, 8),
            ),
        ],
    )
