"""What `clinicpacs audit` does with the trail: exports, sign-ins beside it."""
