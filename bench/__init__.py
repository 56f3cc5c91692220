"""The harness: real processes, real logs, figures with the command that made them."""
