"""Procedural pictures with captions: what the demo model is trained on, and all it knows."""
