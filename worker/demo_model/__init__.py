"""The embedded model: a tiny Stable Diffusion trained from scratch on pictures this package draws."""
