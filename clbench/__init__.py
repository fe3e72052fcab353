"""clbench: measures what effect LoRAs, their cascades and their distilled collections really do."""

__version__ = "0.1.0"
