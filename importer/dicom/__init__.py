"""Files as DICOM has them: read to their end without trusting them, and the clinic written in."""
