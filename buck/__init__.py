"""The storage node: keeps what tailers send, as it came, and gives it to porters. All bucks are equal."""
