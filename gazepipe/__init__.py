"""gazepipe: small, fast gaze-estimation networks, and tables that prove how well they still see."""

__version__ = "0.1.0"
