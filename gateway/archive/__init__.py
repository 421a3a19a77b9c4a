"""The way to the archive: new requests out of parsed values, answers streamed back."""
