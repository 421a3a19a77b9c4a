"""From a batch to the archive: sent, its answer judged, and patience with whoever is away."""
