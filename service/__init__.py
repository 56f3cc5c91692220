"""What every process needs that is no protocol: machine, settings, running, logging, counting, a web page."""
