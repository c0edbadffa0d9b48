"""The views: each is one way to state a problem, and an abstract class that a problem inherits."""
