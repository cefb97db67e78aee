"""The calibration report as one HTML page."""
