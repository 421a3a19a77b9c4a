"""The real servers that are measured, or measured against, each as a context manager."""
