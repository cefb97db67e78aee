"""The parts of `enrichment.calibration.lived`: what a replay's changes came to, beside rules that need no model."""
