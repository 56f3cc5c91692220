"""The agent: from a growing file to packets that enough bucks hold."""
