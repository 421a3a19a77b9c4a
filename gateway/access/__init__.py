"""What a caller may see, as the catalog says at the time of the request."""
