"""iShowTTS Lab: the same text through two engine configurations, side by side."""

__version__ = "0.1.0"
