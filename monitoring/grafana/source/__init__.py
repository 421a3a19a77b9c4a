"""Grafana's dashboards as code: `python -m monitoring.grafana.source` writes their JSON."""
