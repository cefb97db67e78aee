"""The calibration report as a page."""
